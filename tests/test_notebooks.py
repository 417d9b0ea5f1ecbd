"""Every notebook runs from top to bottom, in an empty folder, and draws as many pictures as are kept in it."""

from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def drawn(notebook: Any) -> int:
    """Return how many of the outputs of a notebook are pictures."""
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook__runs(path: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the development packages are not installed")
    nbclient = pytest.importorskip("nbclient", reason="the development packages are not installed")
    notebook = nbformat.read(path, as_version=4)
    kept = drawn(notebook)
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs").is_dir()
    assert drawn(notebook) == kept > 0
