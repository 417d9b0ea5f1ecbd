"""Settings of the losses that read intermediate features, sample by sample."""

from .setting import Setting

FEATURES = [
    Setting("fitnet", "fitnet", "distill.losses.fitnet.FitNet", {}, {"stage2": ((6, 8, 8), (10, 8, 8))}),
    Setting(
        "fitnet_projector",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "stage3", "teacher_tap": "stage3", "connector": "projector"},
        {"stage3": ((12, 4, 4), (20, 4, 4))},
    ),
    Setting(
        "fitnet_halve",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "stage1", "teacher_tap": "stage2"},
        {"stage1": ((3, 16, 16), (5, 16, 16)), "stage2": ((6, 8, 8), (10, 8, 8))},
    ),
    Setting(
        "fitnet_double",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "stage3", "teacher_tap": "stage2"},
        {"stage2": ((6, 8, 8), (10, 8, 8)), "stage3": ((12, 4, 4), (20, 4, 4))},
    ),
    Setting(
        "fitnet_pooled",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "pooled", "teacher_tap": "pooled"},
        {"pooled": ((12,), (20,))},
    ),
    Setting("simkd", "simkd", "distill.losses.simkd.SimKD", {}, {"final": ((20, 4, 4), (20, 4, 4))}),
    Setting("simkd_smaller", "simkd", "distill.losses.simkd.SimKD", {"factor": 4}, {"final": ((20, 2, 2), (20, 4, 4))}),
]
