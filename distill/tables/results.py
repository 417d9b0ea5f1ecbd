"""results.csv and curves.csv of a table: one line a training, one line an epoch; all that rendering reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RESULTS, CURVES = "results.csv", "curves.csv"


@dataclass(frozen=True)
class Entry:
    """One training of a table, as results.csv keeps it.

    Attributes:
        row: key of the row; ``teacher`` lines carry the key of the row whose arm is ``teacher``, or "".
        column: key of the column.
        arm: ``distilled``, ``alone`` or ``teacher``.
        seed: of the training.
        label: readable name of the run.
        fingerprint: of the run's config; with ``finished`` it tells two trainings of one cell apart.
        last, best_on_test, val_chosen: test accuracy in percent by the three rules; None without a validation split.
        val: validation accuracy in percent of the chosen epoch, or None.
        agreement: percent of test samples on which student and teacher agree, or None.
        nll, ece: of the test split at the chosen epoch; nats and percent.
        by_class: test accuracy in percent of each class at the chosen epoch.
        params, flops: of the student; FLOPs of one image, two a multiply-add.
        epochs, steps: that were trained.
        seconds: of training, evaluation between epochs included.
        teacher: label of the teacher's run, or the file that it came from; empty without.
        device: that trained it.
        machine: kind and cores.
        git, code, torch: commit (``*`` where the tree was dirty), hash of the code, version of PyTorch.
        finished: UTC, ISO 8601.
        overrides: that train it again, joined as a shell would read them.
    """

    row: str
    column: str
    arm: str
    seed: int
    label: str
    fingerprint: str
    last: float
    best_on_test: float
    val_chosen: float | None
    val: float | None
    agreement: float | None
    nll: float | None
    ece: float | None
    by_class: tuple[float | None, ...]
    params: int
    flops: int
    epochs: int
    steps: int
    seconds: float
    teacher: str
    device: str
    machine: str
    git: str
    code: str
    torch: str
    finished: str
    overrides: str

    def accuracy(self, rule: str) -> float | None:
        """Return test accuracy in percent by a rule of :data:`distill.results.RULES`."""
        value = getattr(self, rule)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Epoch:
    """One epoch of one training, as curves.csv keeps it: ``values`` by the names of metrics.csv."""

    row: str
    column: str
    arm: str
    seed: int
    fingerprint: str
    epoch: int
    values: dict[str, float]


def read(folder: Path) -> tuple[list[Entry], list[Epoch]]:
    """Return what results.csv and curves.csv of a folder hold; nothing where they are absent."""
    raise NotImplementedError
