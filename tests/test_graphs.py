"""A replayed step is the step: the same bits as without a recording, whatever a run asks for beside it.

Every loss is replayed in tests/losses/test_training.py. Recordings are made by tests/replaying.py here, which does on a
CPU what a CUDA graph does; those marked gpu are CUDA's.
"""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import get_class
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.assemble import assemble
from distill.commands.train import explain
from distill.config import CONF, ConfigError, compose, resolved
from distill.fit import LAST, STUDENT, fit, folder_of
from distill.modules import graphs
from distill.modules.graphs import Graphs, NotRecordable, make_recordable
from distill.records import Record
from distill.schedules.adaptive import Adaptive
from tests.replaying import record
from tests.test_resume import exact, killed_at

SMALL = [
    "trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.batch_size=64", "dataset.train_size=600",
    "dataset.val_fraction=0.1", "quiet=true",
]  # fmt: skip
TEACHER = ["teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built"]
# an epoch is 9 batches, the last of 28 images: 1 to 7 are plain
DROPOUT = [
    "student._target_=tests.networks_for_tests.dropout_mlp", "+student.hidden=32", "~student.width",
    "~student.channels",
]  # fmt: skip
ADAPTIVE = [
    path for path in (CONF / "scheduler").glob("*_temperature.yaml")
    if issubclass(get_class(yaml.safe_load(path.read_text())["temperature"]["_target_"]), Adaptive)
]  # fmt: skip
STILL = ["scheduler=[]", "loss.kd.temperature=4", "lr_scheduler=constant"]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Graphs]:
    """Record on the CPU; give every maker of recordings that a training has."""
    found: list[Graphs] = []
    whole = Graphs.__init__

    def init(self: Graphs, *arguments: Any) -> None:
        whole(self, *arguments)
        found.append(self)

    monkeypatch.setattr(Graphs, "__init__", init)
    monkeypatch.setitem(graphs.RECORDERS, "cpu", record)
    torch.set_num_threads(1)
    return found


def trained(out: Path, *overrides: str) -> tuple[Record, dict[str, Tensor]]:
    taught = [] if "teacher=[]" in overrides else TEACHER
    cfg = resolved(compose([*SMALL, *taught, f"out={out}", *overrides]))
    return fit(cfg, [], "graph"), load_file(folder_of(cfg) / STUDENT)


def same(one: tuple[Record, dict[str, Tensor]], other: tuple[Record, dict[str, Tensor]]) -> None:
    assert exact(one[0]["history"]) == exact(other[0]["history"])
    for name, value in one[1].items():
        assert torch.equal(value, other[1][name]), name


@pytest.mark.parametrize(
    ("overrides", "recordings"),
    [
        ([], 2),  # the temperature moves at every epoch
        (STILL, 1),
        (DROPOUT, 2),
        *(
            pytest.param(overrides, 2, marks=pytest.mark.slow)
            for overrides in (
                [*STILL, "lr_scheduler=cosine"],
                ["optimizer=adamw"],
                ["trainer.gradient_clip_val=0.1"],
                ["ema_decay=0.9"],
                ["cache=on"],
                ["trainer.precision=bf16-mixed"],
                ["dataset/mix=mixup"],
                ["teacher=[]", "loss=[ce]", "scheduler=[]"],
                ["scheduler=[cosine_temperature,warmup]", "loss.kd.weight=${scheduler.warmup}"],
            )
        ),
    ],
    ids=str,
)
def test_replay__gives_the_bits_of_a_step(
    overrides: list[str], recordings: int, tmp_path: Path, made: list[Graphs]
) -> None:
    plain = trained(tmp_path / "plain", *overrides)
    assert not made
    same(plain, trained(tmp_path / "graph", *overrides, "graph=true"))
    assert (made[0].recordings, made[0].replays) == (recordings, 14)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in ADAPTIVE))
def test_replay__temperatures_of_each_step(name: str, tmp_path: Path, made: list[Graphs]) -> None:
    overrides = [f"scheduler=[{name}]", "trainer.max_epochs=3"]
    same(trained(tmp_path / "plain", *overrides), trained(tmp_path / "graph", *overrides, "graph=true"))
    assert made[0].replays == 21


