"""Settings of the losses that read several stages or tokens at once."""

from .setting import Setting

STAGES = {"stage1": ((3, 16, 16), (5, 16, 16)), "stage2": ((6, 8, 8), (10, 8, 8)), "stage3": ((12, 4, 4), (20, 4, 4))}
PREACT = {f"{name}_preact": shapes for name, shapes in STAGES.items()}
RESNETS = ("student=resnet8", "teacher=[resnet14]", "teacher.resnet14.checkpoint=built")
VITS = (
    "student=timm", "student.name=test_vit", "teacher=[timm]", "teacher.timm.network.name=test_vit2",
    "teacher.timm.network.pretrained=false", "dataset.image_size=[32,32]",
)  # fmt: skip
LAST = {"student_tap": "blocks.5.attn.qkv", "teacher_tap": "blocks.7.attn.qkv"}
QKV = {"blocks.5.attn.qkv": ((5, 24), (5, 36)), "blocks.7.attn.qkv": ((5, 24), (5, 36))}
FIRST = {"blocks.0.attn.qkv": ((5, 24), (5, 36))}

BLOCKS: list[Setting] = [
    Setting(
        "reviewkd", "reviewkd", "distill.losses.reviewkd.ReviewKD", {}, {**STAGES, **PREACT, "pooled": ((12,), (20,))}
    ),
    Setting(
        "reviewkd_two",
        "reviewkd",
        "distill.losses.reviewkd.ReviewKD",
        {"student_taps": ["stage2", "stage3"], "teacher_taps": ["stage1", "stage3"]},
        STAGES,
    ),
    Setting("mgd", "mgd", "distill.losses.mgd.MGD", {}, {"stage3": STAGES["stage3"]}, ordered=True),
    Setting(
        "mgd_channels",
        "mgd",
        "distill.losses.mgd.MGD",
        {"student_tap": "stage2", "ratio": 0.5, "strict_reference": True},
        {"stage2": STAGES["stage2"], "stage3": STAGES["stage3"]},
        ordered=True,
    ),
    Setting("semckd", "semckd", "distill.losses.semckd.SemCKD", {"samples": 32}, STAGES, ordered=True),
    Setting(
        "semckd_cross",
        "semckd",
        "distill.losses.semckd.SemCKD",
        {"samples": 32, "student_taps": ["stage3"], "teacher_taps": ["stage1", "stage2"]},
        STAGES,
        ordered=True,
        networks=(*RESNETS, "loss.semckd.weight=4"),  # the early maps of random weights are large
    ),
    Setting("nd", "nd", "distill.losses.nd.ND", {}, {"pooled": ((12,), (20,))}),
    Setting(
        "nd_mlp",
        "nd",
        "distill.losses.nd.ND",
        {"student_tap": "stage3", "connector": "mlp"},
        {"stage3": STAGES["stage3"], "pooled": ((12,), (20,))},
    ),
    Setting("minilm", "minilm", "distill.losses.minilm.MiniLM", {**LAST, "heads": 4}, QKV, networks=VITS),
    Setting(
        "minilm_2020",
        "minilm",
        "distill.losses.minilm.MiniLM",
        {**LAST, "relations": ["qk", "vv"], "heads": 2},
        QKV,
        networks=VITS,
    ),
    Setting(
        "vit_attention",
        "vit_attention",
        "distill.losses.vit_attention.ViTAttention",
        {"student_taps": [*FIRST], "teacher_taps": [*FIRST], "student_heads": 2, "teacher_heads": 2},
        FIRST,
        networks=VITS,
    ),
    Setting(
        "vit_attention_mean",
        "vit_attention",
        "distill.losses.vit_attention.ViTAttention",
        {
            "student_taps": ["blocks.0.attn.qkv", "blocks.5.attn.qkv"],
            "teacher_taps": ["blocks.0.attn.qkv", "blocks.7.attn.qkv"],
            "student_heads": 2,
            "teacher_heads": 4,
        },
        {**FIRST, **QKV},
        networks=VITS,
    ),
]
