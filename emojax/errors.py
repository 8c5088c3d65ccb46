"""What goes wrong for a reason the user can act on: every message is one clear line naming the item."""

import errno


class EmojaxError(Exception):
    """Base of all errors that `launch.py` prints as one line (exit status 1) instead of a traceback."""


class ConfigError(EmojaxError):
    """A configuration key, type or value that is not allowed."""


class CorpusError(EmojaxError):
    """A corpus, split or example that is absent or unusable."""


class AudioError(EmojaxError):
    """An audio file or array that cannot be used."""


class CheckpointError(EmojaxError):
    """A workdir or checkpoint that is absent, truncated or does not fit."""


class TrainingError(EmojaxError):
    """Training that cannot go on (non-finite loss, full disk)."""


def reason(error: BaseException) -> str:
    """The first line of the deepest cause of an error, for a one-line message about it."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line for line in str(error).strip().splitlines() if line.strip()), "")
    return line[:300] or type(error).__name__


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that of a disk or quota that is full; libraries wrap it in many kinds."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
