"""Settings of the losses over images and their captions, which the student embeds itself."""

from tests.fake_clip import DATA, TEACHER

from .setting import Setting

TAPS = {"image_embedding": ((12,), (12,)), "text_embedding": ((12,), (12,)), "scale": ((), ())}
READS = (
    "student=clip_small", "student.patch=8", "student.width=16", "student.depth=1", "student.heads=2",
    "student.text_width=16", "student.text_depth=1", "student.dim=12",
    "dataset._target_=tests.data.captioned.Captioned",
)  # fmt: skip
CAPTIONS = [
    Setting("contrastive", "contrastive", "distill.losses.contrastive.Contrastive", {}, TAPS, networks=READS),
    Setting(
        "contrastive_class", "contrastive", "distill.losses.contrastive.Contrastive", {"positives": "class"}, TAPS,
        networks=READS,
    ),
    Setting("siglip", "siglip", "distill.losses.siglip.SigLIP", {}, TAPS, networks=READS),
    Setting(
        "clip_ensemble", "clip_ensemble", "distill.losses.clip_ensemble.CLIPEnsemble",
        {"teachers": ["resnet14"], "scale": 20.0}, TAPS, networks=(*READS, *TEACHER, *DATA),
    ),
]  # fmt: skip
