"""SimKD against a loop over every entry, and the student that it ships."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.assemble import assemble, make_network
from distill.config import ConfigError, compose, resolved
from distill.dryrun import failures
from distill.fit import LAST, STUDENT, fit, folder_of
from distill.grafts import written
from distill.losses.simkd import simkd
from distill.trained import load

DATA = [
    "dataset=synthetic", "dataset.image_size=[16,16]", "dataset.samples=64", "dataset.batch_size=32",
    "dataset.val_fraction=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "quiet=true", "loss=[simkd]",
]  # fmt: skip


def naive(student: Tensor, teacher: Tensor) -> float:
    """Mean squared difference to the mean of each block of the teacher's positions."""
    n, c, h, w = student.shape
    step = teacher.shape[2] // h
    total = 0.0
    for i in range(n):
        for k in range(c):
            for y in range(h):
                for x in range(w):
                    block = [float(teacher[i, k, y * step + a, x * step + b]) for a in range(step) for b in range(step)]
                    total += (float(student[i, k, y, x]) - sum(block) / len(block)) ** 2
    return total / (n * c * h * w)


@pytest.mark.parametrize("side", [4, 8])
def test_simkd__value_and_gradient(side: int) -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 5, side, side, dtype=torch.float64, requires_grad=True)
    value = simkd(student, teacher)
    assert float(value.detach()) == pytest.approx(naive(student.detach(), teacher.detach()), rel=1e-6)
    value.backward()
    assert teacher.grad is None
    assert student.grad is not None
    step = torch.zeros_like(student)
    step[1, 2, 3, 0] = 1e-3
    low, high = (naive(student.detach() + s * step, teacher.detach()) for s in (-1, 1))
    assert float(student.grad[1, 2, 3, 0]) == pytest.approx((high - low) / 2e-3, rel=1e-4)
    assert float(simkd(student.detach(), student.detach())) == 0


def config(student: str, teacher: str, *overrides: str) -> dict[str, Any]:
    pair = [f"student={student}", f"teacher=[{teacher}]", f"teacher.{teacher}.checkpoint=built"]
    return resolved(compose([*DATA, *pair, *overrides]))


PAIRS = [
    ("resnet8", "wrn_16_1"), ("wrn_16_1", "resnet8"), ("vgg8", "resnet8"), ("shufflenetv1", "resnet8x4"),
    ("mobilenetv2", "vgg8"), ("shufflenetv2", "resnet14"),
]  # fmt: skip


@pytest.mark.parametrize(("student", "teacher"), PAIRS, ids=lambda name: name)
def test_assemble__the_student_ends_in_the_teachers_classifier(student: str, teacher: str) -> None:
    parts = assemble(config(student, teacher))
    frozen = parts.teachers[teacher].network
    assert frozen is not None
    head = [m for m in frozen.modules() if isinstance(m, nn.Linear)][-1]
    batch = next(iter(parts.data.loader("test")))
    out = parts.student.eval()(batch.inputs)
    told = parts.teachers[teacher](batch)
    torch.testing.assert_close(out.logits, head(out.features["final"].mean((2, 3))))
    assert out.features["final"].shape[1] == told.features["final"].shape[1]
    fixed = [name for name, p in parts.student.network.named_parameters() if not p.requires_grad]
    assert len(fixed) == 2
    assert parts.graft is not None
    assert all(name.startswith(parts.graft.classifier) for name in fixed)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_assemble__the_classifier_is_the_teachers_as_it_computes(precision: str) -> None:
    parts = assemble(config("resnet8", "wrn_16_1", f"teacher.wrn_16_1.precision={precision}"))
    frozen = parts.teachers["wrn_16_1"].network
    assert frozen is not None
    mine, other = (dict(net.named_parameters())["fc.weight"] for net in (parts.student.network, frozen))
    assert torch.equal(mine, other.bfloat16().float() if precision == "bf16" else other)
    assert mine is not other


