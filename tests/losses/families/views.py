"""Settings of the losses that look at further views of each image."""

from .setting import Setting

VIEWS: list[Setting] = [
    Setting("mlkd", "mlkd", "distill.losses.mlkd.MLKD", {"temperatures": [4.0, 2.0]}, {}, {"strong": 1}),
    Setting(
        "mlkd_strict",
        "mlkd",
        "distill.losses.mlkd.MLKD",
        {"temperatures": [4.0, 3.0, 5.0, 2.0, 6.0], "strict_reference": True},
        {},
        {"strong": 1},
    ),
    Setting(
        "sskd", "sskd", "distill.losses.sskd.SSKD", {"temperature": 4.0}, {"pooled": ((12,), (20,))}, {"rotations": 3}
    ),
    Setting(
        "hsakd",
        "hsakd",
        "distill.losses.hsakd.HSAKD",
        {"student_stages": ["stage2", "stage3"], "teacher_stages": ["stage2", "stage3"], "temperature": 3.0},
        {"stage2": ((6, 8, 8), (10, 8, 8)), "stage3": ((12, 4, 4), (20, 4, 4))},
        {"rotations": 3},
    ),
]
