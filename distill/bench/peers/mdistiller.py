"""mdistiller (https://github.com/megvii-research/mdistiller): its trainer, distiller, networks and loaders.

Needs yacs, tensorboardX and tqdm on the path. Validation is left out; its checkpoints and logs are its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill.bench.peers import Epochs, Work
from distill.fit import network_name


def epochs(work: Work) -> Epochs:
    """Return what gives an epoch of so many steps to train."""
    from mdistiller.dataset import get_dataset
    from mdistiller.distillers import distiller_dict
    from mdistiller.engine import trainer_dict
    from mdistiller.engine.cfg import CFG
    from mdistiller.models import cifar_model_dict

    CFG.merge_from_file(str(Path(work.folder) / "configs/cifar100/kd.yaml"))
    CFG.merge_from_list(["LOG.WANDB", False, "SOLVER.BATCH_SIZE", work.batch_size])
    student, teacher = (
        cifar_model_dict[network_name(node)][0](num_classes=node["num_classes"])
        for node in (work.student, work.teacher)
    )
    distiller = torch.nn.DataParallel(distiller_dict["KD"](student, teacher, CFG).cuda())

    base: Any = trainer_dict["base"]

    class Trainer(base):
        loss = 0.0

        def log(self, lr: float, epoch: int, log_dict: OrderedDict[str, float]) -> None:
            self.loss = float(log_dict["train_loss"])
            super().log(lr, epoch, log_dict)

    def epoch(steps: int) -> Callable[[], float]:
        trainer = Trainer("bench", distiller, get_dataset(CFG)[0], [], CFG)

        def train() -> float:
            trainer.train_epoch(1)
            return trainer.loss

        return train

    return epoch
