"""Lists every config field with type, bounds, default and meaning: `python -m emojax.config_reference`.

docs/config.md is this output; a test keeps it current.
"""

import dataclasses
import sys
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from emojax.schema import default_tree, describe_bounds, describe_type, fields_of


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a config.

    Attributes:
      path: groups and name, e.g. `optimizer.learning_rate`.
      type: in words.
      bounds: in words, "" without any.
      default: as Python writes it.
      meaning: documentation.
    """

    path: str
    type: str
    bounds: str
    default: str
    meaning: str


def fields(cls: type, path: str = "") -> Iterator[Field]:
    """Yields the fields of settings and of the groups within them, in order of declaration."""
    yield from _fields(cls, default_tree(cls), path)


def _fields(cls: type, defaults: dict[str, Any], path: str) -> Iterator[Field]:
    for name, hint in fields_of(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from _fields(typing.cast(type, hint), defaults[name], f"{path}{name}.")
            continue
        extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
        meaning = next((extra for extra in extras if isinstance(extra, str)), "")
        bounds = describe_bounds(extras).removeprefix("be ").replace("not be empty", "not empty").replace("have ", "")
        yield Field(f"{path}{name}", describe_type(hint), bounds, repr(defaults.get(name)), meaning)


def reference() -> str:
    """Writes the reference of all modes as Markdown."""
    from emojax.config import ExperimentConfig
    from emojax.extraction import ExtractConfig, TeacherCacheConfig
    from emojax.pretraining import PretrainConfig

    chapters: dict[str, tuple[str, type]] = {
        "Training, evaluation, planning, import": ("configs/default.py", ExperimentConfig),
        "Extraction of hidden states": ("configs/extract.py", ExtractConfig),
        "Extraction of teacher outputs": ("configs/extract_teacher.py", TeacherCacheConfig),
        "Pre-training": ("configs/pretrain_hubert.py", PretrainConfig),
    }
    lines = [
        "# Config fields",
        "",
        "Every field, overridden by `--config.GROUP.FIELD=VALUE`. This page is the output of",
        "`python -m emojax.config_reference`; fields are declared, with bounds and documentation, in the dataclasses",
        "of the code that uses them.",
    ]
    shown: set[Field] = set()
    for title, (file, cls) in chapters.items():
        lines += ["", f"## {title}", "", f"Defaults: `{file}`."]
        group = None
        for field in fields(cls):
            if field in shown:  # groups that modes share stand once, under training
                continue
            shown.add(field)
            current = field.path.rpartition(".")[0]
            if current != group:
                group = current
                lines += ["", f"### `{group}`" if group else "### Run", "", _HEADER, "|---|---|---|---|"]
            lines.append(_row(field))
    return "\n".join(lines) + "\n"


_HEADER = "| field | allowed | default | meaning |"


def _row(field: Field) -> str:
    allowed = ", ".join(part for part in (field.type, field.bounds) if part).replace("|", "\\|")
    return f"| `{field.path}` | {allowed} | `{field.default}` | {field.meaning.replace('|', chr(92) + '|')} |"


def main() -> int:
    """Prints the reference."""
    sys.stdout.write(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main())
