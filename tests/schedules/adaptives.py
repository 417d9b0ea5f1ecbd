"""One table of the temperatures that look at a batch, for the tests that hold for all of them."""

from collections.abc import Callable

from distill.schedules.adaptive import Adaptive
from distill.schedules.certainty import Certainty
from distill.schedules.ctkd import CTKD
from distill.schedules.ctkd_instance import InstanceCTKD
from distill.schedules.dtkd import DTKD
from distill.schedules.entropy_match import EntropyMatch
from distill.schedules.gap import Gap
from distill.schedules.max_logit import MaxLogit

ADAPTIVES: dict[str, tuple[Callable[[], Adaptive], float, float]] = {
    "ctkd": (CTKD, 1.0, 21.0),
    "instance": (InstanceCTKD, 1.0, 21.0),
    "confidence": (Certainty, 1.0, 8.0),
    "entropy": (lambda: Certainty(by="entropy", invert=True), 1.0, 8.0),
    "margin": (lambda: Certainty(by="margin"), 1.0, 8.0),
    "max_logit": (MaxLogit, 1.0, 20.0),
    "max_logit_separate": (lambda: MaxLogit(separate=True), 1.0, 20.0),
    "dtkd": (DTKD, 0.5, 7.5),
    "entropy_match": (EntropyMatch, 1.0, 20.0),
    "entropy_match_separate": (lambda: EntropyMatch(separate=True), 1.0, 20.0),
    "gap": (Gap, 1.0, 5.0),
    "gap_agreement": (lambda: Gap(by="agreement", batches=1), 1.0, 5.0),
}
"""How each is made, and its bounds."""


def made(name: str, classes: int = 5) -> Adaptive:
    """Return a temperature that is ready for so many classes."""
    adaptive = ADAPTIVES[name][0]()
    adaptive.prepare(classes)
    return adaptive
