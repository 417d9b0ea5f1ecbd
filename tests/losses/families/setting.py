"""What one setting of one loss is."""

from typing import Any, NamedTuple

CLASSES = -1
"""In the shape of a feature: as many as there are classes."""


class Setting(NamedTuple):
    """One way to use one loss.

    Attributes:
        id: unique name, for pytest.
        name: file in ``distill/losses``, key in ``conf/loss``.
        target: the class.
        kwargs: arguments that differ from the yaml, a loss inside as its node; the taps are names of every CIFAR
            network with three stages.
        taps: shape of each feature, of the student and of the teacher, as in such a network on 16 x 16 pixels.
        views: further views that it looks at, and images of each for one of the batch.
        any_shape: the loss compares samples with each other, so features of any two shapes meet.
        ordered: the value may depend on the order of the samples in a batch, by the method or by what it draws.
        anchors: the loss reads text vectors of the classes, of this length; 0 for none.
        trained: whether it is trained, resumed and exported; False for one that differs in its formula alone.
        networks: overrides that choose student, teacher and images for a training; none for residual networks.
    """

    id: str
    name: str
    target: str
    kwargs: dict[str, Any]
    taps: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    views: dict[str, int] = {}
    any_shape: bool = False
    ordered: bool = False
    networks: tuple[str, ...] = ()
    anchors: int = 0
    trained: bool = True
