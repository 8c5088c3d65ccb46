"""Turns SIGTERM and Ctrl-C into a request to stop at the next step, so that work is saved first."""

import signal
from types import FrameType
from typing import Any, Self


class Interruption:
    """Listens for SIGTERM and SIGINT while active; a second signal acts as if nobody listened."""

    def __init__(self) -> None:
        """Does nothing before it is entered."""
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Starts listening."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        for each, handler in self._previous.items():
            signal.signal(each, handler)
