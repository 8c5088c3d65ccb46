"""Lists config fields with type, bounds, default and meaning: `python -m emojax config`.

docs/config.md is this output; a test keeps it current.
"""

import dataclasses
import difflib
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from emojax.errors import ConfigError
from emojax.schema import default_tree, describe_bounds, describe_type, fields_of


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a config.

    Attributes:
      path: groups and name, e.g. `optimizer.learning_rate`.
      type: type in words.
      bounds: bounds in words, "" without any.
      default: default as a Python literal.
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


Chapters = Mapping[str, tuple[str, type]]
"""Settings by title: the config file that has their defaults, and their dataclass."""


def markdown_reference(chapters: Chapters) -> str:
    """Writes all fields as Markdown; a field that chapters share is listed once, in the first of them."""
    lines = [
        "# Config fields",
        "",
        "Every field, overridden by `--config.GROUP.FIELD=VALUE`. This page is the output of",
        "`python -m emojax config`; fields are declared, with bounds and documentation, in the dataclasses",
        "of the code that uses them.",
    ]
    shown: set[Field] = set()
    for title, (file, cls) in chapters.items():
        lines += ["", f"## {title}", "", f"Defaults: `{file}`."]
        group = None
        for field in fields(cls):
            if field in shown:
                continue
            shown.add(field)
            current = field.path.rpartition(".")[0]
            if current != group:
                group = current
                lines += ["", f"### `{group}`" if group else "### Run", "", _HEADER, "|---|---|---|---|"]
            lines.append(_row(field))
    return "\n".join(lines) + "\n"


def describe_fields(chapters: Chapters, name: str) -> str:
    """Describes a field, or every field of a group, as plain text.

    Args:
      chapters: settings that are searched.
      name: path of a field or group, e.g. `optimizer` or `data.batch_size`, with `config.` before it or not.

    Raises:
      ConfigError: there is no such field or group.
    """
    wanted = name.removeprefix("--").removeprefix("config.").strip(".")
    blocks: dict[Field, str] = {}
    paths: set[str] = set()
    headed: set[str] = set()
    for file, cls in chapters.values():
        for field in fields(cls):
            groups = field.path.split(".")
            paths |= {".".join(groups[:end]) for end in range(1, len(groups) + 1)}
            if field.path == wanted or field.path.startswith(f"{wanted}."):
                allowed = ", ".join(part for part in (field.type, field.bounds) if part)
                meaning = textwrap.fill(field.meaning, 100, initial_indent="    ", subsequent_indent="    ")
                if field not in blocks:
                    heading = f"{file}:\n" if file not in headed else ""
                    blocks[field] = f"{heading}  {field.path}: {allowed}; default {field.default}\n{meaning}"
                    headed.add(file)
    if not blocks:
        similar = difflib.get_close_matches(wanted, sorted(paths), n=3)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
        raise ConfigError(f"config has no field or group {wanted!r}{hint}")
    return "\n".join(blocks.values()) + "\n"


_HEADER = "| field | allowed | default | meaning |"


def _row(field: Field) -> str:
    allowed = ", ".join(part for part in (field.type, field.bounds) if part).replace("|", "\\|")
    return f"| `{field.path}` | {allowed} | `{field.default}` | {field.meaning.replace('|', chr(92) + '|')} |"
