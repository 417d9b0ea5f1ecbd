"""Settings of the losses that read intermediate features, sample by sample."""

from .setting import Setting

TWO = {"student_taps": ["stage2", "stage3"], "teacher_taps": ["stage2", "stage3"]}
BEFORE = {"student_taps": ["stage2_preact", "stage3_preact"], "teacher_taps": ["stage2_preact", "stage3_preact"]}
LAST = {"student_taps": ["stage3"], "teacher_taps": ["stage3"]}
POOLED = {"student_taps": ["pooled"], "teacher_taps": ["pooled"]}
MAPS = {"stage2": ((6, 8, 8), (10, 8, 8)), "stage3": ((12, 4, 4), (20, 4, 4))}
PREACTS = {f"{tap}_preact": shapes for tap, shapes in MAPS.items()}
DEEP = {"stage3": MAPS["stage3"]}

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
    Setting("at", "at", "distill.losses.at.AT", TWO, MAPS),
    Setting("at_reference", "at", "distill.losses.at.AT", {**TWO, "strict_reference": True}, MAPS),
    Setting("nst", "nst", "distill.losses.nst.NST", TWO, MAPS),
    Setting(
        "fsp", "fsp", "distill.losses.fsp.FSP", TWO, {"stage2": ((6, 8, 8), (6, 8, 8)), "stage3": ((12, 4, 4),) * 2}
    ),
    Setting("ab", "ab", "distill.losses.ab.AB", BEFORE, PREACTS),
    Setting("ft", "ft", "distill.losses.ft.FT", {}, DEEP),
    Setting("ft_reference", "ft", "distill.losses.ft.FT", {"strict_reference": True, "factor": 200.0}, DEEP),
    Setting("ofd", "ofd", "distill.losses.ofd.OFD", {**BEFORE, "margin_batches": 2}, PREACTS),
    Setting("vid", "vid", "distill.losses.vid.VID", TWO, MAPS),
    Setting("vid_fixed", "vid", "distill.losses.vid.VID", {**LAST, "train_variance": False}, DEEP),
    Setting("feature", "feature", "distill.losses.feature.Feature", TWO, MAPS),
    Setting("feature_cosine", "feature", "distill.losses.feature.Feature", {**LAST, "distance": "cosine"}, DEEP),
    Setting(
        "feature_pooled",
        "feature",
        "distill.losses.feature.Feature",
        {**POOLED, "distance": "smooth_l1", "beta": 2.0},
        {"pooled": ((12,), (20,))},
    ),
    Setting("cka", "cka", "distill.losses.cka.CKA", LAST, DEEP),
    Setting("cka_unbiased", "cka", "distill.losses.cka.CKA", {**POOLED, "unbiased": True}, {"pooled": ((12,), (20,))}),
    Setting("simkd", "simkd", "distill.losses.simkd.SimKD", {}, {"final": ((20, 4, 4), (20, 4, 4))}),
    Setting("simkd_smaller", "simkd", "distill.losses.simkd.SimKD", {"factor": 4}, {"final": ((20, 2, 2), (20, 4, 4))}),
]
