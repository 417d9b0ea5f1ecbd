"""Builds the cache of a teacher: its manifest from policy, teacher and data, its folder, its store."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from distill.cache import Policy, default_folder, topk
from distill.cache.layout import Layout
from distill.cache.manifest import Manifest, dataset_hash, described, tensor_hash
from distill.cache.store import GB, SMALLER, Store, say_to_stderr
from distill.cache.teacher import Cached
from distill.cache.views import Cycled, Finite, Slots
from distill.data.base import ImageData
from distill.outputs import Spec
from distill.teachers.base import Teacher


def make_slots(policy: Policy, data: ImageData) -> Slots:
    """Return the numbering of views that loader and caches share; the same for every teacher of a run.

    Args:
        policy: the config group ``cache``.
        data: of the run; its training split is cached.
    Raises:
        ValueError: when all views are wanted and there is no end of them.
    """
    samples = data.splits["train"].source_size
    if policy.views != "all":
        return Cycled(policy.views, samples)
    if data.mix is not None:
        raise ValueError(
            "cache.views=all: images that are mixed with others have no end of views; set cache.views to a number of "
            "them, such as 10"
        )
    return Finite(data.augment, (data.channels, *data.image_size), samples)


def make_manifest(policy: Policy, teacher: Teacher, data: ImageData, slots: Slots) -> Manifest:
    """Return what the cache of a teacher holds; nothing is made.

    Args:
        policy: the config group ``cache``.
        teacher: after ``read``, so that its taps are known.
        data: of the run.
        slots: as :func:`make_slots` returns it.

    Raises:
        ValueError: when a tap is no vector, or the teacher cannot be told from others.
    """
    split = data.splits["train"]
    specs = teacher.specs((data.channels, *data.image_size))
    random = isinstance(slots, Cycled)
    return Manifest(
        teacher=teacher.identity(),
        data={"hash": dataset_hash(split), "shape": "x".join(map(str, split.shape))},
        transform=f"{described(data.augment)}, mixed by {described(data.mix)}, {'drawn' if random else 'all'} views",
        # what is drawn depends on the place of a sample in the split, and a partner for mixing is one of the split
        drawn=f"seed {data.seed}, samples {tensor_hash(split.ids)}" if random else None,
        samples=slots.samples,
        views=slots.views,
        classes=specs["logits"].shape[-1],
        top_k=policy.top_k,
        fields=fields_of(policy, specs, slots),
    )


def fields_of(policy: Policy, specs: Mapping[str, Spec], slots: Slots) -> dict[str, tuple[str, int]]:
    """Return the fields of a record for a teacher's outputs.

    Raises:
        ValueError: when a tap is no vector, with the size that its cache would have; or ``top_k`` is too large.
    """
    classes = specs["logits"].shape[-1]
    if policy.top_k is not None and policy.top_k >= classes:
        raise ValueError(f"cache.top_k={policy.top_k}: must be below the {classes} classes; null keeps all logits")
    kept: dict[str, tuple[str, int]] = {"logits": (policy.dtype, classes)}
    fields = kept if policy.top_k is None else topk.fields(policy.top_k, classes, policy.dtype)
    for name, spec in specs.items():
        if name == "logits":
            continue
        if len(spec.shape) != 1:
            size = Layout({name: (policy.dtype, math.prod(spec.shape))}).words * 8 * slots.samples * slots.views
            raise ValueError(
                f"tap {name!r} is {'x'.join(map(str, spec.shape))}, and only vectors are cached: it would take "
                f"{size / GB:,.0f} GB for {slots.samples:,} samples x {slots.views} views; choose a pooled tap, or "
                "set cache=off"
            )
        fields[name] = (policy.dtype, spec.shape[0])
    return fields


def refuse(policy: Policy, teacher: Teacher, data: ImageData) -> None:
    """Look for whatever would keep a cache from being made, without making it or reading the data once more.

    Raises:
        ValueError: as :func:`make_cache`.
    """
    slots = make_slots(policy, data)
    fields = fields_of(policy, teacher.specs((data.channels, *data.image_size)), slots)
    teacher.identity()
    size = Layout(fields).words * 8 * slots.samples * slots.views / GB
    if size > policy.limit_gb:
        raise ValueError(
            f"cache.limit_gb={policy.limit_gb:g}: a teacher cache of {slots.samples:,} samples x {slots.views} views: "
            f"{size:.2f} GB is larger; raise it, or {SMALLER}"
        )


def make_cache(
    policy: Policy,
    teacher: Teacher,
    data: ImageData,
    name: str,
    say: Callable[[str], None] = say_to_stderr,
) -> Cached:
    """Return a teacher with its cache, which is made empty where there is none.

    The caller gives ``data.slots`` the ``slots`` of what is returned.

    Args:
        policy: the config group ``cache``.
        teacher: after ``read``.
        data: of the run.
        name: of the teacher, the start of the folder's name.
        say: told the size before anything is made.

    Raises:
        ValueError: when the cache cannot be made, or ``cache.folder`` is that of another one.
    """
    slots = make_slots(policy, data)
    manifest = make_manifest(policy, teacher, data, slots)
    if policy.folder is None:
        folder = default_folder() / f"{name}-{manifest.key}"
    else:
        folder = Path(policy.folder).expanduser() / (name if manifest.drawn is None else f"{name}-s{data.seed}")
    return Cached(teacher, Store.open(folder, manifest, policy.limit_gb, say), slots, data.batch_size)
