"""Read-only binary file composed of parts of another file, for decoding one stream with a corrected header."""

import io
import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Readable(Protocol):
    """Binary stream, e.g. a download."""

    def read(self, size: int = -1, /) -> bytes:
        """Reads at most `size` bytes; all for -1."""


@runtime_checkable
class BinaryFile(Readable, Protocol):
    """Seekable binary file."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Sets the position and returns it."""

    def tell(self) -> int:
        """Returns the position in bytes."""


Piece = bytes | tuple[int, int]
"""Literal bytes, or the byte range [first, end) of the underlying file."""


class Pieces(io.RawIOBase):
    """Concatenation of pieces of a file; seekable."""

    def __init__(self, file: BinaryFile, pieces: Sequence[Piece]):
        """Creates the file; `file` is not closed with it.

        Args:
          file: seekable file.
          pieces: pieces in order.
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
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position, which may be beyond the end; a negative position is ignored.

        Decoders seek to negative positions for invalid headers, and cannot handle exceptions.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        if base + offset >= 0:
            self._position, self._current = base + offset, 0
        return self._position

    def readinto(self, buffer) -> int:
        """Fills a buffer with the available bytes.

        An exception of the underlying file ends the stream and is stored in `failure`, since exceptions do not
        propagate through decoders written in C.
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
