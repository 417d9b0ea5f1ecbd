"""Signatures that are read from source, beside those that Python finds when it imports the same thing."""

import inspect
import re
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill import imported, reading
from distill.kinds import Kind, accepts, describe, flat
from distill.packages import Missing, Unreadable
from distill.places import CONF
from distill.signatures import makes, mistakes, signature
from distill.source import Defined, find

WRITTEN = re.compile(r"_target_: *([\w.]+)")
TARGETS = sorted({name for path in CONF.rglob("*.yaml") for name in WRITTEN.findall(path.read_text())})
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def read(name: str) -> reading.Signature:
    found = find(name)
    assert isinstance(found, Defined)
    return reading.signature(found)


def spelt(kind: Kind) -> Any:
    """Return a kind as plain values that do not depend on how a union was nested or ordered."""
    parts = list(flat(kind))
    literals = {("literal", v) for part in parts if part.form == "literal" for v in part.values}
    rest = {(p.form, tuple(map(spelt, p.inner)), p.values) for p in parts if p.form != "literal"}
    return frozenset(literals | rest)


@pytest.mark.parametrize("name", TARGETS)
def test_signature__as_python_finds_it(name: str) -> None:
    target = imported.located(name)
    known = inspect.signature(target).parameters
    found = read(name)
    assert list(found.parameters) == [n for n, p in known.items() if p.kind in NAMED]
    assert found.anything == any(p.kind is p.VAR_KEYWORD for p in known.values())
    for argument, parameter in found.parameters.items():
        assert parameter.required == (known[argument].default is inspect.Parameter.empty), argument
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # names that are imported for type checkers only, of which source knows more
        return
    for argument, parameter in found.parameters.items():
        assert spelt(parameter.kind) == spelt(imported.kind(hints.get(argument, Any))), argument


def test_signature__of_what_is_shipped_needs_no_import() -> None:
    code = f"""
import sys
from distill import reading
from distill.source import find
for name in {TARGETS!r}: reading.signature(find(name))
print(sorted({{"torch", "pytorch_lightning", "timm", "distill.losses"}} & set(sys.modules)))
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SOURCES = {
    "own/__init__.py": """
from .deep.inner import Base as Renamed
from own.functions import plain
from .stars import *
""",
    "own/functions.py": """
from __future__ import annotations
import functools
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Optional, Union, TYPE_CHECKING
if TYPE_CHECKING:
    from collections.abc import Sequence
    from own.deep.inner import Base
Size = Union[int, tuple[int, int]]

