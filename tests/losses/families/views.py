"""Settings of the losses that look at further views of each image."""

from .setting import Setting

VIEWS: list[Setting] = []
