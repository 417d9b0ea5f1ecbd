"""table.tex: ours above published, for a paper; a fragment that needs the package booktabs and nothing else."""

from __future__ import annotations

from distill.results import RULES
from distill.tables.render import text
from distill.tables.spec import Table
from distill.tables.statistics import Score, Scores

# brackets and stars would be read as an argument of the line break before them
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "±": r"$\pm$", "−": r"$-$", "×": r"$\times$", "→": r"$\rightarrow$",
    "≈": r"$\approx$", "†": r"$\dagger$", "Δ": r"$\Delta$", "·": r"$\cdot$", "²": r"$^2$", "–": "--", "—": "---",
    "…": r"\ldots{}", "≥": r"$\geq$", "≤": r"$\leq$", "α": r"$\alpha$", "β": r"$\beta$", "τ": r"$\tau$",
    "\n": " ", "[": "{[}", "]": "{]}", "*": "{*}",
}  # fmt: skip


def escape(words: str) -> str:
    """Return text such that LaTeX prints it as it stands."""
    return "".join(SPECIAL.get(letter, letter) for letter in words)


def latex(table: Table, scores: Scores) -> str:
    """Return the table as a ``tabular`` with its caption in comments above and what the marks mean below."""
    columns = table.columns
    heads = " & ".join(f"\\multicolumn{{1}}{{c}}{{{escape(c.title)}}}" for c in columns)
    lines = [
        f"% {_comment(table.title)}",
        *([f"% {_comment(table.paper)}"] if table.paper else []),
        "% rendered from results.csv; in the preamble: \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        f" & {heads} \\\\",
        "\\midrule",
    ]
    for row in table.rows:
        cells = [scores.cells[row.key, column.key] for column in columns]
        lines.append(" & ".join([escape(row.title), *map(_ours, cells)]) + " \\\\")
        if any(cell.published for cell in cells):
            lines.append(" & ".join(["\\quad{\\footnotesize published, $\\Delta$}", *map(_published, cells)]) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", "", "\\smallskip", f"{{\\footnotesize {escape(_note(table))}}}"]
    return "\n".join(lines) + "\n"


def _comment(words: str) -> str:
    return " ".join(words.split())


def _ours(score: Score) -> str:
    words = escape(text.ours(score))
    if score.best:
        words = f"\\textbf{{{words}}}"
    return words + escape(text.TIED) * score.tied


def _published(score: Score) -> str:
    if not score.published:
        return ""
    words = ", ".join(word for word in (f"{score.published[0].value:.2f}", text.delta(score)) if word)
    return f"{{\\footnotesize {escape(words)}}}"


def _note(table: Table) -> str:
    rules = {p.source: table.sources[p.source].rule for found in table.published.values() for p in found[:1]}
    other = [
        f"{table.sources[key].title}: {RULES[rule]}"
        for key, rule in rules.items()
        if rule in RULES and rule != table.rule
    ]
    return (
        f"Test accuracy in % of the {RULES[table.rule]}, mean ± std (n seeds). Bold: best of a column; {text.TIED}: "
        f"the 95 % interval of the difference to it, paired by seed, holds 0. {text.DEPARTS}: more than "
        f"{table.tolerance:g} points from the published number."
        + (f" Where a source selects by another rule, Δ compares by that rule ({'; '.join(other)})." if other else "")
    )
