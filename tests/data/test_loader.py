"""Samplers: sharing, no duplicates, resuming; the loader in this process and in workers."""

from collections.abc import Callable, Iterator

import pytest
import torch

from distill.data import loader
from distill.data.augment import CropFlip
from distill.data.base import Views
from distill.data.images import ArrayImages
from distill.data.loader import EvalSampler, Loader, Pace, TrainLoader, TrainSampler
from distill.outputs import Batch

Place = Callable[[int, int], None]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return lambda rank, world: monkeypatch.setattr(loader, "place", lambda: (rank, world))


def views(n: int = 53) -> Views:
    images = torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Views(ArrayImages(images, torch.arange(n) % 5), CropFlip(1, flip=True), seed=3)


def train_loader(workers: int = 0, n: int = 53, batch_size: int = 8) -> TrainLoader:
    return TrainLoader(views(n), TrainSampler(n, batch_size, seed=3), workers)


def batches(loader: TrainLoader) -> Iterator[Batch]:
    for plan in loader:
        made = loader.dataset
        assert isinstance(made, Views)
        yield from plan.batches or made.chunk(plan).batches


def order(loader: TrainLoader) -> list[list[int]]:
    return [b.index.tolist() for b in batches(loader)]


@pytest.mark.parametrize("size", [16, 64, 67, 65])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_train_sampler__ranks_share_each_global_batch(place: Place, size: int, world: int) -> None:
    sampler = TrainSampler(size, 16, seed=0)
    whole = [[i for i, _ in batch] for batch in sampler]
    sampler.set_epoch(2)
    assert [[v for _, v in b] for b in sampler] == [[2] * len(b) for b in whole]
    sampler.set_epoch(0)
    shares = []
    for rank in range(world):
        place(rank, world)
        shares.append([[i for i, _ in batch] for batch in sampler])
        assert len(sampler) == len(shares[-1])
    assert len({len(s) for s in shares}) == 1
    for number, parts in enumerate(zip(*shares, strict=True)):
        assert len({len(p) for p in parts}) == 1
        joined = sum(parts, [])
        assert joined == whole[number][: len(whole[number]) // world * world]
    seen = [i for s in shares for b in s for i in b]
    assert len(seen) == len(set(seen)) == size // world * world


def test_train_sampler__refuses_a_batch_that_does_not_divide(place: Place) -> None:
    place(0, 3)
    with pytest.raises(ValueError, match=r"dataset.batch_size=16 .* 3 devices together: choose a multiple of 3"):
        list(TrainSampler(64, 16, seed=0))
    with pytest.raises(ValueError, match="too few for 3 devices"):
        len(TrainSampler(2, 15, seed=0))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_eval_sampler__every_sample_once_in_order(place: Place, world: int) -> None:
    seen, whole = [], []
    for rank in range(world):
        place(rank, world)
        sampler = EvalSampler(53, 8, sharded=True)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        seen += [k for b in batches for k in b]
        whole.append([k for b in EvalSampler(53, 8, sharded=False) for k in b])
    assert seen == [(i, 0) for i in range(53)]
    assert all(w == seen for w in whole)


def test_loader__workers_make_the_same_batches() -> None:
    here, there = train_loader(0), train_loader(2)
    for epoch in range(2):
        here.sampler.set_epoch(epoch)
        there.sampler.set_epoch(epoch)
        pairs = list(zip(batches(here), batches(there), strict=True))
        assert len(pairs) == len(here) == 7
        for a, b in pairs:
            assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
            assert a.view.tolist() == [epoch] * len(a.target)


def test_loader__target_and_pixels_belong_to_the_index() -> None:
    data = views()
    split = data.split
    for batch in Loader(Views(split, None, 0), EvalSampler(53, 8, sharded=False), 0):
        assert torch.equal(batch.inputs, split.gather(batch.index))
        assert torch.equal(batch.target, batch.index % 5)
        assert batch.view.tolist() == [0] * len(batch.target)


def test_loader__leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    order(train_loader(0))
    order(train_loader(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [0, 1, 6, 7])
def test_train_loader__resumes_after_any_step(workers: int, step: int) -> None:
    unbroken = train_loader()
    unbroken.sampler.set_epoch(4)
    expected = order(unbroken)
    unbroken.sampler.set_epoch(5)
    following = order(unbroken)

    broken = train_loader(workers)
    broken.sampler.set_epoch(4)
    begun = iter(broken)
    for _ in range(step):
        next(begun)
    state = broken.state_dict()
    assert state["given"] == step

    resumed = train_loader(workers)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.sampler.set_epoch(4)
    assert len(resumed) == 7
    assert order(resumed) == expected[step:]
    assert resumed.state_dict()["given"] == 7
    assert order(resumed) == expected
    resumed.sampler.set_epoch(5)
    assert resumed.state_dict()["given"] == 0
    assert order(resumed) == following


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("pace", "pieces"),
    [(Pace(3), [3, 3, 1]), (Pace(50), [7]), (Pace(4, cut=3), [3, 1, 2, 1]), (Pace(4, limit=5), [4, 1]),
     (Pace(4, limit=0.5), [3]), (Pace(4, limit=0.01), [1])],
)  # fmt: skip
def test_train_loader__pieces_hold_the_same_batches(workers: int, pace: Pace, pieces: list[int]) -> None:
    whole = order(train_loader())
    loader = TrainLoader(views(), TrainSampler(53, 8, seed=3), workers, pace)
    plans = list(loader)
    assert [len(p.batches or p.indices) for p in plans] == pieces
    assert len(loader) == len(pieces)
    assert [p.first for p in plans] == [sum(pieces[:i]) for i in range(len(pieces))]
    assert {p.total for p in plans} == {sum(pieces)}
    assert order(loader) == whole[: sum(pieces)]


def test_train_loader__refuses_a_position_by_other_pieces() -> None:
    state = TrainLoader(views(), TrainSampler(53, 8, seed=3), 0, Pace(4)).state_dict()
    with pytest.raises(ValueError, match="4 steps at a time, this one takes 1: set trainer.log_every_n_steps"):
        train_loader().load_state_dict(state)


def test_train_loader__resumes_on_another_number_of_devices(place: Place) -> None:
    expected = order(train_loader(n=64))[3:]
    saved = train_loader(n=64)
    begun = iter(saved)
    for _ in range(3):
        next(begun)
    state = saved.state_dict()
    parts = []
    for rank in range(2):
        place(rank, 2)
        resumed = train_loader(n=64)
        resumed.load_state_dict(state)
        parts.append(order(resumed))
    assert [a + b for a, b in zip(*parts, strict=True)] == expected


@pytest.mark.parametrize(("n", "batch_size", "key"), [(53, 4, "dataset.batch_size=4"), (54, 8, "train images=54")])
def test_train_loader__refuses_a_position_in_another_order(n: int, batch_size: int, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key}, but the checkpoint was saved inside an epoch"):
        train_loader(n=n, batch_size=batch_size).load_state_dict(train_loader().state_dict())
