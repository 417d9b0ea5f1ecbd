"""Controls: what a student is told instead of its teacher's outputs, and what the record says of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.check import problems
from distill.comparison import alone, teacher_config
from distill.config import compose, fingerprint, resolved
from distill.fit import fit, identity, label
from distill.modules import tally
from distill.modules.controls import controlled, derangement
from distill.modules.graphs import Given
from distill.modules.steps import Steps
from distill.outputs import Outputs
from distill.together import fit_together

CONTROLS = ["shuffled_teacher", "uniform_teacher", "random_teacher"]
SMALL = [
    "trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.batch_size=64", "dataset.train_size=200",
    "dataset.val_fraction=0", "quiet=true", "teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built",
    "data_seed=0",
]  # fmt: skip


def config(out: Path, *overrides: str) -> dict[str, Any]:
    return resolved(compose([*SMALL, f"out={out}", *overrides]))


def outputs(samples: int = 8) -> Outputs:
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(samples, 3, 4, 4, generator=random).to(memory_format=torch.channels_last)
    return Outputs(2 + 3 * torch.randn(samples, 5, generator=random), {"a": maps, "b": maps.mean((2, 3))})


@pytest.mark.parametrize("samples", [2, 3, 64])
def test_derangement__moves_every_sample(samples: int) -> None:
    found = [derangement(samples, seed, torch.device("cpu")) for seed in range(20)]
    for order in found:
        assert sorted(order.tolist()) == list(range(samples))
        assert (order != torch.arange(samples)).all()
    assert samples == 2 or len({tuple(order.tolist()) for order in found}) > 1


def test_controlled__shuffled_moves_logits_and_features_alike() -> None:
    given = outputs()
    told = controlled(given, "shuffled_teacher", 7)
    order = [int((given.logits == row).all(1).nonzero()) for row in told.logits]
    assert all(place != source for place, source in enumerate(order))
    assert all(torch.equal(told.features[name], value[order]) for name, value in given.features.items())
    assert torch.equal(given.logits, outputs().logits)
    assert torch.equal(controlled(outputs(1), "shuffled_teacher", 7).logits, outputs(1).logits)


def test_controlled__uniform_says_the_same_of_all() -> None:
    told = controlled(outputs(), "uniform_teacher", 7)
    assert torch.equal(told.logits, torch.zeros(8, 5))
    for name, value in outputs().features.items():
        torch.testing.assert_close(told.features[name], value.mean(0).expand_as(value))
        assert told.features[name].stride() == value.stride()


def test_controlled__random_has_mean_and_deviation_of_the_batch() -> None:
    given = outputs(4000)
    told = controlled(given, "random_teacher", 7)

    def alike(drawn: Tensor, value: Tensor) -> None:
        assert drawn.mean().item() == pytest.approx(value.mean().item(), abs=0.1)
        assert drawn.std().item() == pytest.approx(value.std().item(), rel=0.05)
        assert abs(torch.corrcoef(torch.stack([drawn.flatten(), value.flatten()]))[0, 1]) < 0.05

    alike(told.logits, given.logits)
    alike(told.features["a"], given.features["a"])
    assert controlled(outputs(1), "random_teacher", 7).logits.isfinite().all()


@pytest.mark.parametrize("control", CONTROLS)
def test_controlled__depends_on_the_seed_and_on_no_other_tap(control: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    told, less = controlled(outputs(), control, 7), outputs()
    del less.features["a"]
    assert torch.equal(controlled(less, control, 7).features["b"], told.features["b"])
    assert torch.equal(controlled(outputs(), control, 7).logits, told.logits)
    assert torch.equal(controlled(outputs(), control, 8).logits, told.logits) == (control == "uniform_teacher")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("control", CONTROLS)
def test_fit__agreement_is_with_what_the_teacher_said(
    control: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    said, learned = [], tally.Seen.__new__
    given = ["loss=[ce,kd,fitnet]", f"control={control}"]
    if control == "random_teacher":
        given += ["+teacher.other=${teacher.digits_cnn}", "loss.fitnet.teacher_tap=other/stage2"]
    cfg = config(tmp_path, *given)

    def kept(cls: Any, *values: Any) -> Any:
        said.append((values[2], values[3]))
        return learned(cls, *values)

    monkeypatch.setattr(tally.Seen, "__new__", kept)
    teach = Steps._learn
    answers: list[Tensor] = []

    def watched(self: Steps, given: Given, *rest: Any) -> Any:
        answers.append(self.module.teach(given.batch).logits.argmax(1))
        return teach(self, given, *rest)

    monkeypatch.setattr(Steps, "_learn", watched)
    record = fit(cfg, [], "controlled")
    assert all(torch.equal(told, answer) for (_, told), answer in zip(said, answers, strict=True))
    agreed = sum(int((own == told).sum()) for own, told in said[4:])
    assert record["history"][-1]["train/agreement"] == pytest.approx(100 * agreed / 200)
    assert control in record["label"]


@pytest.mark.slow
def test_fit__a_control_changes_the_training_and_repeats_itself_together(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    given = [["control=none"], *([f"control={c}", "loss=[ce,kd,fitnet]"] for c in CONTROLS)]
    together = fit_together([(config(tmp_path / "together", *one), "together") for one in given], [])
    losses = []
    for one, other in zip(given, together, strict=True):
        assert isinstance(other, dict)
        losses.append(other["history"][-1]["train/loss"])
        if one[0] != "control=none":
            alone = fit(config(tmp_path / "alone", *one), [], "alone")
            assert alone["history"][-1]["train/loss"] == losses[-1]
    assert len(set(losses)) == 4


def test_identity__has_the_control_of_a_taught_student_only(tmp_path: Path) -> None:
    plain, other = config(tmp_path), config(tmp_path, "control=shuffled_teacher")
    assert fingerprint(identity(plain)) != fingerprint(identity(other))
    assert label(other) == label(plain).replace("-s0", "-shuffled_teacher-s0")
    before = dict(plain)
    del before["control"], before["term_gradients"]
    assert identity(before) == identity(plain) == identity({**plain, "term_gradients": False})
    assert identity(alone(plain, 0)) == identity(alone(other, 0))
    assert identity(teacher_config(plain, "digits_cnn")) == identity(teacher_config(other, "digits_cnn"))


def test_problems__a_control_without_a_teacher() -> None:
    cfg = compose(["control=random_teacher", "teacher=[]", "loss=[ce]"])
    sentence = "control=random_teacher: there is no teacher; choose one with teacher=..., or control=none"
    assert problems(cfg, dry_run=False) == [sentence]