@pytest.mark.slow
def test_replay__several_teachers(tmp_path: Path, made: list[Graphs]) -> None:
    two = ["teacher=[digits_cnn,resnet8]", "teacher.resnet8.checkpoint=built"]
    for average in ("logits", "probabilities"):
        both = [*two, f"teacher_average={average}"]
        same(trained(tmp_path / "plain", *both), trained(tmp_path / "graph", *both, "graph=true"))
    assert [one.replays for one in made] == [14, 14]


@pytest.mark.parametrize("terms", ["ce", "ce,mlkd"])
@pytest.mark.slow
def test_replay__goes_on_after_a_kill(terms: str, tmp_path: Path) -> None:
    words = [f"loss=[{terms}]", "graph=true", "checkpoint_every=3", *DROPOUT]
    plain = [word for word in words if word != "graph=true"]
    cfg = resolved(compose([*SMALL, *TEACHER, f"out={tmp_path / 'broken'}", *words]))
    assert killed_at(6, signal.SIGKILL, cfg) == -signal.SIGKILL
    assert (folder_of(cfg) / LAST).is_file()
    again = fit(cfg, [], "again"), load_file(folder_of(cfg) / STUDENT)
    same(trained(tmp_path / "plain", *plain), again)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["trainer.devices=2"], "trainer.devices=2: graph=true records steps of one device; set graph=false"),
        (["trainer.precision=16-mixed"], "trainer.precision=16-mixed: .* take bf16-mixed or 32"),
        (["trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches: .* set it to 1, or graph=false"),
        (["compile=true"], "compile=true: .* take compile=true or graph=true"),
        (["control=shuffled_teacher"], "control=shuffled_teacher: .* set graph=false"),
        (["schedule_interval=step"], "schedule_interval=step: kd.temperature moves with every step"),
        (["optimizer=dot"], "optimizer: DOT takes gradients apart, .* set graph=false"),
        *((["loss=[ce," + name + "]"], f"loss.{name}: decides on the host") for name in ("crd", "seed", "compress")),
        (["student=resnet8", "teacher=[resnet14]", "loss=[ce,ofd]"], "loss.ofd: decides on the host"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_refused__before_training(overrides: list[str], says: str) -> None:
    taught = [] if any(word.startswith("teacher=") for word in overrides) else TEACHER
    with pytest.raises(ConfigError, match=says):
        assemble(resolved(compose([*SMALL, *taught, "graph=true", *overrides])))


def test_refused__without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(graphs.RECORDERS, "cpu")
    with pytest.raises(ConfigError, match="graph=true: records steps of a CUDA device, .* set graph=false"):
        assemble(resolved(compose([*SMALL, *TEACHER, "graph=true"])))


def test_record__a_network_that_asks_for_a_number_is_named(tmp_path: Path) -> None:
    student = ["student._target_=tests.networks_for_tests.asking", "~student.width", "~student.channels"]
    with pytest.raises(
        NotRecordable, match="this training step cannot be recorded .*reads a number.* set graph=false"
    ) as raised:
        trained(tmp_path, *student, "graph=true")
    assert explain(raised.value) == (1, str(raised.value))  # one sentence, no traceback


class Counting(torch.optim.SGD):
    """Counts its steps in a number of the host."""

    def step(self, closure: Any = None) -> None:
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1


def test_make_recordable__an_optimizer_that_counts_on_the_host_is_refused() -> None:
    layer = nn.Linear(2, 2)
    optimizer = Counting(layer.parameters(), lr=0.1, momentum=0.9)
    make_recordable(optimizer)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(NotRecordable, match="Counting keeps 'count' on the host"):
        make_recordable(optimizer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "overrides",
    [[], ["optimizer=adamw"], DROPOUT, ["ema_decay=0.9"], ["cache=on"], ["trainer.precision=bf16-mixed"]],
    ids=str,
)
def test_replay__of_cuda_gives_the_weights_of_a_step(overrides: list[str], tmp_path: Path, made: list[Graphs]) -> None:
    overrides = ["trainer.accelerator=gpu", *overrides]
    plain = trained(tmp_path / "plain", *overrides)
    graph = trained(tmp_path / "graph", *overrides, "graph=true")
    assert (made[0].recordings, made[0].replays) == (2, 14)
    for name, value in plain[1].items():
        assert torch.allclose(value, graph[1][name], rtol=1e-3, atol=1e-4), name
    assert graph[0]["history"][-1]["train/loss"] == pytest.approx(plain[0]["history"][-1]["train/loss"], rel=1e-3)
