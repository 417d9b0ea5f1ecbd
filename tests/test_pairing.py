"""What pairs of taps are proposed, and that what is to be pasted works."""

import shlex

import pytest
from torch import nn

from distill.assemble import assemble
from distill.cli import main
from distill.config import compose, resolved
from distill.connectors import connect
from distill.outputs import Spec
from distill.pairing import Pair, Tap, connector, kind, pairs, taps_of

CNN = [
    Tap("stem", "relu", Spec((16, 32, 32))),
    Tap("stage1", "layer1", Spec((16, 32, 32)), 1 / 3),
    Tap("stage2", "layer2", Spec((32, 16, 16)), 2 / 3),
    Tap("stage3", "layer3", Spec((64, 8, 8)), 1.0),
    Tap("pooled", "flatten", Spec((64,))),
]
DEEP = [
    Tap("stage1", "a", Spec((64, 64, 64)), 1 / 4),
    Tap("stage2", "b", Spec((128, 32, 32)), 2 / 4),
    Tap("stage3", "c", Spec((256, 16, 16)), 3 / 4),
    Tap("stage4", "d", Spec((512, 2, 2)), 1.0),
    Tap("pooled", "e", Spec((512,))),
]
VIT = [
    *(Tap(f"stage{i}", f"blocks.{3 * i - 1}", Spec((197, 192), (14, 14)), i / 4) for i in (1, 2, 3, 4)),
    Tap("blocks.11.attn.qkv", "blocks.11.attn.qkv", Spec((197, 576))),
    Tap("pooled", "head:in", Spec((192,))),
]


def names(found: list[Pair]) -> list[tuple[str, str, str]]:
    return [(p.student.name, p.teacher.name, p.by) for p in found]


def test_pairs__same_size_before_same_depth() -> None:
    assert names(pairs(CNN, DEEP)) == [
        ("stage1", "stage2", "regressor"),
        ("stage2", "stage3", "regressor"),
        ("stage3", "stage4", "linear"),
        ("pooled", "pooled", "linear"),
    ]


def test_pairs__map_and_tokens_by_depth() -> None:
    assert names(pairs(CNN, VIT)) == [
        ("stage1", "stage1", "linear"),
        ("stage2", "stage3", "linear"),
        ("stage3", "stage4", "linear"),
        ("pooled", "pooled", "linear"),
    ]


def test_pairs__transformers_by_their_last_attention() -> None:
    wide = [t._replace(spec=Spec((197, 3 * 320))) if t.name.endswith("qkv") else t for t in VIT]
    found = pairs(VIT, wide, "big")
    assert names(found)[-1] == ("blocks.11.attn.qkv", "blocks.11.attn.qkv", "relations")
    assert found[-1].override == (
        "'loss=[ce,minilm]' loss.minilm.student_tap=blocks.11.attn.qkv "
        "loss.minilm.teacher_tap=big/blocks.11.attn.qkv loss.minilm.heads=8"
    )
    fewer = [t._replace(spec=Spec((50, 576))) if t.name.endswith("qkv") else t for t in VIT]
    assert "relations" not in [p.by for p in pairs(VIT, fewer)]


@pytest.mark.parametrize("student, teacher", [(CNN, DEEP), (CNN, VIT), (VIT, CNN), (DEEP, CNN)])
def test_pairs__the_connector_connects(student: list[Tap], teacher: list[Tap]) -> None:
    for pair in pairs(student, teacher):
        connect(pair.student.spec, pair.teacher.spec, pair.by, pair.student.name, pair.teacher.name)
        assert f"loss.fitnet.connector={pair.by}" in pair.override


@pytest.mark.parametrize(
    "student, teacher, by",
    [
        ((3, 8, 8), (5, 4, 4), "regressor"),
        ((3, 4, 4), (5, 8, 8), "regressor"),
        ((3, 32, 32), (5, 8, 8), "linear"),
        ((3,), (5, 4, 4), "cross_attention"),
        ((3, 4, 4), (5, 4, 4, 2), None),
    ],
)
def test_connector__first_choice(student: tuple, teacher: tuple, by: str | None) -> None:
    assert connector(Spec(student), Spec(teacher)) == by


@pytest.mark.parametrize(
    "spec, words",
    [
        (Spec((3, 4, 4)), "map"),
        (Spec((17, 3)), "tokens 1+4x4"),
        (Spec((16, 3), (2, 8)), "tokens 2x8"),
        (Spec((8, 3)), "tokens"),
        (Spec((8,)), "vector"),
        (Spec(()), "other"),
    ],
)
def test_kind(spec: Spec, words: str) -> None:
    assert kind(spec) == words


def test_taps_of__network_without_names() -> None:
    taps = taps_of(nn.Sequential(nn.Linear(2, 3)), {"0": ("0", (3,))})
    assert taps == [Tap("0", "0", Spec((3,)))]
    assert pairs(taps, taps) == []


NETWORKS = [
    "dataset=synthetic", "dataset.image_size=[32,64]", "student=timm", "student.name=test_vit", "teacher=[resnet8]",
    "teacher.resnet8.checkpoint=built",
]  # fmt: skip


def test_info__overrides_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--taps", *NETWORKS]) == 0
    text = capsys.readouterr().out
    assert ["stage1", "tokens", "1+2x4", "9x64", "blocks.0"] in [line.split() for line in text.splitlines()]
    table = text.split("pairs of student and teacher.resnet8\n")[1]
    lines = [shlex.split(line) for line in table.splitlines()[1:]]
    assert [line[0] for line in lines] == [*(f"stage{i}" for i in range(1, 7)), "pooled"]
    parts = assemble(resolved(compose([*NETWORKS, *lines[1][3:], "quiet=true", "trainer.accelerator=cpu"])))
    assert parts.objective.student_taps == [lines[1][0]]
    assert parts.objective.teacher_taps == [lines[1][1]]


def test_info__nothing_to_propose(capsys: pytest.CaptureFixture[str]) -> None:
    plain = [
        "student._target_=tests.networks_for_tests.mlp",
        "~student.width",
        "~student.channels",
        "+student.hidden=4",
    ]
    assert main(["info", "--taps", *plain]) == 0
    assert "no pairs of student and teacher" in capsys.readouterr().out
