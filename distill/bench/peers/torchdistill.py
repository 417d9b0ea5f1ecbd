"""torchdistill (https://github.com/yoshitomo-matsubara/torchdistill): its box, example loop, loss and loaders.

From its sample config for KD on CIFAR-100, with our networks, for it has neither resnet32x4 nor resnet8x4.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import torch

from distill.assemble import make_network
from distill.bench.peers import Epochs, Work

CONFIG = "configs/sample/cifar100/kd/wide_resnet40_1_from_wide_resnet40_4-final_run.yaml"
LOOP = "examples/torchvision/image_classification.py"


def epochs(work: Work) -> Epochs:
    """Return what gives an epoch of so many steps to train."""
    from torchdistill.common.yaml_util import load_yaml_file
    from torchdistill.core.distillation import get_distillation_box

    train_one_epoch = runpy.run_path(str(Path(work.folder) / LOOP))["train_one_epoch"]
    device = torch.device(work.device)
    student, teacher = (make_network(node, "peer", None).to(device) for node in (work.student, work.teacher))

    def epoch(steps: int) -> Callable[[], float]:
        config = load_yaml_file(str(Path(work.folder) / CONFIG))
        settings = config["train"]
        settings["train_data_loader"]["kwargs"]["batch_size"] = work.batch_size
        settings["optimizer"]["kwargs"]["lr"] = 0.05
        settings["criterion"]["kwargs"]["sub_terms"]["kd"]["criterion"]["kwargs"]["alpha"] = 0.1
        box = get_distillation_box(teacher.eval(), student, config["datasets"], settings, device, None, False, 1)
        losses: list[torch.Tensor] = []
        box.criterion.register_forward_hook(lambda module, given, loss: losses.append(loss.detach()))

        def train() -> float:
            box.pre_epoch_process(epoch=0)
            train_one_epoch(box, device, 0, settings["log_freq"])
            return float(torch.stack(losses).mean())

        return train

    return epoch
