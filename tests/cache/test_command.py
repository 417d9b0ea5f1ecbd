"""`distill cache` as a user meets it, and what a cache is to the fingerprint of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli import main
from distill.config import compose, fingerprint, resolved
from distill.fit import identity

TINY = ["teacher.digits_cnn.checkpoint=built", "trainer.accelerator=cpu", "quiet=true"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "distill"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_cache__fills_once_and_lists(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", *TINY]) == 0
    out, err = capsys.readouterr()
    assert "1,080 answers" in out
    assert "1,080 computed" in out
    assert "note: teacher cache of 1,797 samples x 9 views: 0.00 GB in" in err
    assert "1,080 of 1,080" in err
    assert main(["cache", *TINY, "dataset.val_fraction=0"]) == 0
    assert ", 0 computed" not in capsys.readouterr().out
    assert main(["cache", *TINY, "seeds=7"]) == 0
    out, err = capsys.readouterr()
    assert "; 0 computed" in out
    assert "note" not in err
    assert main(["cache", *TINY, "cache.views=2", "seeds=2"]) == 0
    assert capsys.readouterr().out.count("240 answers") == 2
    code = "import sys; from distill.cli import main; main(['cache', '--list']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 teacher caches" in done.stdout
    assert "1,797 samples x 9 views of CropFlip(flip=False, padding=1), mixed by none, all views" in done.stdout


@pytest.mark.slow
def test_cache__trains_the_teacher_first(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["trainer.accelerator=cpu", "quiet=true", "trainer.max_epochs=1"]
    assert main(["cache", *typed]) == 0
    assert "1,080 computed" in capsys.readouterr().out
    assert main(["check", *typed]) == 0
    assert "teacher digits_cnn: digits_cnn, 1 epochs, complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    "typed, words",
    [
        (["cache=off"], "cache=off: there is nothing to compute"),
        (["teacher=[]", "loss=[ce]"], "teacher=[]: there is nobody to ask"),
        (["cache.views=0"], "cache.views=0: must be all, or a number of views of at least 1"),
        (["cache.dtype=float8"], "cache.dtype=float8"),
        (["cache.vews=3"], "did you mean cache.views?"),
        (["cache.limit_gb=0.00001"], "cache.limit_gb=1e-05: a teacher cache of 1,797 samples x 9 views"),
        (["loss=[ce,kd,fitnet]", "loss.fitnet.teacher_tap=stage1"], "tap 'stage1' is"),
    ],
)
@pytest.mark.slow
def test_cache__refuses(here: Path, typed: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "trainer.accelerator=cpu", *([] if "teacher=[]" in typed else TINY), *typed]) == 2
    assert words in capsys.readouterr().err
    assert not (here / "distill" / "teachers").exists()


def test_train__keys_of_a_cache_that_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "cache.views=3"]) == 2
    assert "choose another first: cache=off, cache=on" in capsys.readouterr().err
    assert main(["check", "+cache.views=3"]) == 2
    assert "must be a node of conf/cache" in capsys.readouterr().err


def test_identity__has_what_is_kept_and_not_where() -> None:
    def name(*typed: str) -> str:
        return fingerprint(identity(resolved(compose(list(typed)))))

    off, on = name(), name("cache=on")
    before = resolved(compose())
    del before["cache"]
    assert fingerprint(identity(before)) == off  # runs from before there were caches are still found
    assert off != on
    assert on == name("cache=on", "cache.folder=x", "cache.limit_gb=3", "cache.fill=ahead")
    assert len({on, *(name("cache=on", f"cache.{key}") for key in ("views=3", "dtype=float32", "top_k=2"))}) == 4
    assert name("cache=on", "teacher=[]") == name("teacher=[]")
