"""Digits are scikit-learn's, read without importing it."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from distill.data import digits


def test_table__is_what_scikit_learn_loads() -> None:
    data = load_digits()
    table = digits._table()
    assert (table[:, :-1] == data.data).all()
    assert (table[:, -1] == data.target).all()


def test_table__where_the_file_is_kept_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    known = digits._table()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert np.array_equal(digits._table(), known)
