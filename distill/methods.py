"""The page of methods, distill/losses/README.md: what docstrings, configs and records say of every loss."""

from __future__ import annotations

import ast
import csv
import json
import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from distill.places import CONF

HERE = Path(__file__).resolve().parent
PAGE = HERE / "losses" / "README.md"
AGREEMENT = HERE / "losses" / "agreement.yaml"
EXPERIMENTS = HERE.parent / "experiments"
COSTS = "performance/losses*.json"
"""Records of ``distill bench losses`` in the folder of experiments."""
MEASURED = ("methods",)
"""Tables in the folder of experiments whose rows have the names of methods."""
BESIDE = {"alone": "the student alone", "kd": "kd"}
"""Rows that every other is to be read beside."""
HEAD = """\
# Methods

Every loss in `conf/loss`. `distill info --methods` prints this page, made from the docstrings, the configs and the
records, and a test compares the two. A term is one name in `loss=[...]`, its arguments are those of its yaml
(`loss.dkd.beta=2`), and terms add up: `loss=[ce,dkd,fitnet]`.

Cost: time of value and gradient of the loss alone over that of kd, networks left out, batches of 64 / 1024
(`distill bench losses`). Measured: test accuracy in percent after the last epoch, mean ± standard deviation over seeds,
in [experiments/methods](../../experiments/methods), at a small scale and untuned: a hint, no ranking{beside}.
Agreement: largest relative difference, of value or gradient, from public code on the same random outputs.
"""
NOTHING = "–"


@dataclass(frozen=True)
class Method:
    """What code and config say of a loss.

    Attributes:
        name: key in ``conf/loss``.
        title: what its paper calls it.
        summary: one sentence.
        body: the paragraphs that follow: paper and formula, then what is known to go wrong.
        taps: what of the networks it reads by default, by argument.
        by_pair: arguments that ``conf/pair`` sets.
        reads_teacher: whether it needs one.
    """

    name: str
    title: str
    summary: str
    body: tuple[str, ...]
    taps: Mapping[str, Any]
    by_pair: tuple[str, ...]
    reads_teacher: bool

    @property
    def command(self) -> str:
        """The words that train with it."""
        terms = dict.fromkeys(["ce", self.name])
        return f"distill train 'loss=[{','.join(terms)}]'" + ("" if self.reads_teacher else " 'teacher=[]'")


def methods() -> list[Method]:
    """Return every loss of the config group, by name."""
    pairs = [_yaml(path)["pair"] for path in sorted((CONF / "pair").glob("*.yaml"))]
    return [_method(path, pairs) for path in sorted((CONF / "loss").glob("*.yaml"))]


def _method(path: Path, pairs: list[dict[str, Any]]) -> Method:
    node = _yaml(path)[path.stem]
    source = ast.parse((HERE / Path(*node["_target_"].split(".")[1:-1]).with_suffix(".py")).read_text())
    title, summary, body = described(ast.get_docstring(source) or "")
    by_pair = dict.fromkeys(key for pair in pairs if isinstance(pair.get(path.stem), dict) for key in pair[path.stem])
    return Method(path.stem, title or path.stem, summary, body, dict(_taps(node)), tuple(by_pair), _reads(source))


def _yaml(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path))


def described(docstring: str) -> tuple[str, str, tuple[str, ...]]:
    """Return the title, the summary and the further paragraphs of a module, each in one line.

    The first line is ``TITLE: summary``; the second paragraph names the paper, then the formula in double backticks.
    """
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", docstring)
    first, *rest = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip()))
    title, colon, summary = first.partition(": ")
    return (title, summary, tuple(rest)) if colon else ("", first, tuple(rest))


