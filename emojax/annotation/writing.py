"""Files of an annotation: names, contents, order."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from emojax.annotation.annotation import Annotation, read_annotation, write_annotation
from emojax.annotation.captions import to_audacity, to_csv, to_rttm, to_srt, to_webvtt
from emojax.annotation.config import Format
from emojax.annotation.page import render_annotation_page
from emojax.annotation.speakers import recording_id
from emojax.annotation.tiers import to_elan, to_textgrid
from emojax.errors import ConfigError
from emojax.files import atomic_write
from emojax.inference.sources import find_audio

JSON = ".json"

SUFFIXES: Mapping[Format, str] = {
    "csv": ".csv",
    "rttm": ".rttm",
    "vtt": ".vtt",
    "srt": ".srt",
    "audacity": ".labels.txt",
    "textgrid": ".TextGrid",
    "elan": ".eaf",
    "html": ".html",
}
"""End of the name of each file."""


def output_names(inputs: Sequence[Path], directory: Path) -> dict[Path, Path]:
    """Recordings in the order given, each once, with the path of their files without suffix.

    The files of a recording have its name without suffix; those in a folder keep their subfolders.

    Args:
      inputs: audio files, and folders that are searched for audio files.
      directory: folder of the annotations.

    Raises:
      AudioError: a path does not exist, or a folder has no audio file.
      ConfigError: two recordings would be written to the same files.
    """
    names: dict[Path, Path] = {}
    given: dict[Path, Path] = {}
    seen: set[Path] = set()
    for each in inputs:
        for path in find_audio(each):
            resolved = path.resolve()
            if resolved in seen:
                continue
            seen.add(resolved)
            parent = path.relative_to(each).parent if each.is_dir() else Path()
            name = directory / parent / path.stem
            if name in given:
                raise ConfigError(
                    f"{given[name]} and {path} would both be written to {name}{JSON}; rename one, or annotate a folder "
                    "that has them in different subfolders"
                )
            given[name], names[path] = path, name
    return names


def relative_path(path: Path, name: Path) -> str:
    """Path of a recording relative to the folder of its annotation, with slashes; absolute on another drive."""
    try:
        return Path(os.path.relpath(path.absolute(), name.absolute().parent)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def write_files(annotation: Annotation, name: Path, formats: Sequence[Format]) -> None:
    """Writes an annotation in all formats, JSON last.

    Args:
      annotation: annotation.
      name: path of the files without suffix.
      formats: formats beside JSON.

    Raises:
      EmojaxError: a file cannot be written.
    """
    tree = annotation.to_tree()
    _write(annotation, tree, name, formats)
    write_annotation(Path(f"{name}{JSON}"), tree)


def write_missing_files(name: Path, formats: Sequence[Format]) -> None:
    """Writes the formats that a finished annotation does not have yet; arguments as for `write_files`."""
    missing = [format for format in formats if not Path(f"{name}{SUFFIXES[format]}").exists()]
    if missing:
        annotation = read_annotation(Path(f"{name}{JSON}"))
        _write(annotation, annotation.to_tree(), name, missing)


def _write(annotation: Annotation, tree: Mapping[str, Any], name: Path, formats: Sequence[Format]) -> None:
    contents: dict[Format, Callable[[], str]] = {
        "csv": lambda: to_csv(annotation, annotation.file),
        "rttm": lambda: to_rttm(annotation, recording_id(Path(annotation.file))),
        "vtt": lambda: to_webvtt(annotation),
        "srt": lambda: to_srt(annotation),
        "audacity": lambda: to_audacity(annotation),
        "textgrid": lambda: to_textgrid(annotation),
        "elan": lambda: to_elan(annotation, quote(annotation.file)),
        "html": lambda: render_annotation_page(tree, annotation.file),
    }
    for format in formats:
        with atomic_write(Path(f"{name}{SUFFIXES[format]}")) as temporary:
            temporary.write_text(contents[format](), encoding="utf-8")
