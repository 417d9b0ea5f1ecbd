"""The study of a search on disk, and one trial of it as its training sees it: what it reports, whether it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config import build

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PRUNER = "pruner"
"""Attribute of a study that holds the config node of its pruner, so that every cell asks the same one."""
WAIT = 120.0
"""Seconds that a cell waits for a file that others write to."""
FILES = ("sqlite:///", "journal:///")


def absolute(storage: str) -> str:
    """Return a storage whose file is named in full, so that it is the same in every process; makes its folder.

    Raises:
        ValueError: when it is neither a file of one of ``FILES`` nor the address of a server.
    """
    for kind in FILES:
        if storage.startswith(kind) and len(storage) > len(kind):
            path = Path(storage.removeprefix(kind)).absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            return f"{kind}{path}"
    if "://" not in storage or storage.startswith("sqlite:"):
        raise ValueError(f"write sqlite:///FILE, or journal:///FILE for nodes that share a folder, not {storage}")
    return storage


def opened(storage: str) -> BaseStorage:
    """Return optuna's storage behind an address: SQLite or another database, or a journal."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if storage.startswith("journal:///"):
        return JournalStorage(JournalFileBackend(storage.removeprefix("journal:///")))
    wait = {"connect_args": {"timeout": WAIT}} if storage.startswith("sqlite:///") else {}
    return RDBStorage(storage, engine_kwargs=wait)


class Watched:
    """A trial as the process that trains it sees it.

    Args:
        storage: address of the study's storage.
        study: its name.
        number: of the trial.
    """

    def __init__(self, storage: str, study: str, number: int) -> None:
        import optuna

        self._storage = opened(storage)
        self._study = optuna.load_study(study_name=study, storage=self._storage)
        ids = self._storage.get_study_id_from_name(study)
        self._id = self._storage.get_trial_id_from_study_id_trial_number(ids, number)
        node = self._study.user_attrs.get(PRUNER)
        self._pruner = build(node, "hydra.sweeper.pruner") if node else None

    def report(self, history: Sequence[Mapping[str, float]]) -> None:
        """Tell the study the validation accuracy of every epoch that it does not know yet."""
        trial = self._storage.get_trial(self._id)
        for row in history:
            step = int(row["epoch"])
            if "val/accuracy" in row and step not in trial.intermediate_values and not trial.state.is_finished():
                self._storage.set_trial_intermediate_value(self._id, step, row["val/accuracy"])

    def hopeless(self) -> bool:
        """Return whether the pruner of the study gives the trial up, after what was reported."""
        trial = self._storage.get_trial(self._id)
        if self._pruner is None or trial.state.is_finished():
            return False
        return bool(self._pruner.prune(self._study, trial))


def watched(trial: Mapping[str, Any] | None) -> Watched | None:
    """Return the trial that a config names, or None where it is of no search."""
    return None if trial is None else Watched(**trial)
