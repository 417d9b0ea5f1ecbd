"""What was trained can be loaded and evaluated again, and gives the numbers of its record."""

import csv
import json
from pathlib import Path

import pytest
import torch

from distill.cli import main
from distill.comparison import run
from distill.config import ConfigError, compose
from distill.fit import LAST, STUDENT, fit, folder_of
from distill.records import RESULT, read_json
from distill.results import Result
from distill.trained import load

FAST = ["trainer.max_epochs=6", "trainer.accelerator=cpu", "dataset.train_size=300", "quiet=true"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("runs")
    return run(compose([*FAST, f"out={out}", "alone=false", "seeds=1", "student.width=6"]))


def folder(trained: Result) -> Path:
    return Path(trained.folders["distilled"][0])


def test_load__a_run_folder_gives_the_scores_of_its_record(trained: Result) -> None:
    record = trained.arms["distilled"][0]
    found = load(folder(trained)).evaluate()
    assert found.pop("by_class") == pytest.approx(record["test"]["by_class"])
    assert found == pytest.approx({k: v for k, v in record["test"].items() if k != "by_class"})
    assert found["samples"] == 597
    assert 0 < found["agreement"] < 100


def test_load__the_last_checkpoint_is_the_last_epoch(trained: Result) -> None:
    record = trained.arms["distilled"][0]
    loaded = load(folder(trained) / LAST)
    assert loaded.evaluate()["accuracy"] == pytest.approx(record["accuracy"]["last"])
    assert loaded.evaluate("val")["accuracy"] == pytest.approx(record["history"][-1]["val/accuracy"])


def test_load__a_checkpoint_far_from_its_folder_brings_its_config(trained: Result, tmp_path: Path) -> None:
    elsewhere = tmp_path / "some.ckpt"
    elsewhere.write_bytes((folder(trained) / LAST).read_bytes())
    loaded = load(elsewhere)
    assert loaded.record is None
    assert loaded.config["student"]["width"] == 6
    assert torch.equal(loaded.predict()[0], load(folder(trained) / LAST).predict()[0])


def test_load__weights_of_no_run_need_a_student(trained: Result, tmp_path: Path) -> None:
    elsewhere = tmp_path / "w.safetensors"
    elsewhere.write_bytes((folder(trained) / STUDENT).read_bytes())
    loaded = load(elsewhere, ["student.width=6"])
    assert torch.equal(loaded.predict()[0], load(folder(trained)).predict()[0])
    with pytest.raises(ConfigError, match="does not fit DigitsCNN"):
        load(elsewhere)


def test_load__other_data_are_seen_with_the_mean_of_the_training(trained: Result) -> None:
    loaded = load(folder(trained), ["dataset=synthetic", "dataset.channels=1", "dataset.image_size=[8,8]"])
    assert type(loaded.data).__name__ == "Synthetic"
    assert loaded.config["dataset"]["mean"] == [0.3053]
    assert len(loaded.predict()[1]) == loaded.config["dataset"]["samples"] // 2
    assert load(folder(trained), ["dataset.eval_batch_size=7"]).evaluate() == load(folder(trained)).evaluate()


def test_load__a_run_that_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of a finished run, it has no result.json"):
        load(tmp_path)
    (tmp_path / RESULT).write_text(json.dumps({"status": "interrupted", "config": {}}))
    with pytest.raises(ConfigError, match="its training is interrupted"):
        load(tmp_path)


def test_eval__prints_the_scores(trained: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(folder(trained)), "--split", "val", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    best = max(row["val/accuracy"] for row in trained.arms["distilled"][0]["history"])
    assert (found["split"], found["samples"], found["accuracy"]) == ("val", 75, pytest.approx(best))
    assert main(["eval", str(folder(trained))]) == 0
    out = capsys.readouterr().out
    assert f"{trained.arms['distilled'][0]['test']['accuracy']:.2f} %" in out


@pytest.mark.parametrize(
    "typed, words",
    [
        (["nowhere"], ["nowhere", "does not exist"]),
        (["RUN", "dataset=digitz"], ["dataset=digitz", "digits"]),
        (["RUN", "dataset.eval_batch=3"], ["dataset.eval_batch=3", "did you mean dataset.eval_batch_size?"]),
        (["RUN", "dataset=cifar10"], ["cannot process images of 3x32x32"]),
        (["RUN", "student.width=5"], ["student", "does not fit"]),
        (["RUN", "dataset.num_classes=5", "dataset.class_subset=5"], ["gives 10 classes", "dataset.num_classes=5"]),
    ],
)
def test_eval__mistakes(
    typed: list[str], words: list[str], trained: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *(str(folder(trained)) if word == "RUN" else word for word in typed)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    head, *sentences = err.strip().splitlines()
    assert head == "1 mistake, nothing was evaluated:"
    assert len(sentences) == 1
    assert all(word in sentences[0] for word in words), sentences


def test_load__weights_beside_the_best_accuracy_so_far(tmp_path: Path, trained: Result) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "public.pth"
    torch.save({"model": load_file(folder(trained) / STUDENT), "best_acc": torch.tensor(69.1), "epoch": 240}, path)
    assert torch.equal(load(path, ["student.width=6"]).predict()[0], load(folder(trained)).predict()[0])


def test_distill__its_functions_stay_functions() -> None:
    import distill

    for name in distill.__all__:
        assert callable(getattr(distill, name))
        assert not (Path(distill.__file__).parent / f"{name}.py").exists()


def test_load__a_teacher_is_a_run_like_any_other(trained: Result) -> None:
    (record,) = trained.teachers.values()
    assert load(folder_of(record["config"])).evaluate()["accuracy"] == pytest.approx(record["test"]["accuracy"])
    assert fit(record["config"], [], "again") == read_json(folder_of(record["config"]) / RESULT)


def test_table__runs_has_one_line_a_training(trained: Result, tmp_path: Path) -> None:
    (record,) = trained.arms["distilled"]
    (teacher,) = trained.teachers.values()
    job = tmp_path / "job"
    job.mkdir()
    trained.save(job)
    assert main(["table", str(job), "--runs", str(tmp_path / "runs.csv")]) == 0
    with (tmp_path / "runs.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["arm"], first["fingerprint"]) == ("teacher", teacher["fingerprint"])
    assert (second["arm"], second["fingerprint"], second["seed"]) == ("distilled", record["fingerprint"], "0")
    assert float(second["val_chosen"]) == record["accuracy"]["val_chosen"]
    assert float(second["agreement"]) == record["test"]["agreement"]
