"""Turns SIGTERM and Ctrl-C into a request to stop at the next step, so that work is saved first."""

import os
import signal
from types import FrameType
from typing import Any, Self


class Interruption:
    """Listens for SIGTERM and SIGINT while active; a second signal acts as if nobody listened."""

    def __init__(self, *, together: bool = False) -> None:
        """Does nothing before it is entered.

        Args:
          together: of several processes that stop together: SIGTERM is left to JAX, which tells all of them
            (`emojax.parallel.all_should_stop`), and SIGINT is turned into it; nothing is ever `received`.
        """
        self._together = together
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Starts listening."""
        for number in (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.received = signal.Signals(number)
        for each, handler in self._previous.items():
            signal.signal(each, handler)
