"""Settings of the losses that read logits only."""

from typing import Any

from .setting import CLASSES, Setting


def inside(target: str, **arguments: Any) -> dict[str, Any]:
    """Return the node of a loss inside another one."""
    return {"_target_": f"distill.losses.{target}", **arguments}


LOGITS = [
    Setting("ce", "ce", "distill.losses.ce.CE", {}, {}),
    Setting("ce_smooth", "ce", "distill.losses.ce.CE", {"label_smoothing": 0.1}, {}),
    Setting("kd", "kd", "distill.losses.kd.KD", {"temperature": 4.0}, {}),
    Setting("kd_plain", "kd", "distill.losses.kd.KD", {"temperature": 1.0, "t2": False}, {}),
    Setting("dkd", "dkd", "distill.losses.dkd.DKD", {"temperature": 4.0, "beta": 2.0}, {}),
    Setting("dist", "dist", "distill.losses.dist.DIST", {"temperature": 4.0}, {}),
    Setting("dist_cold", "dist", "distill.losses.dist.DIST", {"temperature": 1.0, "gamma": 2.0}, {}),
    Setting("logit_mse", "logit_mse", "distill.losses.logit_mse.LogitMSE", {}, {}),
    Setting("nkd", "nkd", "distill.losses.nkd.NKD", {"temperature": 3.0, "gamma": 3.5}, {}),
    Setting("wsld", "wsld", "distill.losses.wsld.WSLD", {"temperature": 2.0}, {}),
    Setting("lskd", "lskd", "distill.losses.lskd.LSKD", {"loss": inside("kd.KD", temperature=2.0, t2=True)}, {}),
    Setting("lskd_dkd", "lskd", "distill.losses.lskd.LSKD", {"loss": inside("dkd.DKD", temperature=2.0, beta=2.0)}, {}),
    Setting("lskd_dist", "lskd", "distill.losses.lskd.LSKD", {"loss": inside("dist.DIST", temperature=2.0)}, {}),
    Setting("ttm", "ttm", "distill.losses.ttm.TTM", {"temperature": 10.0}, {}),
    Setting("wttm", "wttm", "distill.losses.wttm.WTTM", {"temperature": 5.0}, {}),
    Setting("rkl", "rkl", "distill.losses.rkl.RKL", {"temperature": 4.0}, {}),
    Setting("jsd", "jsd", "distill.losses.jsd.JSD", {"temperature": 4.0}, {}),
    Setting("jsd_low", "jsd", "distill.losses.jsd.JSD", {"temperature": 1.0, "beta": 0.1}, {}),
    Setting("tv", "tv", "distill.losses.tv.TV", {"temperature": 1.0}, {}),
    Setting("soft_ce", "soft_ce", "distill.losses.soft_ce.SoftCE", {"temperature": 4.0}, {}),
    Setting("tfkd", "tfkd", "distill.losses.tfkd.TfKD", {"temperature": 20.0}, {}),
    Setting("tfkd_reference", "tfkd", "distill.losses.tfkd.TfKD", {"temperature": 20.0, "strict_reference": True}, {}),
    Setting(
        "sdd",
        "sdd",
        "distill.losses.sdd.SDD",
        {"temperature": 4.0},
        {"pool:in@fc": ((CLASSES, 4, 4), (CLASSES, 4, 4))},
    ),
]
