"""The page of methods says what code, configs and records say."""

import json
import re
from pathlib import Path

import pytest

from distill.cli import main
from distill.config import CONF
from distill.methods import AGREEMENT, EXPERIMENTS, PAGE, agreements, costs, described, measured, methods, page

KNOWN = {method.name: method for method in methods()}
COPY = "the page is not what the code says; run: distill info --methods > distill/losses/README.md"


def test_page__is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert page() == PAGE.read_text(), COPY
    assert main(["info", "--methods"]) == 0
    assert capsys.readouterr().out == PAGE.read_text()


def test_methods__are_those_of_the_config_group_and_each_has_its_section() -> None:
    assert set(KNOWN) == {path.stem for path in (CONF / "loss").glob("*.yaml")}
    headings = re.findall(r"^## (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == list(KNOWN)


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "ce"])
def test_docstring__names_its_method_its_paper_and_its_formula(name: str) -> None:
    method = KNOWN[name]
    assert method.title != name, "the first line is NAME: sentence"
    assert method.summary.endswith(".")
    paper = method.body[0]
    assert re.search(r"\b(19|20)\d\d\b", paper), "the second paragraph names a paper with its year"
    assert re.search(r"``.+?``", paper), "the second paragraph has the formula in double backticks"
    assert any(paragraph.startswith("Known to go wrong:") for paragraph in method.body)


def test_methods__what_of_a_network_they_read_and_what_pairs_set() -> None:
    assert KNOWN["fitnet"].taps == {"student_tap": "stage2", "teacher_tap": "stage2"}
    assert KNOWN["kd"].taps == {}
    assert KNOWN["dkd"].by_pair == ("beta",)
    assert KNOWN["lskd"].by_pair == ("temperature", "weight")
    assert [name for name, method in KNOWN.items() if not method.reads_teacher and name in ("ce", "kd", "tfkd")] == [
        "ce",
        "tfkd",
    ]
    assert KNOWN["tfkd"].command == "distill train 'loss=[ce,tfkd]' 'teacher=[]'"


def test_described__splits_the_first_line_and_joins_the_lines_of_a_paragraph() -> None:
    text = "XY: does\nthis.\n\nA et al., 2020: ``a\n+ b`` of :class:`~some.where.Thing`.\n\nKnown to go wrong: c.\n"
    assert described(text) == (
        "XY",
        "does this.",
        ("A et al., 2020: ``a + b`` of `Thing`.", "Known to go wrong: c."),
    )
    assert described("No name here.") == ("", "No name here.", ())


def test_costs__are_the_medians_of_the_smallest_and_the_largest_batch(tmp_path: Path) -> None:
    assert costs(tmp_path) == {}
    names = {"kd, batch 64 / kd": 1, "dkd, batch 64 / kd": 1.94, "dkd, batch 256 / kd": 7, "dkd, batch 1024 / kd": 1.55}
    (tmp_path / "performance").mkdir()
    record = {"ratios": {name: {"median": value} for name, value in names.items()}}
    (tmp_path / "performance" / "losses.json").write_text(json.dumps(record))
    later = {"ratios": {"kd, batch 64 / kd": {"median": 1}, "mlkd, batch 64 / kd": {"median": 123.4}}}
    (tmp_path / "performance" / "losses_more.json").write_text(json.dumps(later))
    assert costs(tmp_path) == {"kd": "1.0", "dkd": "1.9 / 1.6", "mlkd": "123"}
    assert "| 1.9 / 1.6 |" in page(tmp_path)


def test_measured__mean_and_deviation_over_seeds_by_column(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    lines = ["row,column,arm,seed,last", "kd,r56_r20,distilled,0,60", "kd,r56_r20,distilled,1,62"]
    lines += ["kd,r56_r20,teacher,0,90", "kd,r20_r8,distilled,0,50"]
    (tmp_path / "methods" / "results.csv").write_text("\n".join(lines))
    assert measured(tmp_path) == {"kd": "r56_r20: 61.00 ± 1.41; r20_r8: 50.00"}
    assert "| r56_r20: 61.00 ± 1.41; r20_r8: 50.00 |" in page(tmp_path)
    (tmp_path / "methods" / "results.csv").write_text("\n".join([*lines[:2], "alone,r56_r20,alone,0,40"]))
    assert measured(tmp_path) == {"kd": "60.00", "alone": "40.00"}
    assert "no ranking; the student alone has 40.00, kd has 60.00.\n" in page(tmp_path)


def test_agreements__are_of_methods_and_say_why_where_they_are_large() -> None:
    assert set(agreements()) <= set(KNOWN), f"{AGREEMENT} names a method that is not there"
    for line in (line for lines in agreements().values() for line in lines):
        assert set(line) - {"note"} == {"method", "code", "commit", "difference"}
        assert float(line["difference"]) <= 1e-5 or line["note"]


def test_experiments__folder_is_that_of_the_checkout() -> None:
    assert (EXPERIMENTS / "performance" / "README.md").is_file()
