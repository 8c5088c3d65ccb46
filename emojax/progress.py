"""Progress display: a line updated in place on a terminal, a new line every few seconds elsewhere; rate and ETA."""

import sys
import time
from typing import ClassVar, Self

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Progress of a known amount of work; a context manager.

    Attributes:
      shown: whether this process shows progress; with several processes only the first one does.
    """

    shown: ClassVar[bool] = True

    def __init__(self, label: str, total: int, unit: str, done: int = 0):
        """Starts the clock.

        Args:
          label: name of the task, e.g. `train demo/mfb`.
          total: amount of work, in `unit`.
          unit: plural noun, e.g. `steps`.
          done: amount completed by an earlier run; excluded from the rate.
        """
        self._label, self._total, self._unit = label, total, unit
        self._done, self._first = done, done
        self._start = self._last_shown = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Shows the final state."""
        if self._done > self._first:
            self._show("")
        if self._terminal and self.shown:
            print(file=sys.stderr)

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Adds completed work; `note`, e.g. the current loss, is appended to the line."""
        self._done += amount
        pause = 0.2 if self._terminal else _SECONDS_BETWEEN_LINES
        if time.monotonic() - self._last_shown >= pause:
            self._show(note)

    def write(self, message: str) -> None:
        """Prints a message on a separate line, in the process that shows progress."""
        if self.shown:
            self.write_error(message)

    def write_error(self, message: str) -> None:
        """Prints an error of this process on a separate line, also where another one shows progress."""
        clear = "\r\x1b[K" if self._terminal and self.shown else ""
        print(clear + message, file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Units per second since the start of this run."""
        return (self._done - self._first) / max(time.monotonic() - self._start, 1e-9)

    def _show(self, note: str) -> None:
        self._last_shown = time.monotonic()
        if not self.shown:
            return
        left = (self._total - self._done) / self.rate if self.rate else float("inf")
        text = (
            f"{self._label}: {self._done}/{self._total} {self._unit}"
            f" ({100 * self._done / max(self._total, 1):.0f} %), {self.rate:.3g} {self._unit}/s, ETA {_clock(left)}"
        )
        text += f"  {note}" if note else ""
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
