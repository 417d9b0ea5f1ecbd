"""Networks that exist only to be distilled in tests."""

from torch import nn


def dropout_mlp(hidden: int, num_classes: int) -> nn.Module:
    """Return a perceptron on 8x8 pixels that draws random numbers in every step."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, num_classes)
    )


def mlp(hidden: int, num_classes: int) -> nn.Module:
    """Return a perceptron on 8x8 pixels without batch statistics or random numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
