"""The help of `distill train`: groups with their options, scalars with what they mean, examples."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, fields

from distill.commands.composing import MULTI, Composer
from distill.config import Root
from distill.kinds import shown

GROUPS = {
    "teacher": "who teaches; several with teacher=[a,b]; teacher=[] for none",
    "cache": "keep the teachers' answers: cache=on, cache.views=10, cache.fill=ahead",
    "student": "who learns",
    "loss": "terms that are added up; each has a weight: loss.kd.weight=0.5",
    "scheduler": "temperature and weights over the run; several with scheduler=[a,b]",
    "dataset": "what is learnt",
    "dataset/augment": "of training images",
    "dataset/mix": "of training images with each other",
    "optimizer": "",
    "lr_scheduler": "",
    "trainer": "epochs, devices, precision: trainer.max_epochs=100",
    "logger": "",
    "recipe": "optimizer, epochs and augmentation of a paper",
    "pair": "teacher, student and dataset of a published row",
    "+experiment": "a whole published setting",
    "+search": "an Optuna search, with -m",
}
"""What each group decides, in the order of the help."""

HEAD = """\
usage: distill train [key=value ...] [-m] [--config-dir DIR] [--cfg job] [--info] [--hydra-help]

Trains a teacher if there is none yet, the student alone, and the student with the teacher; prints what teaching gave.
What is complete already is read, not trained again; what was interrupted goes on.

groups (choose with group=option, change with group.key=value; * takes a list)
"""

EXAMPLES = """
examples
  distill train                                                          the default: digits, a minute on a CPU
  distill train seeds=5 'loss=[ce,dkd]' scheduler=constant_temperature   another loss, five seeds
  distill train pair=resnet56_resnet20 recipe=cifar_crd dataset.root=DIR  a row of the CRD tables
  distill train student=timm student.name=resnet18 dataset=image_folder dataset.root=DIR dataset.num_classes=5
  distill train -m 'loss=[ce,kd],[ce,dkd]' optimizer.lr=0.05,0.1         a sweep; hydra/launcher=process: side by side
  distill train check=only                                               say every mistake, train nothing

options of Hydra: -m (sweep), --cfg job (print the config), --info, --config-dir DIR (groups of your own), --hydra-help
tab completion: eval "$(distill -sc install=bash)"
"""


def usage(config_dir: str | None = None) -> str:
    """Return the help text, with the groups in ``config_dir`` of the user among the others."""
    lines = [HEAD]
    with Composer(config_dir=config_dir) as composer:
        groups = dict(GROUPS)
        for name in composer.loader.list_groups(""):
            if name not in ("hydra", *(key.lstrip("+") for key in groups)):
                groups[f"+{name}"] = ""
        for name, text in groups.items():
            options = ", ".join(composer.options(name.lstrip("+")))
            star = "*" if name in MULTI else ""
            options = options.replace("base, ", "") if name == "teacher" else options
            lines.append(_entry(name + star, f"{options}{f'  ({text})' if text else ''}"))
    lines += ["\nscalars (key=value)", *_scalars()]
    return "\n".join(lines) + "\n" + EXAMPLES


def _entry(name: str, text: str) -> str:
    indent = " " * 26
    return textwrap.fill(text, 118, initial_indent=f"  {name:<23} ", subsequent_indent=indent, break_on_hyphens=False)


def _scalars() -> list[str]:
    """Return a line for each scalar of the root: its default, and its comment in the source."""
    source = inspect.getsource(Root).splitlines()
    comments = {line.split(":")[0].strip(): line.partition("#")[2].strip() for line in source if "#" in line}
    found = []
    for field in fields(Root):
        if field.name in comments and field.name not in GROUPS:
            default = field.default if field.default is not MISSING else []
            text = comments[field.name]
            found.append(_entry(f"{field.name}={shown(getattr(default, 'value', default))}", text))
    return found
