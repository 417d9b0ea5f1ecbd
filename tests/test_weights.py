"""Weights are read from every common wrapping, refused with one sentence where they do not fit, and never executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill import weights


class Payload:
    def __reduce__(self) -> tuple:
        return os.system, ("touch executed",)


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "opt": {"lr": 0.1}},
        lambda s: {"net": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {**{f"student.network.{k}": v for k, v in s.items()}, "objective.x": torch.ones(1)}},
    ],
)
def test_load__every_wrapping(net: nn.Module, tmp_path: Path, wrap) -> None:
    state = {k: v.clone() for k, v in net.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pth")
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    weights.load(other, tmp_path / "w.pth")
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())


def test_load__safetensors(net: nn.Module, tmp_path: Path) -> None:
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    weights.load(other, tmp_path / "w.safetensors")
    assert torch.equal(other[0].weight, net[0].weight)


def test_load__another_shape_names_parameter_and_both_shapes(net: nn.Module, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"0\.weight is \(4, 3\) there and \(5, 3\) here"):
        weights.load(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)), tmp_path / "w.pth")


def test_load__missing_and_unknown_parameters_are_named(net: nn.Module, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"1 missing, such as 2\.weight; .* unknown, such as 1\.weight"):
        weights.load(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)), tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
def test_read__truncated_and_foreign_files(net: nn.Module, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        weights.read(path)
    path.write_text("not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read"):
        weights.read(path)


def test_read__code_in_a_pickle_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(ValueError, match="cannot be read"):
            weights.read(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_read__no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        weights.read(tmp_path / "none.pth")
