"""Settings of the losses that belong to one phase of a training."""

from .setting import Setting

ANNEALING = "distill.losses.annealing_kd.AnnealingKD"
PHASES = [
    Setting("annealing_kd", "annealing_kd", ANNEALING, {"temperature": 4.0}, {}),
    Setting("annealing_kd_strict", "annealing_kd", ANNEALING, {"temperature": 1.0, "strict_reference": True}, {}),
]
