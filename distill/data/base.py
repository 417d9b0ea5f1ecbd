"""ImageData: splits, validation, augmentation, loaders of every image dataset; a dataset only says how it is read."""

# annotations are real types here and in the datasets, not strings: the check of a config reads them from a subclass
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.cache.views import Slots
from distill.data.augment import Augment
from distill.data.decoded import resident
from distill.data.images import ArrayImages, FileImages, Images, Notes
from distill.data.keyed import uniform
from distill.data.loader import Chunk, EvalSampler, Key, Loader, Pace, Plan, TrainLoader, TrainSampler
from distill.data.mix import Mixing
from distill.data.splits import Splits, check, divide, keep_classes
from distill.outputs import Batch, Mix

__all__ = ["ArrayImages", "FileImages", "ImageData", "Images", "Notes"]


_CAPTION = 210  # stream of the draw among captions; those of augmentation and mixing are others


class Views(Dataset[Batch]):
    """A split seen through an augmentation and a mixing: makes a whole batch from a list of (index, view)."""

    def __init__(
        self, split: Images, augment: Augment | None, seed: int, mix: Mixing | None = None, slots: Slots | None = None
    ) -> None:
        self.split, self.augment, self.seed, self.mix, self.slots = split, augment, seed, mix, slots
        self.ids = split.ids

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the batch of these (index, view) pairs."""
        return self.make(*torch.tensor(keys, dtype=torch.int64).unbind(1))

    def make(self, index: Tensor, view: Tensor) -> Batch:
        """Return the batch of samples ``(N,)`` in their views ``(N,)``, on the device of the split.

        What is random is drawn on the CPU, whose arithmetic is the same everywhere; it is applied on the device.
        """
        target, asked = self.split.target, view
        if self.augment is None and self.mix is None:
            view = torch.zeros_like(index)
        elif self.slots is not None:
            view = self.slots.drawn(view)
        (images, drawn), mix = self._seen(index, view), None
        if self.mix is not None:
            params = self.mix.sample(self.seed, view, index, len(self.split), images.shape[1:])
            partners, params = self._seen(params.partner, view)[0], onto(params, target.device)
            images = self.mix.apply(images, partners, params)
            mix = Mix(target[params.partner], params.share)
        slot = None if self.slots is None else self.slots.slot(self.ids[index], view, drawn)
        where = onto(index, target.device)
        noted = self._noted(index, asked)
        return Batch(images, target[where], where, onto(view, target.device), mix, slot, *noted)

    def _noted(self, index: Tensor, view: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return text, credit by answer, and box of samples ``(N,)``; of several captions the view draws one."""
        notes, device = self.split.notes, self.split.target.device
        where = onto(index, device)
        text = scores = None
        if notes.text is not None:
            drawn = (uniform(self.seed, view, index, _CAPTION) * notes.text.shape[1]).long()
            text = notes.text[where, onto(drawn, device)]
        if notes.answers is not None and notes.credit is not None:
            answers, last = notes.answers[where], len(self.split.classes)
            scores = torch.zeros(len(index), last + 1, device=device)
            scores = scores.scatter_(1, answers % (last + 1), notes.credit[where])[:, :last]
        box = None if notes.box is None or self.augment is not None else notes.box[where]
        return text, scores, box

    def _seen(self, index: Tensor, view: Tensor) -> tuple[Tensor, Any]:
        device = self.split.target.device
        images = self.split.gather(onto(index, device))
        if self.augment is None:
            return images, None
        params = self.augment.sample(self.seed, view, index, images.shape[1:])
        return self.augment.apply(images, onto(params, device)), params

    def chunk(self, plan: Plan) -> Chunk:
        """Return the batches of a plan, gathered and augmented all at once."""
        index = torch.cat(plan.indices)
        whole = self.make(index, torch.full_like(index, plan.epoch))
        return Chunk(plan.first, plan.total, whole.split([len(part) for part in plan.indices]))


def onto(params: Any, device: torch.device) -> Any:
    """Return the parameters of an augmentation, tensors in tuples and lists, on a device."""
    if isinstance(params, Tensor):
        return params.to(device, non_blocking=True)
    if isinstance(params, list | tuple):
        moved = [onto(part, device) for part in params]
        return type(params)(*moved) if hasattr(params, "_fields") else type(params)(moved)
    return params


