"""`distill info`: parameters, FLOPs and taps of the student and the teachers of a config; or the page of methods."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distill import memo

if TYPE_CHECKING:
    from distill.config import Config
    from distill.pairing import Tap

HELP = """\
Prints parameters, FLOPs (two a multiply-add) and taps of the student and the teachers of a config; needs no data.

  distill info student=resnet20 dataset=cifar100
  distill info student=timm student.name=resnet18 dataset=cifar10 teacher=[] --all
  distill info --taps student=timm student.name=vit_tiny_patch16_224 'teacher=[resnet56]' dataset=cifar100
  distill info --methods                     every loss: paper, formula, config line, cost, agreement with public code
"""

NOTHING = "no network was built"


def main(arguments: Sequence[str]) -> int:
    """Print what the networks of a config are; return the exit code."""
    parser = argparse.ArgumentParser(
        "distill info", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="config overrides, as for distill train")
    parser.add_argument("--config-dir", help="folder with config groups of your own")
    parser.add_argument("--all", action="store_true", help="also the modules without a tap name of their own")
    parser.add_argument("--taps", action="store_true", help="also the kind of each tap, and pairs that can be matched")
    parser.add_argument("--methods", action="store_true", help="print distill/losses/README.md, made anew")
    line = parser.parse_intermixed_args(list(arguments))
    if line.methods:
        from distill.methods import page

        print(page(), end="")
        return 0
    name = memo.key("info", arguments)
    known = memo.recall(name)
    if known is not None:
        print(known["text"])
        return 0
    return _main(line, name)


def _main(line: argparse.Namespace, name: str) -> int:
    from distill.commands.preflight import Findings, look, parsed
    from distill.commands.train import report
    from distill.config import ConfigError
    from distill.resolving import resolve

    folder = ["--config-dir", line.config_dir] if line.config_dir else []
    try:
        found = look(parsed([*line.overrides, *folder]), checks=False)
        if found.mistakes:
            return report(found, NOTHING)
        config = found.cells[0].config
        text = "\n\n".join(described(config, line.all, line.taps))
    except ConfigError as error:
        return report(Findings(error.problems), NOTHING)
    print(text)
    if any("searchpath" in word for word in line.overrides):
        return 0  # rests on folders that are not looked at here
    folders = memo.folders_of(line.config_dir) if line.config_dir else ()
    memo.keep(name, {"text": text}, [config, resolve(config)[0]], paths=folders)
    return 0


class _Seen(NamedTuple):
    """What was found of one network: its text, and its taps."""

    text: str
    taps: list[Tap]


def described(cfg: Config, everything: bool, pairs: bool = False) -> Iterator[str]:
    """Give a text for the student and one for each teacher.

    Args:
        cfg: config as ``distill.compose`` returns it.
        everything: list the modules that have no tap name of their own, too.
        pairs: give the kind of each tap, and at the end a text for each teacher with proposals of pairs.

    Raises:
        ConfigError: when a network cannot be built, or has no input size to go by.
    """
    from distill.config import ConfigError
    from distill.resolving import resolve

    config, wrong, _ = resolve(cfg)
    nodes = {"student": config["student"]}
    teachers = {f"teacher.{name}": node["network"] for name, node in config["teacher"].items()}
    nodes |= {key: network for key, network in teachers.items() if network is not None}
    seen: dict[str, _Seen] = {}
    for key, node in nodes.items():
        needed = [s for s in wrong if s.startswith((f"{key}.", "dataset.num_classes", "dataset.image_size"))]
        if needed:
            raise ConfigError(needed)
        seen[key] = _network(key, node, config["dataset"], everything, pairs)
        yield seen[key].text
    if pairs:
        student = seen.pop("student").taps
        several = len(config["teacher"]) > 1
        for key, teacher in seen.items():
            yield _matched(key, student, teacher.taps, key.removeprefix("teacher.") if several else "")


def _matched(key: str, student: list[Tap], teacher: list[Tap], owner: str) -> str:
    """Return the proposals for one teacher."""
    from distill.pairing import pairs

    rows = [("student", key, "by", "override")]
    rows += [(p.student.name, p.teacher.name, p.by, p.override) for p in pairs(student, teacher, owner)]
    if len(rows) == 1:
        return f"no pairs of student and {key} to propose: one of them names no stages; --all lists module paths"
    return "\n".join([f"pairs of student and {key}", *_table(rows)])


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _network(key: str, node: Config, dataset: Any, everything: bool, kinds: bool) -> _Seen:
    import torch

    from distill.assemble import input_spec, make_network, specs_of
    from distill.fit import network_name
    from distill.pairing import kind, taps_of
    from distill.results import quantity
    from distill.taps import Tapped, published, tap_shapes
    from distill.training import size

    with torch.random.fork_rng():
        network = make_network(node, key, None).eval()
    spec = input_spec(network, dataset["mean"], dataset["std"])
    shape = (dataset["channels"], *dataset["image_size"])
    tapped = Tapped(network, spec)
    specs_of(tapped, key, shape)
    cost = size(tapped, shape)
    taps = taps_of(network, tap_shapes(network, spec, shape))
    named = published(network)
    shown = [t for t in taps if t.name in named] + [t for t in taps if t.name not in named and everything]
    rows = [("tap", *["kind"] * kinds, "shape", "module")]
    for tap in shown:
        path = tap.path if tap.name in named else ""
        rows.append((tap.name, *[kind(tap.spec)] * kinds, _by(tap.spec.shape), path))
    table = _table(rows)
    if not everything:
        table.append(f"  and {len(taps) - len(shown)} modules by their path; --all lists them")
    head = [
        f"{key}: {network_name(node)}, images {_by(shape)}",
        f"  parameters {cost['params']:,}   FLOPs {quantity(cost['flops'])}   "
        f"multiply-adds {quantity(cost['flops'] / 2)}",
        "",
    ]
    return _Seen("\n".join([*head, *table]), taps)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
