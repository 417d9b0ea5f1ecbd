"""Settings of the losses in the embedding space of an image-text teacher."""

from tests.fake_clip import DATA, STUDENT, TEACHER, WIDTH

from .setting import Setting

NETWORKS = (*STUDENT, *TEACHER, *DATA)
VECTORS = {"image_embedding": ((WIDTH,), (WIDTH,))}
UNEVEN = {"image_embedding": ((6,), (WIDTH,))}
MAPS = {"dense": ((WIDTH, 4, 4), (WIDTH, 4, 4)), "dense_value": ((WIDTH, 4, 4), (WIDTH, 4, 4))}
COARSE = {"dense": ((WIDTH, 2, 4), (WIDTH, 2, 4)), "dense_value": ((WIDTH, 4, 3), (WIDTH, 4, 3))}
CAPTIONS = {**VECTORS, "text_embedding": ((WIDTH,), (WIDTH,))}

CROSS = [
    Setting(
        "clip_feature", "clip_feature", "distill.losses.clip_feature.CLIPFeature", {}, VECTORS, networks=NETWORKS
    ),
    Setting(
        "clip_feature_cosine", "clip_feature", "distill.losses.clip_feature.CLIPFeature", {"distance": "cosine"},
        VECTORS, trained=False,
    ),
    Setting(
        "zero_shot", "zero_shot", "distill.losses.zero_shot.ZeroShot", {"temperature": 2.0}, VECTORS,
        networks=NETWORKS, anchors=WIDTH,
    ),
    Setting(
        "map_spatial", "map_spatial", "distill.losses.map_spatial.MapSpatial", {}, MAPS, networks=NETWORKS,
        anchors=WIDTH,
    ),
    Setting(
        "map_spatial_label", "map_spatial", "distill.losses.map_spatial.MapSpatial",
        {"relevance": "label", "centred": False, "grid": "student"}, COARSE, anchors=WIDTH, trained=False,
    ),
    Setting(
        "map_spatial_top", "map_spatial", "distill.losses.map_spatial.MapSpatial",
        {"relevance": "top_k", "top_k": 3, "grid": "teacher"}, COARSE, anchors=WIDTH, trained=False,
    ),
    Setting(
        "map_semantic", "map_semantic", "distill.losses.map_semantic.MapSemantic", {}, MAPS, networks=NETWORKS,
        anchors=WIDTH,
    ),
    Setting(
        "map_semantic_front", "map_semantic", "distill.losses.map_semantic.MapSemantic",
        {"foreground": True, "scale": 10.0}, COARSE, anchors=WIDTH, trained=False,
    ),
    Setting(
        "dense_cosine", "dense_cosine", "distill.losses.dense_cosine.DenseCosine", {}, COARSE, networks=NETWORKS
    ),
    Setting("icl", "icl", "distill.losses.icl.ICL", {}, CAPTIONS, networks=NETWORKS),
    Setting(
        "icl_strict", "icl", "distill.losses.icl.ICL", {"strict_reference": True, "texts": "classes"}, VECTORS,
        networks=NETWORKS, anchors=WIDTH, trained=False,
    ),
    Setting(
        "icl_clip", "icl", "distill.losses.icl.ICL", {"student_text_tap": "text_embedding"}, CAPTIONS, trained=False
    ),
    Setting("affinity", "affinity", "distill.losses.affinity.Affinity", {}, CAPTIONS, networks=NETWORKS),
    Setting(
        "affinity_clip", "affinity", "distill.losses.affinity.Affinity", {"student_text_tap": "text_embedding"},
        CAPTIONS, trained=False,
    ),
    Setting(
        "clip_relation", "clip_relation", "distill.losses.clip_relation.CLIPRelation", {"texts": "classes"}, VECTORS,
        networks=NETWORKS, anchors=WIDTH,
    ),
    Setting(
        "clip_gradient", "clip_gradient", "distill.losses.clip_gradient.CLIPGradient", {"scale": 10.0}, CAPTIONS,
        networks=NETWORKS,
    ),
    Setting(
        "clip_gradient_strict", "clip_gradient", "distill.losses.clip_gradient.CLIPGradient",
        {"strict_reference": True, "texts": "classes"}, VECTORS, anchors=WIDTH, trained=False,
    ),
    Setting(
        "image_text_cosine", "image_text_cosine", "distill.losses.image_text_cosine.ImageTextCosine", {}, VECTORS,
        networks=NETWORKS, anchors=WIDTH,
    ),
    Setting(
        "condensed", "condensed", "distill.losses.condensed.Condensed", {"student_tap": "image_embedding"}, UNEVEN,
        networks=NETWORKS, anchors=WIDTH, trained=False,
    ),
    Setting(
        "condensed_strict", "condensed", "distill.losses.condensed.Condensed",
        {"student_tap": "image_embedding", "strict_reference": True}, UNEVEN, networks=NETWORKS, anchors=WIDTH,
    ),
]  # fmt: skip
