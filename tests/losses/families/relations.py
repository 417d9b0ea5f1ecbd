"""Settings of the losses that compare samples with each other, in a batch or a memory."""

from .setting import Setting

RELATIONS: list[Setting] = []
