"""Networks that exist only to be distilled in tests."""

from torch import Tensor, nn


def dropout_mlp(hidden: int, num_classes: int) -> nn.Module:
    """Return a perceptron on 8x8 pixels that draws random numbers in every step."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, num_classes)
    )


def mlp(hidden: int, num_classes: int) -> nn.Module:
    """Return a perceptron on 8x8 pixels without batch statistics or random numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


class Asking(nn.Sequential):
    """Reads a number from a tensor in every step."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)
        return logits if float(logits.detach().sum()) < 1e9 else -logits


def asking(num_classes: int) -> nn.Module:
    """Return a linear classifier on 8x8 pixels whose steps no GPU can take by itself."""
    return Asking(nn.Flatten(), nn.Linear(64, num_classes))
