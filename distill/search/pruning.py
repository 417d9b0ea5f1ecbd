"""Lightning callback that reports each epoch's validation accuracy to a study and stops a trial that it gives up."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from distill.modules.base import DistillationModule
from distill.search.study import Watched


class Pruning(Checkpoint):
    """Ends a training after the epoch in which the pruner of its study gave it up; never after the last one.

    A ``Checkpoint`` by type, because Lightning calls those after the module has closed its epoch.

    Args:
        trial: that the training is of.

    Attributes:
        stopped: whether it was given up.
    """

    def __init__(self, trial: Watched) -> None:
        self.trial, self.stopped = trial, False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stop = False
        if trainer.is_global_zero and isinstance(pl_module, DistillationModule):
            self.trial.report(pl_module.history)
            last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
            stop = not last and self.trial.hopeless()
        self.stopped = bool(trainer.strategy.broadcast(stop))  # what one rank was told, all do
        if self.stopped:
            trainer.should_stop = True
