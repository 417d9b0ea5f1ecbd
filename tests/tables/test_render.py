"""What is rendered of a declared table: README, LaTeX, CSV and pictures."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from distill.tables.render import render
from distill.tables.render.by_class import difficulty, gains
from distill.tables.render.latex import escape, latex
from distill.tables.render.leaderboard import leaderboard
from distill.tables.render.markdown import markdown
from distill.tables.render.pictures import _beside, _kinds_of_cost, _panels, pareto
from distill.tables.render.text import delta, duration, gain, ours
from distill.tables.render.trajectories import Trajectories
from distill.tables.render.values import values
from distill.tables.results import Epoch
from distill.tables.spec import Line, Published, Source
from distill.tables.statistics import Paired, score
from tests.tables.example import EVIL, ROWS, entry, example, table

A, B = "r56_r20", "r8x4"
TEXTS = ["README.md", "table.tex", "table.csv", "leaderboard.html"]
PLOTS = ["cost.png", "curves.png", "schedules.png", "per_class.png", "agreement.png"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    paths = render(*example(), folder)
    assert [path.relative_to(folder).as_posix() for path in paths] == [*TEXTS, *(f"plots/{name}" for name in PLOTS)]
    return folder


def _line(text: str, start: str, nth: int = 0) -> list[str]:
    found = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [part.strip() for part in found[nth].strip("|").split(" | ")]


def test_render__same_input_same_bytes(rendered: Path, tmp_path: Path) -> None:
    declared, entries, epochs = example()
    scores, curves = score(declared, entries[::-1]), Trajectories(epochs[::-1])
    texts = [markdown(declared, scores, PLOTS), latex(declared, scores), values(declared, scores)]
    for name, text in zip(TEXTS, [*texts, leaderboard(declared, scores, curves)], strict=True):
        assert (rendered / name).read_text() == text, name
    few = [entry("kd", A, 0, 70.0, agreement=80.0), entry("dkd", A, 0, 71.0, agreement=81.0)]
    for folder in ("a", "b"):
        assert [path.name for path in render(declared, few, [], tmp_path / folder)] == [*TEXTS, "agreement.png"]
    first, second = (tmp_path / folder / "plots" / "agreement.png" for folder in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_render__pictures_are_not_blank(rendered: Path) -> None:
    for name in PLOTS:
        with Image.open(rendered / "plots" / name) as image:
            colours = image.convert("RGB").getcolors(1 << 24) or []
        assert len(colours) > 50, name
        assert image.size[0] > 600, name
    with Image.open(rendered / "plots" / "schedules.png") as image:
        assert (0, 158, 115) in {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}


def test_render__nothing_run(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "cost.png").write_bytes(b"old")
    assert [path.name for path in render(table(), [], [], tmp_path)] == TEXTS
    assert not (tmp_path / "plots" / "cost.png").exists()
    text = (tmp_path / "README.md").read_text()
    assert _line(text, "CRD") == ["CRD", "not run", "not run"]
    assert _line(text, "CRD", 1)[:3] == ["CRD", "not run", "71.16 (crd)"]
    assert "0 of 33 trainings done" in text
    assert "![" not in text


def test_markdown__ours_published_and_delta() -> None:
    found = [entry("kd", A, i, x) for i, x in enumerate((71.0, 71.2, 71.4))] + [entry("dkd", A, 0, 72.0)]
    text = markdown(table(), score(table(), found), [])
    assert _line(text, "KD") == ["KD", "71.20 ± 0.20 (3)", "not run"]
    assert _line(text, "KD", 1)[:4] == ["KD", "71.20 ± 0.20 (3)", "70.66 (crd)", "+0.54†"]
    assert _line(text, "DKD", 1)[:5] == [
        "DKD",
        "**72.00 (1 of 3)**",
        "71.97 (crd); 72.17 (dkd)",
        "+0.03",
        "+1.00 (one seed)",
    ]
    assert "distill table experiments/crd run" in text
    assert "left out, the paper names no layer" in text
    assert "commits: 0123456789 (4)" in text


def test_markdown__says_which_rule_is_compared() -> None:
    declared = table(published={("kd", A): (Published(70.0, "b"),)}, sources={"b": Source("B", "best_on_test")})
    text = markdown(declared, score(declared, [entry("kd", A, 0, 70.0)]), [])
    assert _line(text, "KD", 1)[3] == "+0.40†"
    assert "Δ is of ours by the best epoch on test, as its source: 70.40 (1)" in text
    lacking = markdown(declared, score(declared, []), [])
    assert "as its source" not in lacking


def test_markdown__titles_are_text() -> None:
    rows = (Line("kd", "a|b <i>*x*</i>"), *(row for row in ROWS if row.key != "kd"))
    declared = table(rows=rows, title=EVIL, note=EVIL)
    text = markdown(declared, score(declared, []), [])
    assert not re.search(r"(?<!\\)<(?!https)", text)
    assert r"a\|b \<i\>\*x\*\</i\>" in text


def test_text__words() -> None:
    assert gain(Paired(-1.0, -1.5, 0.5, 3)) == "−1.00 [−1.50, +0.50]"
    assert gain(None) == ""
    assert [duration(s) for s in (4.21, 99, 600, 7200)] == ["4.21 s", "99 s", "10 min", "2 h"]
    cells = score(table(), [entry("kd", A, 0, 70.66, best_on_test=71.0)]).cells
    assert (ours(cells["kd", A]), delta(cells["kd", A])) == ("70.66 (1 of 3)", "+0.00")
    assert (ours(cells["crd", A]), delta(cells["crd", A])) == ("not run", "")
    assert ours(cells["fitnet", B]) == "–"


def test_escape__latex_prints_text_as_it_stands() -> None:
    assert escape("50% & a_b #1 {x} $y$ T→1") == r"50\% \& a\_b \#1 \{x\} \$y\$ T$\rightarrow$1"
    assert escape(r"\input{x}~^") == r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}"
    assert escape("[a] *") == "{[}a{]} {*}"


def test_latex__rows_and_published() -> None:
    found = [entry("kd", A, i, x) for i, x in enumerate((71.0, 71.2, 71.4))]
    text = latex(table(), score(table(), found))
    assert r"KD & \textbf{71.20 $\pm$ 0.20 (3)} & not run \\" in text
    assert r"published, $\Delta$} & {\footnotesize 70.66, +0.54$\dagger$} & {\footnotesize 71.16} \\" in text
    assert r"FitNet \& hints\_50\%" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {2}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on PATH")
@pytest.mark.slow
def test_latex__compiles(tmp_path: Path) -> None:
    declared = table(title=EVIL, rows=(*ROWS, Line("odd", r"[x] ~ ^ \ {} # $ % & _ < > | \" 5→1 ≈ ² τ")))
    text = latex(declared, score(declared, example()[1]))
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(head + text + "\\end{document}\n")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_values__unrounded() -> None:
    found = [entry("kd", A, i, x) for i, x in enumerate((70.1, 70.2, 70.4))]
    lines = list(csv.DictReader(values(table(), score(table(), found)).splitlines()))
    assert len(lines) == 14
    by = {(line["row"], line["column"]): line for line in lines}
    kd, crd = by["kd", A], by["crd", A]
    assert float(kd["mean"]) == pytest.approx((70.1 + 70.2 + 70.4) / 3, rel=1e-15)
    assert float(kd["delta"]) == pytest.approx(70.7 / 3 + 140.0 / 3 - 70.66, rel=1e-9)
    assert (kd["status"], kd["n"], kd["departs"], kd["best"], kd["seeds"]) == ("run", "3", "1", "1", "0 1 2")
    assert (crd["status"], crd["mean"], crd["published"], crd["delta"]) == ("not run", "", "71.16", "")
    assert by["fitnet", B]["status"] == "left out"


def test_pareto__front_by_hand() -> None:
    points = [(3.0, 70.0), (1.0, 60.0), (2.0, 75.0), (2.0, 74.0), (5.0, 75.0), (6.0, 76.0)]
    assert pareto(points) == [(1.0, 60.0), (2.0, 75.0), (6.0, 76.0)]


def test_beside__a_long_legend_has_columns_and_its_own_room() -> None:
    for rows, columns in ((12, 1), (47, 3)):
        figure, (axis,) = _panels(1)
        width = figure.get_figwidth()
        _beside(figure, [axis.plot([0], [0], label=f"method {i}")[0] for i in range(rows)])
        figure.draw_without_rendering()
        (legend,) = figure.legends
        assert legend.get_window_extent().y0 >= 0
        assert figure.get_figwidth() == pytest.approx(width + 1.9 * (columns - 1))
        assert axis.get_window_extent().width > 0.7 * width * figure.dpi - legend.get_window_extent().width / columns


def test_kinds_of_cost__the_cpu_where_it_did_all_the_work() -> None:
    entries = [entry("kd", A, seed, 70, cpu_seconds=9.0, device="cpu, 1 threads") for seed in (0, 1)]
    found = score(table(), entries)
    (done,) = [s for s in found.done() if s.row.key == "kd"]
    assert next(iter(_kinds_of_cost([done]))) == "CPU seconds of one training"
    entries[1] = entry("kd", A, 1, 70, cpu_seconds=9.0, device="NVIDIA H100")
    (done,) = [s for s in score(table(), entries).done() if s.row.key == "kd"]
    assert next(iter(_kinds_of_cost([done]))) == "seconds of one training"


def test_gains__paired_by_seed_hardest_first() -> None:
    found = [
        entry("alone", A, 0, 69.0, by_class=(50.0, 30.0, None)),
        entry("alone", A, 1, 69.0, by_class=(70.0, 40.0, 90.0)),
        entry("kd", A, 1, 70.0, by_class=(75.0, 30.0, 91.0)), entry("kd", A, 2, 70.0, by_class=(0.0, 0.0, 0.0)),
        entry("dkd", A, 1, 70.0, by_class=(1.0, 2.0)),
    ]  # fmt: skip
    cells = score(table(), found).cells
    assert gains(cells["kd", A], cells["alone", A]) == [5.0, -10.0, 1.0]
    assert gains(cells["dkd", A], cells["alone", A]) is None
    assert difficulty(cells["alone", A]) == [1, 0, 2]


def test_trajectories__only_the_trainings_that_count() -> None:
    old = entry("kd", A, 0, 60.0, finished="2026-01-01", fingerprint="old")
    new = entry("kd", A, 0, 70.0, finished="2026-01-03", fingerprint="new")
    rows = [("old", 1, 1.0), ("new", 1, 50.0), ("new", 2, 60.0)]
    epochs = [Epoch("kd", A, "distilled", 0, f, e, {"test/accuracy": x}) for f, e, x in rows]
    cell = score(table(), [old, new]).cells["kd", A]
    found = Trajectories(epochs).of(cell, "test/accuracy")
    assert found is not None
    assert (found.epochs, found.mean, found.std) == ([1, 2], [50.0, 60.0], [0.0, 0.0])
    assert Trajectories(epochs).of(cell, "schedule/kd.weight") is None


def test_render__metrics_of_the_last_epoch_beside_accuracy(tmp_path: Path) -> None:
    declared = table(metrics=("test/pointing", "test/nothing"))
    entries = [entry("kd", A, seed, 70.0) for seed in (0, 1)] + [entry("alone", A, 0, 60.0), entry("teacher", A, 0, 80)]
    looks = {("kd", 0): (20.0, 50.0), ("kd", 1): (30.0, 60.0), ("teacher", 0): (1.0, 90.0)}
    epochs = [
        Epoch(e.row, e.column, e.arm, e.seed, e.fingerprint, number, {"test/pointing": value})
        for e in entries
        for number, value in enumerate(looks.get((e.row, e.seed), ()), 1)
    ]
    render(declared, entries, epochs[::-1], tmp_path)
    text = (tmp_path / "README.md").read_text()
    heads = _line(text, "", 1)
    assert "test/nothing, last epoch" not in heads
    at = heads.index("test/pointing, last epoch")
    shown = {name: _line(text, name, 1)[at] for name in ("KD", "Student alone", "Teacher")}
    assert shown == {"KD": "55.00 ± 7.07", "Student alone": "", "Teacher": "90.00"}
    lines = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    found = {line["row"]: line["test/pointing"] for line in lines if line["column"] == A}
    assert (float(found["kd"]), found["alone"]) == (55, "")
    assert "test/pointing" not in markdown(table(), score(table(), entries), [])
