"""Text files of corpora as people have them: with a byte-order mark, or in an old encoding."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from emojax.errors import CorpusError


def read_text(path: Path) -> tuple[str, bool]:
    """Reads UTF-8, with or without byte-order mark; what is not UTF-8 is read as Windows-1252, which most of it is.

    Returns:
      The text, and whether it was UTF-8.

    Raises:
      CorpusError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return raw.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace"), False


def read_table(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file by column, fields stripped, each with its line number.

    Args:
      path: the file.
      needed: columns that must be there.

    Raises:
      CorpusError: the file cannot be read, a column is missing, or a row has other columns than the header.
    """
    reader = csv.DictReader(read_text(path)[0].splitlines(), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    for name in needed:
        if name not in columns:
            raise CorpusError(f"{path}: has no column {name!r}; its columns are {', '.join(columns) or 'none'}")
    reader.fieldnames = columns
    for row in reader:
        if None in row or None in row.values():
            raise CorpusError(f"{path}, line {reader.line_num}: has not as many fields as the header")
        yield reader.line_num, {name: value.strip() for name, value in row.items()}


def find_folder(root: Path, names: Sequence[str]) -> Path | None:
    """A folder in `root` of one of these names (lower case), in any spelling of capitals."""
    found = {path.name.lower(): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    return next((found[name] for name in names if name in found), None)


def listing(folder: Path, most: int = 8) -> str:
    """What is in a folder, for error messages."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
