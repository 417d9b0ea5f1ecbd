"""Searches with Optuna: the space, the study on disk, and the pruning of trials from inside their training."""
