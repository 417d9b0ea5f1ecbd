"""`distill info`: counts and shapes that can be worked out by hand."""

import pytest

from distill.cli import main


def test_info__counts_and_taps_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "student.width=4", "teacher=[]"]) == 0
    out = capsys.readouterr().out
    # 3x3 convolutions 1->4 and 4->8, two batch norms, a linear layer with bias
    assert f"parameters {9 * 4 + 2 * 4 + 9 * 4 * 8 + 2 * 8 + 8 * 10 + 10:,} " in out
    # multiply-adds: 64 pixels of the first convolution, 16 of the second, the classifier
    assert f"multiply-adds {(64 * 9 * 4 + 16 * 9 * 4 * 8 + 80) / 1000:.3g} k" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["stage1", "4x8x8", "stage1"] in lines
    assert ["stage2", "8x4x4", "stage2"] in lines
    assert ["pooled", "8", "pooled"] in lines
    assert "teacher" not in out


def test_info__student_and_teachers_on_other_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "student=resnet20", "teacher=[resnet56,vgg8]", "dataset=cifar100"]) == 0
    out = capsys.readouterr().out
    for text in ("student: resnet20", "278,324", "teacher.resnet56: resnet56", "861,620", "teacher.vgg8: vgg8"):
        assert text in out


def test_info__all_lists_module_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "student.width=4", "teacher=[]", "--all"]) == 0
    assert ["stage1.0", "4x8x8"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "typed, words",
    [
        (["student=resnet2"], ["student=resnet2", "resnet20"]),
        (["dataset=image_folder"], ["dataset.num_classes", "set it"]),
        (["student=vgg8", "dataset.image_size=[2,2]", "teacher=[]"], ["student: cannot process images of 1x2x2"]),
    ],
)
def test_info__mistakes(typed: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *typed]) == 2
    head, sentence = capsys.readouterr().err.strip().splitlines()
    assert head == "1 mistake, no network was built:"
    assert all(word in sentence for word in words), sentence


def test_info__a_network_that_reads_before_it_meets_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "student=vqa_small", "teacher=[vqa]", "dataset=shapes_vqa"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["attention", "2x8x8", "attention"] in lines
    assert ["attention", "4x8x8", "attention"] in lines
