"""Corruptions: what each does to an image, and that an image is corrupted alike in any batch."""

import math
from pathlib import Path

import pytest
import torch

from distill import compose, run
from distill.config import resolved
from distill.corruption import KINDS, LEVELS, blur, brightness, contrast, corrupt, noise, pixelate
from distill.fit import folder_of, identity
from distill.trained import load


def images(n: int = 5) -> torch.Tensor:
    return torch.randint(256, (n, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_corrupt__is_of_the_image_alone(kind: str) -> None:
    whole = corrupt(images(), kind, 3, torch.arange(5))
    assert whole.dtype == torch.uint8
    assert not torch.equal(whole, images())
    order = torch.tensor([3, 0])
    assert torch.equal(corrupt(images()[order], kind, 3, order), whole[order])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pixelate"])  # whose grids may fit badly
def test_corrupt__more_is_further_away(kind: str) -> None:
    coarse = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = (255 * torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)).to(torch.uint8)
    changed = [corrupt(smooth, kind, level, torch.arange(5)) for level in (1, 3, 5)]
    away = [(image.float() - smooth.float()).square().mean().item() for image in changed]
    assert away[0] < away[1] < away[2]


def test_noise__is_gaussian() -> None:
    drawn = noise(torch.zeros(40, 3, 32, 32), 3, torch.arange(40)).flatten()
    assert drawn.mean().item() == pytest.approx(0, abs=3 * 0.06 / math.sqrt(len(drawn)))
    assert drawn.std().item() == pytest.approx(0.06, rel=0.01)
    assert (drawn.abs() < 0.06).float().mean().item() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.005)


def test_blur__spreads_a_point_by_its_sigma() -> None:
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    spread = blur(point, 5, torch.zeros(1, dtype=torch.int64))[0, 0].double()
    assert spread.sum().item() == pytest.approx(1, abs=1e-6)
    place = torch.arange(21.0).double() - 10
    assert (spread.sum(0) * place**2).sum().item() == pytest.approx(1.5**2, rel=0.05)
    torch.testing.assert_close(spread, spread.T)


def test_contrast_brightness_pixelate__by_hand() -> None:
    none, pair = torch.zeros(1, dtype=torch.int64), torch.tensor([0.2, 0.6]).view(1, 1, 1, 2)
    torch.testing.assert_close(contrast(pair, 2, none).flatten(), torch.tensor([0.26, 0.54]))
    torch.testing.assert_close(brightness(pair, 2, none).flatten(), torch.tensor([0.32, 0.72]))
    coarse = pixelate(torch.arange(4.0).view(1, 1, 1, 4), 5, none)
    torch.testing.assert_close(coarse.flatten(), torch.tensor([0.5, 0.5, 2.5, 2.5]))


@pytest.mark.parametrize("kind, level", [("fog", 3), ("noise", 0), ("noise", LEVELS + 1)])
def test_corrupt__refuses_what_there_is_not(kind: str, level: int) -> None:
    with pytest.raises(ValueError, match="choose noise, blur, contrast, brightness, pixelate, at level 1 to 5"):
        corrupt(images(), kind, level, torch.arange(5))


def test_train__tests_under_corruption_where_asked(tmp_path: Path) -> None:
    plain = [
        "seeds=1",
        "alone=false",
        "teacher=[]",
        "loss=[ce]",
        "trainer.max_epochs=1",
        "quiet=true",
        f"out={tmp_path}",
    ]
    (record,) = run(compose([*plain, "corruptions=true"])).arms["alone"]
    found = record["test"]["corrupted"]
    assert list(found) == [*KINDS, "mean"]
    assert found["mean"] == pytest.approx(sum(found[kind] for kind in KINDS) / len(KINDS))
    loaded = load(folder_of(record["config"]))
    assert loaded.corrupted() == pytest.approx(found)
    assert identity(compose([*plain, "corruptions=false"])) != identity(record["config"])
    before = {k: v for k, v in compose(plain).items() if k != "corruptions"}
    assert identity(resolved(before)) == identity(resolved(compose(plain)))
