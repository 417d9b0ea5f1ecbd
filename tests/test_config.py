"""Configs laid over each other."""

from distill.config import merged


def test_merged__key_by_key() -> None:
    assert merged({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}, "c": 5}) == {"a": {"x": 1, "y": 4}, "b": 3, "c": 5}


def test_merged__another_target_takes_its_own_arguments_only() -> None:
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
    adamw = {"_target_": "torch.optim.AdamW", "lr": 0.001}
    assert merged({"optimizer": sgd}, {"optimizer": adamw}) == {"optimizer": adamw}
    assert merged({"optimizer": sgd}, {"optimizer": {"lr": 0.2}})["optimizer"] == {**sgd, "lr": 0.2}
    assert merged({"optimizer": sgd}, {"optimizer": {**sgd, "lr": 0.2}})["optimizer"] == {**sgd, "lr": 0.2}
