"""Readers of text files with any byte-order mark, common encodings and any line ends."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from emojax.errors import CorpusError

_LINE_END = re.compile(r"\r\n|\n|\r")


def read_text(path: Path) -> tuple[str, bool]:
    """Reads UTF-8, or UTF-16 with byte-order mark; other files are read as Windows-1252.

    Returns:
      Text without byte-order mark, and whether the encoding was Unicode.

    Raises:
      CorpusError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    return decode_text(raw)


def decode_text(raw: bytes) -> tuple[str, bool]:
    """Decodes the content of a text file as `read_text` does."""
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return raw.decode(encoding), True
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace"), False


def read_lines(path: Path) -> list[str]:
    r"""Reads the lines of a text file, without line ends: "\n", "\r\n" or "\r".

    Unlike `str.splitlines`, does not split at U+0085, U+2028 or vertical tabs.

    Raises:
      CorpusError: the file cannot be read.
    """
    return _LINE_END.split(read_text(path)[0])


def find_folder(root: Path, names: Sequence[str]) -> Path | None:
    """Finds a folder in `root` by one of several lower-case names, ignoring case."""
    found = {path.name.lower(): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    return next((found[name] for name in names if name in found), None)


def listing(folder: Path, most: int = 8) -> str:
    """Lists the content of a folder, for error messages."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
