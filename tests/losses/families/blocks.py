"""Settings of the losses that read several stages or tokens at once."""

from .setting import Setting

BLOCKS: list[Setting] = []