@pytest.mark.slow
def test_fit__trains_the_projector_and_ships_it_with_the_classifier(tmp_path: Path) -> None:
    cfg = config("resnet8", "wrn_16_1", f"out={tmp_path}")
    before = {k: v.clone() for k, v in assemble(cfg).student.network.state_dict().items()}
    record = fit(cfg, [], "simkd")
    after = load_file(folder_of(cfg) / STUDENT)
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert set(after) - changed == {"fc.weight", "fc.bias"}
    assert any(k.startswith("layer3.projector.") for k in changed)
    # resnet8 on three channels has 64 channels and 10 classes at its end, as the teacher has
    plain = sum(p.numel() for p in make_network(cfg["student"], "student", None).parameters())
    projector = 64 * 32 + 32 * 32 * 9 + 32 * 64 + 2 * (32 + 32 + 64)
    assert record["params"] == plain + projector

    loaded = load(folder_of(cfg))
    assert loaded.evaluate()["accuracy"] == pytest.approx(record["test"]["accuracy"])
    assert loaded.evaluate()["agreement"] == pytest.approx(record["test"]["agreement"])
    last = load(folder_of(cfg) / LAST)
    assert torch.equal(last.predict()[0], loaded.predict()[0])
    elsewhere = tmp_path / "moved.safetensors"
    elsewhere.write_bytes((folder_of(cfg) / STUDENT).read_bytes())
    alone = load(elsewhere, ["student=resnet8", *DATA[:4]])
    assert torch.equal(alone.predict()[0], loaded.predict()[0])
    with pytest.raises(ConfigError, match="grafted on 'fc' behind 'layer3', which VGG has not"):
        load(elsewhere, ["student=vgg8", *DATA[:4]])

    chained = config("resnet8", "resnet8", f"teacher.resnet8.checkpoint={elsewhere}", "loss=[ce,kd]")
    teacher = assemble(chained).teachers["resnet8"]
    batch = next(iter(loaded.data.loader("test")))
    torch.testing.assert_close(teacher(batch).logits, loaded.student(batch.inputs).logits, rtol=1e-4, atol=1e-5)


def test_assemble__names_go_on_to_stand_for_the_students_own_maps() -> None:
    parts = assemble(config("resnet8", "resnet8x4"))
    taps = parts.student.network.taps
    assert (taps["final"], taps["stage3"], taps["stage3_preact"], taps["stage2"]) == (
        "layer3", "layer3.own", "layer3.own.0.relu2:in", "layer2",
    )  # fmt: skip
    both = config("resnet8", "resnet8x4", "loss=[simkd,fitnet]", "loss.fitnet.student_tap=stage3")
    connector = assemble(both).objective.losses.get_submodule("fitnet").connector
    assert isinstance(connector, nn.Sequential)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["loss.simkd.student_tap=stage2"],
            "student's classifier 'fc' of 64 inputs does not .*student_tap 'stage2'",
        ),
        (["loss.simkd.teacher_tap=stage3"], "teacher's classifier 'fc' .* teacher_tap 'stage3' .*final in CIFAR"),
        (["loss.simkd.student_tap=pool:in"], "student_tap 'pool:in' is the input of a module"),
        (["loss.simkd.teacher_classifier=conv1"], "teacher_classifier 'conv1': no linear layer .* it has fc"),
        (["loss.simkd.factor=0"], "factor must be at least 1, got 0"),
        (["+loss.twice=${loss.simkd}"], "simkd and twice all replace the student's classifier"),
    ],
    ids=lambda o: o[0],
)
def test_assemble__refuses(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assemble(config("resnet8", "wrn_16_1", *overrides))


def test_assemble__of_several_teachers_one_is_named() -> None:
    cfg = config("resnet8", "wrn_16_1")
    cfg["teacher"]["other"] = cfg["teacher"]["wrn_16_1"]
    cfg["loss"]["simkd"]["teacher_tap"] = "other/final"
    assert assemble(cfg).graft is not None


def test_failures__none_in_a_dry_run() -> None:
    cfg = compose([*DATA, "student=resnet8", "teacher=[resnet14]", "teacher.resnet14.checkpoint=built"])
    assert failures(cfg, set()) == []


def test_written__refuses_what_is_no_graft() -> None:
    for text in ('{"tap": "fc"}', "[]", '{"_target_": "os.system"}'):
        with pytest.raises(ValueError, match="cannot be read"):
            written(text)
