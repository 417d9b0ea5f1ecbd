"""leaderboard.html: its data, that nothing in a table becomes markup, and that it works in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from distill.tables.render.leaderboard import leaderboard
from distill.tables.render.trajectories import Trajectories
from distill.tables.results import Epoch
from distill.tables.spec import Source
from distill.tables.statistics import score
from tests.tables.example import COLUMNS, EVIL, ROWS, entry, example, table

A, B = "r56_r20", "r8x4"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class _Page(HTMLParser):
    """Tags and texts of a page; what is in script and style is text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.within: dict[str, str] = {}
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        name = self.tags[-1][1].get("id") or self.tags[-1][0] if self.tags else ""
        self.within[name] = self.within.get(name, "") + data


def _evil() -> str:
    """A page on which everything that a user writes is an attack."""
    rows = [replace(row, title=EVIL, note=EVIL) for row in ROWS]
    sources = {"crd": Source(EVIL, "last", "javascript:alert(3)", EVIL), "dkd": Source(EVIL, "last", 'https://x/"><b>')}
    columns = tuple(replace(c, title=EVIL, note=EVIL) for c in COLUMNS)
    declared = table(title=EVIL, paper=EVIL, note=EVIL, rows=tuple(rows), columns=columns, sources=sources)
    runs = [entry("kd", A, 0, 70.0, overrides=EVIL, device=EVIL, git=EVIL, label=EVIL, machine="\u2028")]
    return leaderboard(declared, score(declared, runs), Trajectories([]))


def test_leaderboard__user_text_is_never_markup() -> None:
    plain, evil = _Page(leaderboard(table(), score(table(), []), Trajectories([]))), _Page(_evil())
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    data = json.loads(evil.within["data"])
    assert data["title"] == data["cells"][0]["title"] == EVIL
    assert [source["url"] for source in data["sources"]] == ["", 'https://x/"><b>']
    assert evil.within["title"].strip() == EVIL


def test_leaderboard__asks_for_nothing_outside() -> None:
    source = leaderboard(table(), score(table(), []), Trajectories([]))
    page = _Page(source)
    assert not [a for _, a in page.tags if a.get("src") or a.get("href")]
    assert not re.search(r"@import|url\(|fetch\(|import\(|innerHTML|outerHTML|insertAdjacent|document\.write", source)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_leaderboard__data_of_cells() -> None:
    declared, entries, epochs = example()
    page = _Page(leaderboard(declared, score(declared, entries), Trajectories(epochs)))
    data = json.loads(page.within["data"])
    cells = {cell["id"]: cell for cell in data["cells"]}
    assert (data["done"], data["wanted"]) == (24, 33)
    assert f"fitnet/{B}" not in cells
    assert cells[f"crd/{A}"]["text"] == "not run"
    assert cells[f"crd/{A}"]["accuracy"] is None
    assert cells[f"crd/{A}"]["commands"][1].startswith("distill train dataset=cifar100")
    assert "'loss=[ce,crd]'" in cells[f"crd/{A}"]["commands"][1]
    assert len(cells[f"kd51/{A}"]["commands"]) == 3
    assert cells[f"kd51/{A}"]["curve"]["epochs"] == list(range(1, 25))
    assert set(cells[f"kd51/{A}"]["schedules"]) == {"kd.temperature", "kd.weight"}


def test_leaderboard__what_is_not_finite_is_left_out() -> None:
    rows = [(1, 10.0), (2, float("nan")), (3, float("inf")), (4, 12.0)]
    epochs = [Epoch("kd", A, "distilled", 0, f"kd{A}0", epoch, {"test/accuracy": x}) for epoch, x in rows]
    runs = [entry("kd", A, 0, 70.0, seconds=float("nan"))]
    page = _Page(leaderboard(table(), score(table(), runs), Trajectories(epochs)))
    cells = {cell["id"]: cell for cell in json.loads(page.within["data"])["cells"]}
    assert cells[f"kd/{A}"]["curve"] == {"epochs": [1.0, 4.0], "mean": [10.0, 12.0], "std": [0.0, 0.0]}
    assert cells[f"kd/{A}"]["seconds"] is None
    assert (cells[f"kd/{A}"]["cpu_seconds"], cells[f"kd/{A}"]["cpuText"]) == (None, "")


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on PATH")


def _dom(page: Path, state: str, profile: Path) -> str:
    """Return the page as the browser holds it after its script ran."""
    assert BROWSER is not None
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
         f"--user-data-dir={profile}", "--virtual-time-budget=2000", f"{page.as_uri()}#{state}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def _shown(dom: str) -> list[str]:
    return re.findall(r'data-id="([^"]+)"', dom)


def _sorted(dom: str) -> dict[str, str]:
    heads = [dict(re.findall(r'([\w-]+)="([^"]*)"', head)) for head in re.findall(r"<th [^>]*aria-sort[^>]*>", dom)]
    return {head["data-key"]: head["aria-sort"] for head in heads}


@needs_browser
@pytest.mark.slow
def test_leaderboard__in_a_browser(tmp_path: Path) -> None:
    declared, entries, epochs = example()
    scores = score(declared, entries)
    page = tmp_path / "leaderboard.html"
    page.write_text(leaderboard(declared, scores, Trajectories(epochs)))

    dom = _dom(page, f"sort=accuracy&column={A}&run=1&open=kd51/{A}&theme=dark", tmp_path / "profile")
    means = {f"{s.row.key}/{A}": s.accuracy.mean for s in scores.of_column(A) if s.accuracy}
    assert _shown(dom) == sorted(means, key=lambda key: -means[key])
    assert {key for key, order in _sorted(dom).items() if order != "none"} == {"accuracy"}
    assert _sorted(dom)["accuracy"] == "descending"
    assert 'style="color-scheme: dark;"' in dom
    detail = dom[dom.index('class="detail"') :]
    assert detail.count("<polyline") == 3  # its own curve, that of the baseline, its temperature
    assert detail.count("<polygon") == 2
    assert "scheduler=linear_temperature alone=false seed=2 seeds=1</code>" in detail
    assert dom.count('aria-expanded="true"') == 1

    dom = _dom(page, "sort=method&dir=desc&filter=not+there", tmp_path / "profile")
    assert _shown(dom) == []
    assert "Nothing matches" in dom
    dom = _dom(page, "sort=method&dir=desc&filter=resnet20+KD&group=distilled", tmp_path / "profile")
    assert _shown(dom) == [f"{row}/{A}" for row in ("kd51", "kd", "dkd")]


@needs_browser
@pytest.mark.slow
def test_leaderboard__in_a_browser_nothing_of_a_user_runs(tmp_path: Path) -> None:
    page = tmp_path / "leaderboard.html"
    page.write_text(_evil())
    dom = _dom(page, f"open=kd/{A},crd/{B}&sort=%3Cb%3E&filter=&column=__proto__", tmp_path / "profile")
    assert len(_shown(dom)) == len(ROWS) * len(COLUMNS) - 1
    assert "<img" not in dom
    assert "&lt;img src=x" in dom
    assert "javascript:" not in re.sub(r"<script.*?</script>", "", dom, flags=re.S)
