"""Settings of the losses that read logits only."""

from .setting import Setting

LOGITS = [
    Setting("ce", "ce", "distill.losses.ce.CE", {}, {}),
    Setting("ce_smooth", "ce", "distill.losses.ce.CE", {"label_smoothing": 0.1}, {}),
    Setting("kd", "kd", "distill.losses.kd.KD", {"temperature": 4.0}, {}),
    Setting("kd_plain", "kd", "distill.losses.kd.KD", {"temperature": 1.0, "t2": False}, {}),
    Setting("dkd", "dkd", "distill.losses.dkd.DKD", {"temperature": 4.0, "beta": 2.0}, {}),
    Setting("dist", "dist", "distill.losses.dist.DIST", {"temperature": 4.0}, {}),
    Setting("dist_cold", "dist", "distill.losses.dist.DIST", {"temperature": 1.0, "gamma": 2.0}, {}),
    Setting("logit_mse", "logit_mse", "distill.losses.logit_mse.LogitMSE", {}, {}),
]
