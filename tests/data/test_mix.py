"""Mixing one image at a time by the papers' formulas, and its draws against scipy's quantiles."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.data.augment import CropFlip
from distill.data.base import Views
from distill.data.images import ArrayImages
from distill.data.mix import CutMix, Either, Mixing, Mixup, SymmetricBeta
from tests.data.test_augment import images, keys


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 0.5, 0.8, 1.0, 1.5, 2.0, 8.0, 32.0, 100.0])
def test_symmetric_beta__has_scipys_quantiles(alpha: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    u = torch.cat([torch.linspace(0, 1, 4001).double()[:-1], torch.tensor([1e-12, 1 - 1e-12], dtype=torch.float64)])
    found = SymmetricBeta(alpha)(u)
    assert torch.equal(found, found.clamp(0, 1))
    expected = stats.beta(alpha, alpha).ppf(u.numpy())
    assert np.abs(found.numpy() - expected)[1:].max() < 5e-6
    assert found[0] < 1e-3  # quantile 0 of a large alpha, whose distribution function is 0 in float64 for a while


def test_symmetric_beta__of_one_is_even() -> None:
    u = torch.rand(1000, dtype=torch.float64)
    assert torch.equal(SymmetricBeta(1.0)(u), u)


@pytest.mark.parametrize("alpha", [0.0, -1.0, 101.0, math.nan])
def test_symmetric_beta__refuses_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"mix.alpha={alpha:g}: must be above 0"):
        Mixup(alpha)


def test_mixup__blends_each_pair() -> None:
    x, y = images(60), images(60).flip(0)
    mixup = Mixup(0.3)
    params = mixup.sample(0, *keys(60), 60, x.shape[1:])
    out = mixup.apply(x, y, params)
    assert out.dtype == torch.float32
    assert (out.min() >= 0, out.max() <= 1) == (True, True)
    for a, b, share, got in zip(x.double(), y.double(), params.share.tolist(), out, strict=True):
        torch.testing.assert_close(got.double(), (share * a + (1 - share) * b) / 255, rtol=1e-6, atol=1e-7)


def test_cutmix__pastes_the_papers_box_and_shares_by_what_was_pasted() -> None:
    x, y = images(300), images(300) ^ 255
    view, index = keys(300)
    cutmix = CutMix(1.0)
    params = cutmix.sample(4, view, index, 300, x.shape[1:])
    out = cutmix.apply(x, y, params)
    assert out.dtype == torch.uint8
    even = Mixup(1.0).sample(4, view, index, 300, x.shape[1:]).share.double()  # drawn before the box is cut off
    for i in range(300):
        top, left, bottom, right = params.box[i].tolist()
        expected = x[i].clone()
        expected[:, top:bottom, left:right] = y[i, :, top:bottom, left:right]
        assert torch.equal(out[i], expected)
        pasted = (out[i] != x[i]).all(0).double().mean()
        assert params.share[i].item() == pytest.approx(1 - pasted.item(), abs=1e-6)
        tall, wide = (int(size * math.sqrt(1 - even[i])) // 2 * 2 for size in (8, 10))
        assert (0 <= top <= bottom <= 8, 0 <= left <= right <= 10) == (True, True)
        assert (bottom - top <= tall, right - left <= wide) == (True, True)
        if top > 0 and bottom < 8 and left > 0 and right < 10:
            assert (bottom - top, right - left) == (tall, wide)
    assert len({tuple(box) for box in params.box.tolist()}) > 100


def test_either__mixes_each_image_in_one_way() -> None:
    x, y = images(2000), images(2000).flip(0)
    view, index = keys(2000)
    parts = [Mixup(0.4), CutMix(1.0)]
    either = Either(parts, [0.5, 0.3])
    params = either.sample(0, view, index, 2000, x.shape[1:])
    out = either.apply(x, y, params)
    own = [part.sample(0, view, index, 2000, x.shape[1:]) for part in parts]
    mixed = [parts[0].apply(x, y, own[0]), parts[1].apply(x, y, own[1]).float() / 255, x.float() / 255]
    shares = [own[0].share, own[1].share, torch.ones(2000)]
    kind = torch.stack([(out - m).flatten(1).abs().amax(1) for m in mixed]).argmin(0)
    for i in range(2000):
        torch.testing.assert_close(out[i], mixed[kind[i]][i])
        assert params.share[i] == shares[kind[i]][i]
    assert (torch.bincount(kind) / 2000).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.05)


@pytest.mark.parametrize("mixing", [Mixup(0.2), CutMix(1.0), Either([Mixup(0.2), CutMix(1.0)], [0.5, 0.5])])
def test_mixing__is_the_same_for_any_batch_and_order(mixing: Mixing) -> None:
    view, index = keys(50)
    whole = mixing.sample(5, view, index, 1000, (3, 8, 10))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    for a, b in zip(mixing.sample(5, view[order], index[order], 1000, (3, 8, 10)), whole, strict=True):
        assert torch.equal(a, b[order])
    partners = mixing.sample(5, *keys(20_000), 1000, (3, 8, 10)).partner
    assert sum((c - 20) ** 2 / 20 for c in torch.bincount(partners, minlength=1000).tolist()) < 1143  # 0.1 %, 999 d. f.
    assert not torch.equal(mixing.sample(5, view + 1, index, 1000, (3, 8, 10)).partner, whole.partner)


def views(mix: Mixing | None, augment: CropFlip | None) -> Views:
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Views(ArrayImages(pixels, torch.arange(40) % 5), augment, 3, mix)


@pytest.mark.parametrize("augment", [None, CropFlip(2, flip=True)])
def test_views__mix_with_the_partners_own_view(augment: CropFlip | None) -> None:
    mixing = CutMix(1.0)
    index, view = torch.arange(10, 30), torch.full((20,), 7)
    batch = views(mixing, augment).make(index, view)
    params = mixing.sample(3, view, index, 40, (3, 8, 8))
    plain = views(None, augment)
    own, partners = plain.make(index, view), plain.make(params.partner, view)
    assert torch.equal(batch.inputs, mixing.apply(own.inputs, partners.inputs, params))
    assert batch.mix is not None
    assert torch.equal(batch.mix.target, partners.target)
    assert torch.equal(batch.mix.share, params.share)
    assert torch.equal(batch.view, view)
    assert torch.equal(batch.target, own.target)
    assert own.mix is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mixing", [Mixup(0.2), CutMix(1.0), Either([Mixup(0.2), CutMix(1.0)], [0.5, 0.5])])
def test_mixing__is_equal_on_a_gpu(mixing: Mixing) -> None:
    x = images(2000)
    view, index = keys(2000)
    here = mixing.sample(1, view, index, 2000, x.shape[1:])
    there = mixing.sample(1, view.cuda(), index.cuda(), 2000, x.shape[1:])
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))
    mixed: Tensor = mixing.apply(x.cuda(), x.flip(0).cuda(), there)
    assert torch.equal(mixed.cpu(), mixing.apply(x, x.flip(0), here))


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [([0.5], "one number for each of 2 parts"), ([0.8, 0.3], "sum to at most 1"), ([-0.1, 0.5], "not be negative")],
)
def test_either__refuses_what_are_no_probabilities(probabilities: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=rf"mix.probabilities=\[.*\]: must .*{message}|{message}"):
        Either([Mixup(0.2), CutMix(1.0)], probabilities)
