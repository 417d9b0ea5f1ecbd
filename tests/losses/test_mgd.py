"""MGD against loops over channels and pixels, with the mask given; and what is drawn."""

import pytest
import torch
from torch import Tensor, nn

from distill.losses.mgd import MGD, mgd
from distill.outputs import Batch, Outputs, Spec


def convolved(maps: Tensor, layer: nn.Conv2d) -> Tensor:
    weight, bias = layer.weight.double(), layer.bias.double()
    samples, width, height, length = maps.shape
    rows = []
    for n in range(samples):
        for o in range(width):
            for i in range(height):
                for j in range(length):
                    total = bias[o]
                    for a in (-1, 0, 1):
                        for b in (-1, 0, 1):
                            if 0 <= i + a < height and 0 <= j + b < length:
                                total = total + maps[n, :, i + a, j + b] @ weight[o, :, a + 1, b + 1]
                    rows.append(total)
    return torch.stack(rows).view(samples, width, height, length)


@pytest.mark.parametrize("shape, mask", [((2, 3, 3, 2), (2, 1, 3, 2)), ((1, 2, 2, 2), (1, 2, 1, 1))])
def test_mgd__value_and_gradient(shape: tuple[int, ...], mask: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    width = shape[1]
    generate = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
    student, teacher, kept = (
        torch.randn(shape, requires_grad=True),
        torch.randn(shape),
        (torch.rand(mask) > 0.4).float(),
    )
    exact = student.detach().double().requires_grad_()
    hidden = convolved(exact * kept.double(), generate[0]).clamp(min=0)
    made = convolved(hidden, generate[2])
    expected = sum(((made[n] - teacher[n].double()) ** 2).sum() for n in range(shape[0])) / shape[0]
    value = mgd(student, teacher, kept, generate)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


class Keep(nn.Module):
    """Stands for the generator and shows what it was given."""

    def forward(self, maps: Tensor) -> Tensor:
        self.seen = maps.detach()
        return maps


@pytest.mark.parametrize("strict, shape", [(False, (64, 1, 16, 16)), (True, (64, 8, 1, 1))])
def test_forward__masks_the_ratio_of_pixels_or_channels(strict: bool, shape: tuple[int, ...]) -> None:
    loss = MGD("a", "b", ratio=0.3, strict_reference=strict)
    loss.prepare({"a": Spec((8, 16, 16))}, {"b": Spec((8, 16, 16))})
    loss.generate = Keep()
    ones, zero = torch.ones(64, 8, 16, 16), torch.zeros(64, dtype=torch.int64)
    torch.manual_seed(0)
    logits, batch = torch.zeros(64, 5), Batch(torch.zeros(64, 3, 4, 4), zero, zero, zero)
    value = loss(Outputs(logits, {"a": ones}), Outputs(logits, {"b": ones}), batch)
    seen = loss.generate.seen
    reduced = seen.amax(1, keepdim=True) if not strict else seen.amax((2, 3), keepdim=True)
    assert reduced.shape == shape
    assert torch.equal(reduced.expand_as(seen), seen)
    assert (seen == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert value.item() == pytest.approx((seen == 0).sum().item() / 64, rel=1e-5)


def test_forward__nothing_masked_and_generated_as_is_is_zero_at_the_teacher() -> None:
    loss = MGD("a", "b", ratio=0.0)
    loss.prepare({"a": Spec((2, 4, 4))}, {"b": Spec((2, 4, 4))})
    loss.generate = nn.Identity()
    feature, logits, zero = torch.randn(3, 2, 4, 4), torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64)
    batch = Batch(torch.zeros(3, 3, 4, 4), zero, zero, zero)
    assert loss(Outputs(logits, {"a": feature}), Outputs(logits, {"b": feature}), batch) == 0


def test_prepare__tokens_are_generated_on_their_grid() -> None:
    loss = MGD("a", "b")
    loss.prepare({"a": Spec((3, 8, 8))}, {"b": Spec((17, 6))})
    logits, zero = torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64)
    student, teacher = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(2, 17, 6)
    batch = Batch(torch.zeros(2, 3, 4, 4), zero, zero, zero)
    torch.manual_seed(0)
    value = loss(Outputs(logits, {"a": student}), Outputs(logits, {"b": teacher}), batch)
    teacher[:, 0] += 5  # the class token stands on no pixel
    torch.manual_seed(0)
    assert loss(Outputs(logits, {"a": student}), Outputs(logits, {"b": teacher}), batch) == value


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_init__ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(ValueError, match=f"ratio must be in .0, 1., got {ratio:g}"):
        MGD(ratio=ratio)


def test_prepare__a_vector_cannot_be_generated() -> None:
    with pytest.raises(ValueError, match="choose a map or tokens"):
        MGD("a", "b").prepare({"a": Spec((3, 8, 8))}, {"b": Spec((6,))})
