"""What a sample is contrasted with: never its class, every other sample equally often, whoever asks."""

import pytest
import torch

from distill.losses.contrast import Contrast

TARGET = torch.tensor([0, 2, 0, 1, 2, 2, 0, 1, 2, 0, 2, 2])


def made(mode: str = "exact", class_aware: bool = True, seed: int = 3, target: torch.Tensor = TARGET) -> Contrast:
    return Contrast(target, int(target.max()) + 1, mode, class_aware, seed)


@pytest.mark.parametrize("step", range(5))
def test_draw__other_classes_without_repeats(step: int) -> None:
    chosen = made().draw(torch.arange(12), step, 5)
    assert chosen.shape == (12, 6)
    assert chosen[:, 0].tolist() == list(range(12))
    for index, negatives in enumerate(chosen[:, 1:].tolist()):
        assert all(TARGET[n] != TARGET[index] for n in negatives)
        assert len(set(negatives)) == 5


def test_draw__all_that_there_are_and_then_again() -> None:
    chosen = made().draw(torch.tensor([3, 1]), 0, 14)
    others = [i for i in range(12) if TARGET[i] != 1]  # ten, for a sample of class 1
    assert sorted(chosen[0, 1:11].tolist()) == others
    assert chosen[0, 11:].tolist() == chosen[0, 1:5].tolist()
    assert sorted(chosen[1, 1:7].tolist()) == [i for i in range(12) if TARGET[i] != 2]


def test_draw__every_pair_of_negatives_is_as_likely() -> None:
    """A uniform draw of 2 without replacement: each of the 15 pairs of six others in 1/15 of the steps, within 5 sd."""
    contrast, index, steps = made(), torch.tensor([1]), 3000
    counts: dict[tuple[int, ...], int] = {}
    for step in range(steps):
        pair = tuple(sorted(contrast.draw(index, step, 2)[0, 1:].tolist()))
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 15
    assert all(abs(count - steps / 15) < 5 * (steps / 15 * 14 / 15) ** 0.5 for count in counts.values())


def test_draw__depends_on_the_sample_and_the_step_alone() -> None:
    contrast, order = made("relax"), torch.tensor([7, 0, 11, 4])
    whole = contrast.draw(torch.arange(12), 6, 4)
    assert torch.equal(contrast.draw(order, 6, 4), whole[order])
    assert torch.equal(made("relax").draw(order, 6, 4), whole[order])
    assert not torch.equal(contrast.draw(torch.arange(12), 7, 4), whole)
    assert not torch.equal(made("relax", seed=4).draw(torch.arange(12), 6, 4), whole)


def test_draw__relax_takes_any_of_the_class() -> None:
    contrast, index = made("relax"), torch.arange(12)
    seen = torch.stack([contrast.draw(index, step, 1)[:, 0] for step in range(200)])
    for i in range(12):
        assert set(seen[:, i].tolist()) == {j for j in range(12) if TARGET[j] == TARGET[i]}


def test_draw__not_class_aware_leaves_out_the_sample_only() -> None:
    chosen = made(class_aware=False).draw(torch.arange(12), 0, 11)
    assert [sorted(row) for row in chosen[:, 1:].tolist()] == [[j for j in range(12) if j != i] for i in range(12)]


def test_draw__a_class_without_samples() -> None:
    target = torch.tensor([0, 0, 2, 2, 4])
    chosen = made(target=target).draw(torch.arange(5), 0, 3)
    assert all(target[n] != target[i] for i, row in enumerate(chosen[:, 1:].tolist()) for n in row)