def keeps(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def changes(function):
    return lambda other: function

def plain(a: int, /, b: "float | None", *rest: int, c: Optional[Literal["x", 3]] = None, **more) -> None: ...
@keeps
def kept(size: Size, names: Sequence[str], base: Base, path: Path, share: Annotated[float, "share"] = 0.5) -> None: ...
@changes
def changed(a: int) -> None: ...
made = functools.partial(kept, size=3)
number = 3
""",
    "own/deep/inner.py": """
from abc import ABC
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar
T = TypeVar("T")

class Base(ABC, Generic[T]):
    def __init__(self, low: int, high: float = 1.0) -> None: ...

@dataclass(kw_only=True)
class Fields:
    limit: ClassVar[int] = 3
    size: int
    names: list[str] = field(default_factory=list)
    hidden: int = field(init=False, default=1)
""",
    "own/stars.py": """
from own.deep.inner import Base, Fields
from dataclasses import dataclass
class Left(Base): ...
class Right(Base):
    def __init__(self, other: bool) -> None: ...
class Both(Left, Right): ...
@dataclass(kw_only=True)
class More(Fields):
    extra: float
    size: float = 2.0
class Made(type):
    def __call__(cls, hidden: int): ...
class Meta(metaclass=Made): ...
class Nothing: ...
""",
}


@pytest.fixture
def own(importable: Path) -> Callable[[str], reading.Signature]:
    """Return a reader of signatures in a package that lies in the test's folder."""
    for name, text in SOURCES.items():
        (importable / name).parent.mkdir(parents=True, exist_ok=True)
        (importable / name).write_text(text)
    return read


UNDERSTOOD = ["plain", "functions.kept", "Renamed", "Left", "Right", "More", "deep.inner.Fields", "Nothing"]


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_signature__of_a_package_of_the_user(name: str, own: Callable[[str], reading.Signature]) -> None:
    found = own(f"own.{name}")
    assert "own" not in sys.modules
    known = inspect.signature(imported.located(f"own.{name}")).parameters
    expected = {n: p.default is p.empty for n, p in known.items() if p.kind in NAMED}
    assert {n: p.required for n, p in found.parameters.items()} == expected
    assert found.anything == any(p.kind is p.VAR_KEYWORD for p in known.values())


def test_signature__kinds(own: Callable[[str], reading.Signature]) -> None:
    kept = own("own.functions.kept").parameters
    words = {name: describe(parameter.kind) for name, parameter in kept.items()}
    assert words == {
        "size": "a whole number or a list of 2 values", "names": "a list",
        "base": "a node with the _target_ of a Base", "path": "a path", "share": "a number",
    }  # fmt: skip
    assert describe(own("own.plain").parameters["c"].kind) == "one of x, 3 or null"
    assert accepts(kept["size"].kind, [3, 4], makes)
    assert not accepts(kept["size"].kind, [3], makes)
    assert accepts(kept["base"].kind, {"_target_": "own.Both"}, makes)
    assert accepts(kept["base"].kind, {"_target_": "own.plain"}, makes)
    assert not accepts(kept["base"].kind, {"_target_": "own.More"}, makes)
    assert not accepts(kept["share"].kind, {"_target_": "own.Left"}, makes)


def test_signature__order_of_inheritance(own: Callable[[str], reading.Signature]) -> None:
    assert list(own("own.Both").parameters) == ["other"]
    assert list(inspect.signature(imported.located("own.Both")).parameters) == ["other"]


@pytest.mark.parametrize("name", ["functions.changed", "functions.made", "Meta", "functions.number"])
def test_signature__that_source_does_not_say(name: str, own: Callable[[str], reading.Signature]) -> None:
    with pytest.raises(Unreadable):
        own(f"own.{name}")
    if name == "functions.number":
        with pytest.raises(ImportError, match="is no class or function"):
            signature(f"own.{name}")
    else:
        assert signature(f"own.{name}") == imported.signature(imported.located(f"own.{name}"))


@pytest.mark.parametrize(
    "name, words",
    [
        ("own.deep.inner.Bas", "own.deep.inner has no Bas; did you mean own.deep.inner.Base?"),
        ("own.deeep.inner.Base", "own has no deeep; did you mean own.deep?"),
        ("owm.Base", "there is no module owm; correct the name"),
        ("own.deep", "is no class or function"),
        ("own.deep/inner", "is no dotted name"),
        ("math.sqroot", "math has no sqroot; did you mean math.sqrt?"),
    ],
)
def test_signature__of_no_such_name(name: str, words: str, own: Callable[[str], reading.Signature]) -> None:
    with pytest.raises(ImportError, match=re.escape(words)):
        signature(name)


def test_mistakes__of_a_class_without_arguments(own: Callable[[str], reading.Signature]) -> None:
    assert list(mistakes({"_target_": "own.Nothing", "x": 1}, "key")) == [
        "key.x=1: own.Nothing has no such argument; remove it"
    ]


def test_signature__follows_a_file_that_changes(own: Callable[[str], reading.Signature], tmp_path: Path) -> None:
    assert list(own("own.Left").parameters) == ["low", "high"]
    (tmp_path / "own/deep/inner.py").write_text("class Base:\n    def __init__(self, width): ...\nclass Fields: ...\n")
    assert list(own("own.Left").parameters) == ["width"]


def test_find__names_what_is_missing() -> None:
    with pytest.raises(Missing, match=r"torch\.optim has no SDG"):
        find("torch.optim.SDG")
