"""Settings of the losses that compare samples with each other, in a batch or a memory."""

from .setting import Setting

MAPS = {"stage3": ((12, 4, 4), (20, 4, 4))}
VECTORS = {"pooled": ((12,), (20,))}

RELATIONS = [
    Setting("sp", "sp", "distill.losses.sp.SP", {}, MAPS, any_shape=True),
    Setting("pkt", "pkt", "distill.losses.pkt.PKT", {}, VECTORS, any_shape=True),
    Setting("pkt_strict", "pkt", "distill.losses.pkt.PKT", {"strict_reference": True}, VECTORS, any_shape=True),
    Setting("rkd", "rkd", "distill.losses.rkd.RKD", {}, VECTORS, any_shape=True),
    Setting("rkd_vertices", "rkd", "distill.losses.rkd.RKD", {"vertices": 3}, VECTORS, any_shape=True, trained=False),
    Setting("cc", "cc", "distill.losses.cc.CC", {"dim": 8}, VECTORS),
    Setting("cc_strict", "cc", "distill.losses.cc.CC", {"dim": 8, "strict_reference": True}, VECTORS, ordered=True),
    Setting("ickd", "ickd", "distill.losses.ickd.ICKD", {}, MAPS),
    Setting("crd", "crd", "distill.losses.crd.CRD", {"dim": 8, "negatives": 7}, VECTORS),
    Setting(
        "crd_relax",
        "crd",
        "distill.losses.crd.CRD",
        {"dim": 8, "negatives": 2, "mode": "relax", "class_aware": False, "temperature": 0.5},
        VECTORS,
    ),
    Setting("seed", "seed", "distill.losses.seed.SEED", {"queue": 16, "tau_teacher": 0.1}, VECTORS),
    Setting("compress", "compress", "distill.losses.compress.CompRess", {"queue": 16}, VECTORS),
    Setting("compress_two", "compress", "distill.losses.compress.CompRess", {"queue": 16, "queues": 2}, VECTORS),
]
