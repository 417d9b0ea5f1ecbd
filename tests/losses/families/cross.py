"""Settings of the losses in the embedding space of an image-text teacher."""

from tests.fake_clip import DATA, STUDENT, TEACHER, WIDTH

from .setting import Setting

NETWORKS = (*STUDENT, *TEACHER, *DATA)
VECTORS = {"image_embedding": ((WIDTH,), (WIDTH,))}
MAPS = {"dense": ((WIDTH, 4, 4), (WIDTH, 4, 4)), "dense_value": ((WIDTH, 4, 4), (WIDTH, 4, 4))}
COARSE = {"dense": ((WIDTH, 2, 4), (WIDTH, 2, 4)), "dense_value": ((WIDTH, 4, 3), (WIDTH, 4, 3))}
CAPTIONS = {**VECTORS, "text_embedding": ((WIDTH,), (WIDTH,))}

CROSS = [
    Setting(
        "clip_feature", "clip_feature", "distill.losses.clip_feature.CLIPFeature", {}, VECTORS, networks=NETWORKS
    ),
    Setting(
        "clip_feature_cosine", "clip_feature", "distill.losses.clip_feature.CLIPFeature", {"distance": "cosine"},
        VECTORS, networks=NETWORKS,
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
        {"relevance": "label", "centred": False, "grid": "student"}, COARSE, networks=NETWORKS, anchors=WIDTH,
    ),
    Setting(
        "map_spatial_top", "map_spatial", "distill.losses.map_spatial.MapSpatial",
        {"relevance": "top_k", "top_k": 3, "grid": "teacher"}, COARSE, networks=NETWORKS, anchors=WIDTH,
    ),
    Setting(
        "map_semantic", "map_semantic", "distill.losses.map_semantic.MapSemantic", {}, MAPS, networks=NETWORKS,
        anchors=WIDTH,
    ),
    Setting(
        "map_semantic_front", "map_semantic", "distill.losses.map_semantic.MapSemantic",
        {"foreground": True, "scale": 10.0}, COARSE, networks=NETWORKS, anchors=WIDTH,
    ),
    Setting(
        "dense_cosine", "dense_cosine", "distill.losses.dense_cosine.DenseCosine", {}, COARSE, networks=NETWORKS
    ),
]  # fmt: skip