@dataclass(kw_only=True, eq=False, repr=False)
class ImageData(pl.LightningDataModule):
    """Base of every image dataset; a subclass implements :meth:`read`.

    A subclass with arguments of its own is a dataclass too (``kw_only=True, eq=False, repr=False``).

    Args:
        num_classes: number of classes; checked against the data, as are channels and image_size.
        channels: channels of an image.
        image_size: height and width in pixels.
        mean: mean of [0, 1] pixels by channel, for networks without their own.
        std: standard deviation by channel.
        batch_size: samples of an optimizer micro-step over all devices together.
        eval_batch_size: samples of an evaluation batch on one device.
        val_fraction: share of the training split that is held out for choosing, evenly by class; 0 for none.
        split_seed: decides which samples are held out.
        train_size: use only so many training samples, evenly by class, the held-out ones included; None for all.
        class_subset: use only these classes, renumbered: the first n, or a list of indices; None for all.
        augment: of training images; None for none.
        mix: of training images with each other, after their augmentation; None for none.
        resident_gb: encoded images that take up to this many GB when they are decoded are decoded once.
        workers: processes that make batches.
        seed: of the run: order and augmentation.

    Raises:
        ValueError: names the argument that is out of range.
    """

    num_classes: int
    channels: int
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    eval_batch_size: int
    val_fraction: float
    split_seed: int
    train_size: int | None
    class_subset: int | list[int] | None
    augment: Augment | None
    mix: Mixing | None
    resident_gb: float
    workers: int
    seed: int

    def __post_init__(self) -> None:
        super().__init__()
        least = {"num_classes": 1, "batch_size": 1, "eval_batch_size": 1, "resident_gb": 0, "workers": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"dataset.{name}={getattr(self, name)}: must be at least {low}")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"dataset.val_fraction={self.val_fraction:g}: must be in [0, 1); 0 holds nothing out")
        if self.channels not in (1, 3):
            raise ValueError(f"dataset.channels={self.channels}: must be 1 (grey) or 3 (RGB)")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ValueError(f"dataset.image_size={list(self.image_size)}: must be [height, width] in pixels")
        self.image_size = (self.image_size[0], self.image_size[1])
        self.mean, self.std = tuple(self.mean), tuple(self.std)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if len(value) != self.channels:
                raise ValueError(f"dataset.{name}={list(value)}: must be one number a channel, {self.channels}")
        self._splits: dict[str, Images] = {}
        self._texts: tuple[str, ...] = ()  # set by read() of a dataset with texts
        self.pace = Pace()
        self.recent: dict[tuple[int, int, int, torch.device], Chunk] | None = None
        self.slots: Slots | None = None  # of the teachers' caches, which number the training batches
        self._resident: tuple[torch.device, Views] | None = None

    @abstractmethod
    def read(self) -> tuple[Images, Images] | tuple[Images, Images, Images | None]:
        """Return the training and test split, and the validation split where ``own_val``."""

    @property
    def own_val(self) -> bool:
        """Whether the data bring a validation split; then ``val_fraction`` is not used."""
        return False

    @property
    def eval_names(self) -> list[str]:
        """Names of the splits that :meth:`val_dataloader` gives, in order; known without reading the data."""
        return ["val", "test"] if self.val_fraction or self.own_val else ["test"]

    @property
    def splits(self) -> dict[str, Images]:
        """Splits by name, read on first use.

        Raises:
            ValueError: when they are not what the config declares.
            FileNotFoundError: when there is nothing to read.
        """
        if not self._splits:
            self._splits = self._divided(Splits(*self.read()))
        return self._splits

    @property
    def classes(self) -> list[str]:
        """Names of the classes; their numbers where they have none."""
        return list(self.splits["train"].classes) or [str(i) for i in range(self.num_classes)]

    @property
    def texts(self) -> Sequence[str]:
        """Captions or questions of all splits, in the order of the rows that :class:`Notes` names; mostly none."""
        self.splits  # noqa: B018 - reading finds them
        return self._texts

    @property
    def kinds(self) -> Sequence[str]:
        """Names of the kinds of samples that :class:`Notes` tells apart, whose accuracy is reported; mostly none."""
        return ()

    @property
    def asks(self) -> bool:
        """Whether samples are questions, one text each, so that answers without a look at the image mean something."""
        return False

    @property
    def absent(self) -> Sequence[str]:
        """Names of the classes that need no training image, because they are there to be recognised without one."""
        return ()

    def _divided(self, found: Splits) -> dict[str, Images]:
        named = {name: split for name, split in found._asdict().items() if split is not None}
        if self.class_subset is not None:
            named = {name: keep_classes(name, split, self.class_subset) for name, split in named.items()}
        for name, split in named.items():
            check(name, split, (self.channels, *self.image_size), self.num_classes, self.absent)
        train, test, val = Splits(**{name: resident(split, self.resident_gb * 1e9) for name, split in named.items()})
        if self.train_size is not None:
            if not self.num_classes <= self.train_size <= len(train):
                raise ValueError(
                    f"dataset.train_size={self.train_size}: must be between {self.num_classes}, one of each class, "
                    f"and the {len(train)} training images there are; null uses all"
                )
            train = divide(train, self.train_size, self.split_seed + 1)[0]
        if val is None and self.val_fraction:
            val, train = divide(train, round(self.val_fraction * len(train)), self.split_seed)
            if not len(val) or not len(train):
                raise ValueError(
                    f"dataset.val_fraction={self.val_fraction:g} leaves {len(train)} training and {len(val)} "
                    "validation images; change it, or set it to 0"
                )
        return {"train": train, **({} if val is None else {"val": val}), "test": test}

    def prepare_data(self) -> None:
        """Read once on one process of a machine, so that the others find a download or a cache complete."""
        self.splits  # noqa: B018 - reading is the point

    def verify(self) -> None:
        """Read every split, and look at images that are decoded later.

        Raises:
            ValueError: when the data are not what the config declares, or an image is corrupt.
            FileNotFoundError: when there is nothing to read.
        """
        for split in self.splits.values():
            split.verify()

    def train_views(self) -> Views:
        """Return the training split as it is augmented."""
        return Views(self.splits["train"], self.augment, self.seed, self.mix, self.slots)

    def train_dataloader(self) -> TrainLoader:
        """Return augmented training batches in the order of seed and epoch, dealt to the ranks."""
        views = self.train_views()
        return TrainLoader(views, TrainSampler(len(views), self.batch_size, self.seed), self.workers, self.pace)

    def train_batches(self, epoch: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch on the CPU, for whoever trains without Lightning."""
        loader = self.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for plan in loader:
            yield from self.chunk(plan, torch.device("cpu")).batches

    def val_dataloader(self) -> list[Loader]:
        """Return a loader for each name in ``eval_names``, each sample on one rank only."""
        return [self._plain(name, sharded=True) for name in self.eval_names]

    def loader(self, split: str) -> Loader:
        """Return a whole split (train, val or test) in its own order, not augmented, on whichever rank asks.

        Raises:
            ValueError: when there is no such split.
        """
        if split not in self.splits:
            raise ValueError(f"split {split!r} does not exist; choose one of {', '.join(self.splits)}")
        return self._plain(split, sharded=False)

    def _plain(self, split: str, sharded: bool) -> Loader:
        views = Views(self.splits[split], None, self.seed)
        return Loader(views, EvalSampler(len(views), self.eval_batch_size, sharded), self.workers)

    def chunk(self, plan: Plan, device: torch.device) -> Chunk:
        """Return the batches of a plan on a device; images that are kept there are gathered and augmented there."""
        key = (plan.epoch, plan.first, len(plan.batches) or len(plan.indices), device)
        if self.recent is not None and key in self.recent:
            return self.recent[key]
        batches = plan.batches or self._on(device).chunk(plan).batches
        made = Chunk(plan.first, plan.total, [batch.to(device) for batch in batches])
        if self.recent is not None:
            self.recent.clear()
            self.recent[key] = made
        return made

    def share(self, other: "ImageData") -> None:
        """Have the images, and the batches of the moment, in common with another data module of the same config."""
        other.recent = {} if other.recent is None else other.recent
        self._splits, self._resident, self.recent = other.splits, other._resident, other.recent
        self._texts = tuple(other.texts)

    def transfer_batch_to_device(self, batch: Plan | Batch, device: torch.device, dataloader_idx: int) -> Chunk | Batch:
        """Return what a loader gave, on the device, as Lightning asks for it."""
        return self.chunk(batch, device) if isinstance(batch, Plan) else batch.to(device)

    def _on(self, device: torch.device) -> Views:
        if self._resident is None or self._resident[0] != device or self._resident[1].slots is not self.slots:
            views = self.train_views()
            if device.type == "cuda" and isinstance(views.split, ArrayImages):
                views.split = views.split.to(device)
            self._resident = (device, views)
        return self._resident[1]
