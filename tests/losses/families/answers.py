"""Settings of the losses over answers and over what a question looks at."""

from .setting import Setting

MAPS = {"stage3": ((12, 4, 4), (20, 4, 4))}
TAPS = {"student_tap": "stage3", "teacher_tap": "stage3"}
ATTENTION = "distill.losses.attention_kl.AttentionKL"

ANSWERS: list[Setting] = [
    Setting("bce", "bce", "distill.losses.bce.BCE", {}, {}),
    Setting("bce_mean", "bce", "distill.losses.bce.BCE", {"scale": "mean"}, {}),
    Setting("answer_bce", "answer_bce", "distill.losses.answer_bce.AnswerBCE", {}, {}),
    # any map that is not below 0 is attention once it is normalised, and its channels are heads
    Setting("attention_kl", "attention_kl", ATTENTION, TAPS, MAPS),
    Setting("attention_kl_adapter", "attention_kl", ATTENTION, {**TAPS, "heads": "adapter"}, MAPS),
    Setting(
        "attention_kl_cosine",
        "attention_kl",
        ATTENTION,
        {"student_tap": "stage3", "teacher_tap": "stage2", "heads": "cosine"},
        {"stage2": ((6, 8, 8), (10, 8, 8)), **MAPS},
    ),
]
