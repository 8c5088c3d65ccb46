"""Errors that the user can act on; each message is one line that names the item at fault."""

import errno


class EmojaxError(Exception):
    """Base of all errors that `launch.py` prints as one line (exit status 1) instead of a traceback."""


class ConfigError(EmojaxError):
    """An invalid configuration key, type or value."""


class CorpusError(EmojaxError):
    """A corpus, split or example that is missing or invalid."""


class AudioError(EmojaxError):
    """An audio file or array that is unreadable or invalid."""


class AudioFormatError(AudioError):
    """An audio file that no decoder reads, or that is damaged."""


class AudioLengthError(AudioError):
    """Audio that is longer than a limit."""


class CheckpointError(EmojaxError):
    """A workdir or checkpoint that is missing, damaged or incompatible."""


class TrainingError(EmojaxError):
    """Training that cannot continue (non-finite loss, full disk)."""


def reason(error: BaseException) -> str:
    """Returns the first line of an error's deepest cause, for a one-line message."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line for line in str(error).strip().splitlines() if line.strip()), "")
    return line[:300] or type(error).__name__


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error was caused by a full disk or quota; libraries wrap it in various exception types."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
