"""RepDistiller (https://github.com/HobbitLong/RepDistiller): its loop, losses, networks and loaders.

The weights of the losses are those of its script for KD. Validation and checkpoints are left out: its loop has none.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from torch import nn, optim

from distill.bench.peers import Epochs, Work
from distill.fit import network_name


def epochs(work: Work) -> Epochs:
    """Return what gives an epoch of so many steps to train."""
    from dataset.cifar100 import get_cifar100_dataloaders
    from distiller_zoo import DistillKL
    from helper.loops import train_distill
    from models import model_dict

    student, teacher = (
        model_dict[network_name(node)](num_classes=node["num_classes"]) for node in (work.student, work.teacher)
    )
    criteria = nn.ModuleList([nn.CrossEntropyLoss(), DistillKL(4), DistillKL(4)])
    optimizer = optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    options = Namespace(distill="kd", gamma=0.1, alpha=0.9, beta=0, print_freq=100)

    def epoch(steps: int) -> Callable[[], float]:
        loader = get_cifar100_dataloaders(batch_size=work.batch_size, num_workers=8, is_instance=True)[0]

        def train() -> float:
            networks = nn.ModuleList([student, teacher]).cuda()
            return float(train_distill(1, loader, networks, criteria, optimizer, options)[1])

        return train

    return epoch
