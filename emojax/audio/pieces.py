"""A read-only binary file made of parts of another one, so that a decoder sees one stream with a true header."""

import io
import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Readable(Protocol):
    """What can be read once, e.g. a download."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; all for -1."""


@runtime_checkable
class BinaryFile(Readable, Protocol):
    """An open binary file that can go back."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves; returns the new position."""

    def tell(self) -> int:
        """Position in bytes."""


Piece = bytes | tuple[int, int]
"""Bytes as they are, or the range [first, end) of the underlying file."""


class Pieces(io.RawIOBase):
    """Pieces of a file, one after the other; seekable."""

    def __init__(self, file: BinaryFile, pieces: Sequence[Piece]):
        """Opens nothing and owns nothing: `file` stays the caller's.

        Args:
          file: seekable.
          pieces: in order.
        """
        super().__init__()
        self._file, self._position = file, 0
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._starts = [0]
        for piece in self._pieces:
            self._starts.append(self._starts[-1] + _length(piece))
        self._current = 0
        self.failure: Exception | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position, which may lie beyond the end; one before the beginning changes nothing.

        Decoders ask for such positions where a header holds nonsense; an exception would not reach them.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        if base + offset >= 0:
            self._position, self._current = base + offset, 0
        return self._position

    def readinto(self, buffer) -> int:
        """Fills a buffer as far as there are bytes.

        A failure of the underlying file ends the stream and is kept in `failure`: decoders written in C call this,
        through which no exception passes.
        """
        view, filled = memoryview(buffer).cast("B"), 0
        try:
            while filled < len(view):
                part = self._read(len(view) - filled)
                if not part:
                    break
                view[filled : filled + len(part)] = part
                filled += len(part)
        except Exception as error:  # a file-like object may raise anything
            self.failure = error
        return filled

    def _read(self, most: int) -> bytes:
        while self._current < len(self._pieces) and self._starts[self._current + 1] <= self._position:
            self._current += 1
        if self._current == len(self._pieces):
            return b""
        piece, start = self._pieces[self._current], self._position - self._starts[self._current]
        if isinstance(piece, bytes):
            part = piece[start : start + most]
        else:
            self._file.seek(piece[0] + start)
            part = self._file.read(min(most, piece[1] - piece[0] - start))
        self._position += len(part)
        return part


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
