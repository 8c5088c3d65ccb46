"""Runs pipelines of Apache Beam, on any of its runners; errors of workers are one line."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from emojax.errors import EmojaxError

_WORKER_ERROR = re.compile(r"\b(?:EmojaxError|ConfigError|CorpusError|AudioError|CheckpointError): (.*)")
"""Line of a worker's traceback with an error that the user can act on."""

_TRANSFORM = re.compile(r" \[while running '[^']*'\]$")
"""What Beam appends to messages."""


def import_beam(error: type[EmojaxError]) -> Any:
    """Imports Apache Beam.

    Args:
      error: class of the error raised.

    Raises:
      EmojaxError: of class `error`: it is not installed.
    """
    try:
        import apache_beam
    except ImportError as problem:
        raise error("--beam needs Apache Beam: pip install apache-beam") from problem
    return apache_beam


@contextlib.contextmanager
def beam_pipeline(options: Sequence[str], error: type[EmojaxError]) -> Iterator[Any]:
    """Yields a pipeline, which runs when the block ends.

    Args:
      options: pipeline options, e.g. `--runner=FlinkRunner`; the default is Beam's runner on this machine.
      error: class of the error raised.

    Raises:
      EmojaxError: of class `error`: Apache Beam is not installed, or a shard cannot be written.
    """
    beam = import_beam(error)
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            yield pipeline
    except Exception as problem:  # runners wrap exceptions of workers in their own
        lines = [line.strip() for line in str(problem).splitlines() if line.strip()] or [repr(problem)]
        known = [match[1] for match in map(_WORKER_ERROR.search, lines) if match]
        raise error(f"a shard cannot be written: {_TRANSFORM.sub('', (known or lines)[-1])}") from problem
