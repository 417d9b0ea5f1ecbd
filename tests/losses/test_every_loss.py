"""What holds for every loss, over the table of settings."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from distill.losses.base import Loss
from distill.outputs import Batch, Outputs, Spec

from .settings import SETTINGS, Setting, build, example, prepare, specs

each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.id)
each_reader = pytest.mark.parametrize("setting", [s for s in SETTINGS if build(s).reads_teacher], ids=lambda s: s.id)


def tensors(outputs: Outputs) -> Iterator[Tensor]:
    yield outputs.logits
    yield from outputs.features.values()
    for view in outputs.views.values():
        yield from tensors(view)


def mapped(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    features = {name: change(value) for name, value in outputs.features.items()}
    return Outputs(
        change(outputs.logits), features, {name: mapped(view, change) for name, view in outputs.views.items()}
    )


def assert_finite(loss: Loss, student: Outputs, teacher: Outputs, batch: Batch) -> None:
    value = loss(student, teacher, batch)
    assert value.isfinite()
    value.backward()
    leaves = [*tensors(student), *loss.parameters()]
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)
    assert any(leaf.grad is not None for leaf in leaves)


@each_setting
def test_forward__is_a_float32_scalar_in_any_precision(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    loss = prepare(setting)
    assert loss(student, teacher, batch).shape == ()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        low = [mapped(outputs, lambda value, dtype=dtype: value.to(dtype)) for outputs in (student, teacher)]
        assert loss(*low, batch).dtype == torch.float32


@each_setting
@pytest.mark.parametrize("seed", range(3))
def test_forward__saturated_outputs(setting: Setting, seed: int) -> None:
    student, teacher, batch = example(setting, seed=seed)
    with torch.no_grad():
        for outputs in (student, teacher):
            for tensor in tensors(outputs):
                tensor.copy_(1e4 * tensor.sign())
    assert_finite(prepare(setting), student, teacher, batch)


@each_setting
@pytest.mark.parametrize("which", ["both", "student", "teacher"])
def test_forward__zero_outputs(setting: Setting, which: str) -> None:
    student, teacher, batch = example(setting)
    with torch.no_grad():
        for outputs, name in ((student, "student"), (teacher, "teacher")):
            for tensor in tensors(outputs):
                tensor.mul_(0 if which in (name, "both") else 1)
    assert_finite(prepare(setting), student, teacher, batch)


@each_setting
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_forward__single_sample(setting: Setting, scale: float) -> None:
    assert_finite(prepare(setting), *example(setting, samples=1, scale=scale))


@each_setting
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_forward__batch_of_one_class(setting: Setting, scale: float) -> None:
    student, teacher, batch = example(setting, scale=scale)
    assert_finite(prepare(setting), student, teacher, batch._replace(target=torch.full_like(batch.target, 2)))


@each_setting
def test_forward__two_classes(setting: Setting) -> None:
    assert_finite(prepare(setting, classes=2), *example(setting, classes=2))


@each_setting
def test_forward__identical_samples(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    with torch.no_grad():
        for outputs in (student, teacher):
            for tensor in tensors(outputs):
                tensor.copy_(tensor[:1].expand_as(tensor).clone())
    assert_finite(prepare(setting), student, teacher, batch)


@each_setting
def test_forward__bf16_autocast_changes_nothing(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    plain = prepare(setting)(student, teacher, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prepare(setting)(student, teacher, batch)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=1e-6, atol=1e-7)


@each_setting
def test_forward__bf16_outputs_are_close(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    low = [mapped(outputs, Tensor.bfloat16) for outputs in (student, teacher)]
    torch.testing.assert_close(
        prepare(setting)(*low, batch), prepare(setting)(student, teacher, batch), rtol=5e-2, atol=5e-3
    )


@each_setting
def test_backward__reaches_student_and_connectors_only(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    for tensor in tensors(teacher):
        tensor.requires_grad_()
    loss = prepare(setting)
    loss(student, teacher, batch).backward()
    read = [student.features[t] for t in loss.student_taps()] or [student.logits]
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in read)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in loss.named_parameters() if "0.bias" not in n)
    assert all(t.grad is None for t in tensors(teacher))


@each_setting
def test_backward__after_a_teacher_under_inference_mode(setting: Setting) -> None:
    student, _, batch = example(setting)
    with torch.inference_mode():
        _, teacher, _ = example(setting, seed=1)
        teacher = mapped(teacher, Tensor.detach)
    prepare(setting)(student, teacher, batch).backward()
    grads = [tensor.grad for tensor in tensors(student) if tensor.grad is not None]
    assert any(grad.abs().sum() > 0 for grad in grads)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if not s.ordered], ids=lambda s: s.id)
def test_forward__does_not_depend_on_the_order_of_samples(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = [
        mapped(outputs, lambda value: value.unflatten(0, (-1, 6))[:, order].flatten(0, 1))
        for outputs in (student, teacher)
    ]
    torch.testing.assert_close(
        prepare(setting)(*shuffled, batch._replace(target=batch.target[order], index=batch.index[order])),
        prepare(setting)(student, teacher, batch),
        rtol=1e-5,
        atol=1e-6,
    )


@each_setting
def test_taps__are_those_of_the_setting(setting: Setting) -> None:
    loss = build(setting)
    assert {*loss.student_taps(), *loss.teacher_taps()} == set(setting.taps)


@each_setting
def test_state__connectors_are_restored(setting: Setting) -> None:
    student, teacher, batch = example(setting)
    one, other = prepare(setting, seed=1), prepare(setting, seed=2)
    one(student, teacher, batch)
    other.load_state_dict(one.state_dict())
    values = []
    for loss in (other, one):
        torch.manual_seed(0)  # as a training does in every step
        values.append(loss(student, teacher, batch))
    torch.testing.assert_close(*values, rtol=0, atol=0)


@each_reader
def test_prepare__without_a_teacher(setting: Setting) -> None:
    with pytest.raises(ValueError, match="this loss needs a teacher and there is none; choose one with teacher="):
        build(setting).prepare({**specs(setting, 0), "logits": Spec((5,))}, {})


@each_reader
def test_forward__without_a_teacher(setting: Setting) -> None:
    student, _, batch = example(setting)
    with pytest.raises(ValueError, match="there is none; choose one with teacher="):
        prepare(setting)(student, None, batch)


@pytest.mark.parametrize(
    "setting", [s for s in SETTINGS if build(s).reads_teacher and not s.any_shape], ids=lambda s: s.id
)
def test_prepare__shapes_that_do_not_meet(setting: Setting) -> None:
    mine = {**specs(setting, 0), "logits": Spec((5,))}
    other = {k: Spec((7, 41, 43, 2)) for k in setting.taps} | {"logits": Spec((9,))}
    with pytest.raises(ValueError) as caught:
        build(setting).prepare(mine, other)
    loss = build(setting)
    names = [*loss.student_taps()[:1], *loss.teacher_taps()[:1]] or ["student", "teacher"]  # of the first pair
    shapes = ["(7, 41, 43, 2)"] if setting.taps else ["(5,)", "(9,)"]
    assert all(word in str(caught.value) for word in (*names, *shapes))
    assert "\n" not in str(caught.value)
