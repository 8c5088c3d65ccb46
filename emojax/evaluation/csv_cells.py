"""Text cells of CSV files that a spreadsheet must not run as a formula.

A program that opens a CSV file as a spreadsheet evaluates cells that begin with `=`, `+`, `-` or `@`, and names and
categories may come from anyone. Such a cell gets an apostrophe in front, which spreadsheets show as plain text (OWASP,
"CSV Injection"). Cells of numbers are never changed. `read_cell` takes the apostrophe away again, so that what this
project wrote and reads is the original text.
"""

import re

_FORMULA = re.compile(r"'*(?:[\t\r]|\s*[=+\-@＝＋－＠])")
"""What a spreadsheet would evaluate, and the same behind apostrophes, which get one more."""


def write_cell(text: str) -> str:
    """The text as a cell."""
    return f"'{text}" if _FORMULA.match(text) else text


def read_cell(cell: str) -> str:
    """The text that `write_cell` made a cell of; cells of files written without it are the same."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