def _taps(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _taps(value)
        elif re.search(r"(^|_)taps?$", key):
            yield key, _default(value)


def _default(value: Any) -> Any:
    """Return what ``${oc.select:key,default}`` gives where no pair says otherwise; any other value as it is."""
    if isinstance(value, list):
        return [_default(part) for part in value]
    found = re.fullmatch(r"\$\{oc\.select:[\w.]+,(.*)\}", value) if isinstance(value, str) else None
    return OmegaConf.to_container(OmegaConf.create(f"value: {found[1]}"))["value"] if found else value  # type: ignore[index, call-overload]


def _reads(source: ast.Module) -> bool:
    """Whether no class of a module says that it reads no teacher."""
    values = [
        line.value.value
        for part in source.body if isinstance(part, ast.ClassDef)
        for line in part.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id == "reads_teacher"
        and isinstance(line.value, ast.Constant)
    ]  # fmt: skip
    return all(values)


def costs(experiments: Path) -> dict[str, str]:
    """Return the factor over kd by method, smallest and largest batch, from the records of ``distill bench losses``."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(experiments.glob(COSTS)):
        for name, ratio in json.loads(path.read_text())["ratios"].items():
            method, _, rest = name.partition(", batch ")
            found.setdefault(method, {})[int(rest.split()[0])] = ratio["median"]
    return {
        m: " / ".join(_factor(by_size[s]) for s in sorted({min(by_size), max(by_size)})) for m, by_size in found.items()
    }


def _factor(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def measured(experiments: Path) -> dict[str, str]:
    """Return the test accuracy by method: for each column of a table, mean ± standard deviation over its seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for table in MEASURED:
        path = experiments / table / "results.csv"
        if path.is_file():
            with path.open(newline="") as file:
                for line in csv.DictReader(file):
                    if line["arm"] != "teacher":
                        columns = values.setdefault(line["row"], {})
                        columns.setdefault(line["column"], []).append(float(line["last"]))
    return {
        row: "; ".join(f"{c}: {_spread(v)}" if len(columns) > 1 else _spread(v) for c, v in columns.items())
        for row, columns in values.items()
    }


def _spread(values: list[float]) -> str:
    apart = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{apart}"


def agreements() -> dict[str, list[dict[str, Any]]]:
    """Return the comparisons with public code by method: ``code``, ``commit``, ``difference`` and perhaps ``note``."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in _yaml(AGREEMENT):
        found.setdefault(line["method"], []).append(line)
    return found


def page(experiments: Path = EXPERIMENTS) -> str:
    """Return the page in Markdown."""
    known, cost, accuracy, agreement = methods(), costs(experiments), measured(experiments), agreements()
    rows = ["| method | what | reads | cost | measured | agreement |", "| :-- | :-- | :-- | --: | --: | --: |"]
    for method in known:
        cells = [
            f"[{method.name}](#{method.name})", method.summary, _short(method), cost.get(method.name, NOTHING),
            accuracy.get(method.name, NOTHING), _agreed(agreement.get(method.name, [])),
        ]  # fmt: skip
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    sections = ["\n".join(_section(method, agreement.get(method.name, []))) for method in known]
    found = [f"{who} has {accuracy[row]}" for row, who in BESIDE.items() if row in accuracy]
    head = HEAD.format(beside=f"; {', '.join(found)}" if found else "")
    return "\n".join([head, *rows, "", *sections])


def _short(method: Method) -> str:
    taps = dict.fromkeys(t for v in method.taps.values() for t in (v if isinstance(v, list) else [v]) if t)
    reads = ", ".join(f"`{tap}`" for tap in taps) or "logits"
    return reads if method.reads_teacher else f"{reads}, no teacher"


def _agreed(lines: list[dict[str, Any]]) -> str:
    return ", ".join(f"{line['code']} {_difference(line, 0)}" for line in lines) or NOTHING


def _difference(line: dict[str, Any], digits: int) -> str:
    value = float(line["difference"])
    return f"{value:.{digits}e}" if value else "0"


def _section(method: Method, lines: list[dict[str, Any]]) -> Iterator[str]:
    yield f"## {method.name}\n"
    yield f"**{method.title}**: {method.summary}\n"
    yield from (f"{paragraph}\n" for paragraph in method.body)
    yield f"```sh\n{method.command}\n```\n"
    if method.taps:
        yield "Taps: " + ", ".join(f"`{k}={_typed(v)}`" for k, v in method.taps.items()) + ".\n"
    if method.by_pair:
        yield "Set by pair (`pair=...`): " + ", ".join(f"`{key}`" for key in method.by_pair) + ".\n"
    for line in lines:
        note = f": {line['note']}" if line.get("note") else ""
        yield f"- {line['code']} `{line['commit']}`: {_difference(line, 1)}{note}"
    if lines:
        yield ""


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    return "null" if value is None else str(value)
