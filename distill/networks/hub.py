"""Reads of the Hugging Face hub that fail within seconds: where it does not answer, only its local cache is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

ANSWER_SECONDS = 5.0
"""How long the hub has to answer; its client would try each file for half a minute, and log every try."""


def reachable() -> bool:
    """Return whether the hub answers, by one request; False in offline mode (``HF_HUB_OFFLINE=1``)."""
    if constants.is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_SECONDS)
    except Exception:  # the client's own error types have changed with every HTTP library that it used
        return False
    return True


@contextmanager
def cache_where_unreachable() -> Iterator[None]:
    """Within this context the hub is asked only if it answers; else files come from its cache, or not at all."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
