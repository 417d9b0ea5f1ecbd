"""Loss: one named term of the objective; a pure function with its connectors and hyper-parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from distill.grafts import Wish
from distill.outputs import Batch, Outputs, Spec, Specs, TrainingSet
from distill.schedules.adaptive import Adaptive
from distill.schedules.base import Schedule, trajectory

View = Callable[[Batch], Tensor]
"""Makes the images ``(M, C, H, W)`` of a further view from a batch; a pure function of it."""


class Loss(nn.Module, ABC):
    """Base of every loss.

    The constructor takes tap names and hyper-parameters; a scalar hyper-parameter may be a number or a
    :class:`~distill.schedules.base.Schedule`: it is stored under its own name, and the objective replaces
    the attribute by the schedule's current value, so ``forward`` only ever sees numbers.

    Attributes:
        reads_teacher: False for losses such as cross-entropy that need no teacher; then ``teacher`` may be None.
        mixes: False for losses that ask for the one class of each image, which a mixed image has not.
        recordable: False for losses whose next computation Python decides, such as by a number read from a tensor;
            all others can be part of a recorded step (``graph=true``): they change tensors in place, if any.
    """

    reads_teacher: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    recordable: ClassVar[bool] = True

    def __init__(self) -> None:
        # without this a loss that has no argument would show the *args, **kwargs of nn.Module as its schema
        super().__init__()

    def student_taps(self) -> tuple[str, ...]:
        """Names of the student features that ``forward`` reads."""
        return ()

    def teacher_taps(self) -> tuple[str, ...]:
        """Names of the teacher features that ``forward`` reads."""
        return ()

    def views(self) -> Mapping[str, View]:
        """Return further views of a batch that student and teacher are to see with it, in the same forward pass.

        Their outputs come to ``forward`` as ``student.views[name]``. Losses that name the same view share it.
        """
        return {}

    def grafts(self) -> Wish | None:
        """Return what is to be grafted on the student's network before it is read; None for most losses."""
        return None

    def prepare(self, student: Specs, teacher: Specs) -> None:  # noqa: B027 - most losses have no connector
        """Build connectors from the shapes of the outputs; called once, before the optimiser is made.

        Raises:
            ValueError: when two taps cannot be connected; names both taps and their shapes.
        """

    def meet(self, data: TrainingSet) -> None:  # noqa: B027 - most losses look at one batch at a time
        """Learn what is trained on, for a memory of every sample; called once, after :meth:`prepare`.

        Raises:
            ValueError: when the loss cannot work with it.
        """

    @abstractmethod
    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Return the value of the term, a float32 scalar averaged over the batch."""


def require_positive(name: str, value: float | Schedule | Adaptive) -> None:
    """Refuse a number, a schedule that ever takes one, or an adaptive temperature that can, that is not above zero.

    Raises:
        ValueError: names the hyper-parameter and the offending value.
    """
    low = value.low if isinstance(value, Adaptive) else min(trajectory(value))
    if not low > 0:
        raise ValueError(f"{name} must be above 0, got {low:g}")


def number(value: float | Schedule) -> float:
    """Return a hyper-parameter as the number that the objective has put in the place of its schedule.

    Raises:
        TypeError: when it is still a schedule, because no objective has set the progress.
    """
    if isinstance(value, Schedule):
        raise TypeError(f"{type(value).__name__} has no value yet; put the loss in an Objective, which sets it")
    return float(value)


def require_teacher(teacher: Outputs | None) -> Outputs:
    """Return the teacher's outputs of a loss that cannot do without them.

    Raises:
        ValueError: when there are none.
    """
    if teacher is None:
        raise ValueError("this loss compares with a teacher and there is none; choose one with teacher=...")
    return teacher


def find_spec(specs: Specs, name: str, side: str) -> Spec:
    """Return the shape of one output, ``side`` being ``"student"`` or ``"teacher"``.

    Raises:
        ValueError: when there is no such output, or no teacher at all.
    """
    if not specs:
        raise ValueError(f"this loss needs a {side} and there is none; choose one with {side}=...")
    if name not in specs:
        raise ValueError(f"the {side} gives no {name!r}; it gives {', '.join(specs)}")
    return specs[name]


def require_same_classes(student: Specs, teacher: Specs) -> None:
    """Refuse logits of different numbers of classes.

    Raises:
        ValueError: names both numbers.
    """
    mine, other = find_spec(student, "logits", "student").shape, find_spec(teacher, "logits", "teacher").shape
    if mine != other:
        raise ValueError(
            f"the student's logits have shape {mine} and the teacher's {other}; both need the classes of the dataset"
        )


def require_others(student: Specs, method: str) -> None:
    """Refuse logits of a single class, where a method looks at the classes beside the target.

    Raises:
        ValueError: names the method.
    """
    if find_spec(student, "logits", "student").shape[-1] < 2:
        raise ValueError(f"{method} compares a class with the others and needs at least 2 classes, got 1")
