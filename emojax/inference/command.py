"""The command `python -m emojax predict`: checks of its options, and the order in which things start."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emojax.errors import ConfigError
from emojax.inference.decoding_pool import DecodingPool, default_workers
from emojax.inference.journal import Outputs
from emojax.inference.predictor import Predictor, load
from emojax.inference.run import Result, predict_clips, predict_to_files, print_predictions
from emojax.inference.sources import Clip, open_sources
from emojax.inference.tables import FORMATS, Format, import_pyarrow
from emojax.parallel import compiled_programs
from emojax.progress import Progress


def predict_command(options: argparse.Namespace) -> int:
    """Runs the command; returns its exit status: 0 if every clip was predicted, 1 if any failed.

    Args:
      options: arguments that `emojax.__main__` parses.

    Raises:
      EmojaxError: an option, the model or a table is invalid, or an output cannot be written.
    """
    format = _format(options)
    outputs = _outputs(options, format)
    for name, least in (("workers", 0), ("batch_seconds", 1)):
        value = getattr(options, name)
        if value is not None and not value >= least:
            raise ConfigError(f"--{name.replace('_', '-')} must be >= {least}, got {value:g}")
    with open_sources(options.inputs, options.root, sys.stdin.buffer) as clips:
        workers = default_workers(len({clip.path for clip in clips})) if options.workers is None else options.workers
        with DecodingPool(workers) as pool:  # its processes start while the model is loaded
            predictor, recognizer = load(options.workdir), None
            if options.own_process:
                predictor.keep_programs(compiled_programs())
            if options.batch_seconds is not None:
                predictor.seconds_at_once = options.batch_seconds
            if options.recognizer:
                from emojax.recognition import load_recognizer

                recognizer = load_recognizer(options.recognizer)
            if outputs is not None:
                identity = {"recognizer": options.recognizer, "root": str(options.root or "")}
                return int(predict_to_files(predictor, clips, outputs, identity, pool, _warn, recognizer) > 0)
            return int(_print(predictor, clips, format, pool, recognizer) > 0)


def _print(predictor: Predictor, clips: list[Clip], format: Format, pool: DecodingPool, recognizer: Any) -> int:
    numbers = range(len(clips))
    if not sys.stderr.isatty() or sys.stdout.isatty():
        results = predict_clips(predictor, clips, numbers, pool, _warn, recognizer)
        return print_predictions(results, format, sys.stdout, _warn)
    with Progress("predict", len(clips), "clips") as progress:  # rows go to a file or pipe
        results = predict_clips(predictor, clips, numbers, pool, progress.write, recognizer)
        return print_predictions(_counted(results, progress), format, sys.stdout, progress.write)


def _counted(results: Iterator[Result], progress: Progress) -> Iterator[Result]:
    for result in results:
        yield result
        progress.advance()


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _outputs(options: argparse.Namespace, format: Format) -> Outputs | None:
    output: Path | None = options.output
    for name in ("embeddings", "failures"):
        if output is None and getattr(options, name) is not None:
            raise ConfigError(f"--{name} needs --output, whose rows are in the same order")
    if output is None:
        return None
    if format == "parquet":
        import_pyarrow()
    if options.embeddings is not None and options.embeddings.suffix.lower() not in (".npy", ".npz"):
        raise ConfigError(f"--embeddings must end in .npy or .npz, got {options.embeddings}")
    return Outputs(output, format, options.embeddings, options.failures or output.with_suffix(".failed.csv"))


def _format(options: argparse.Namespace) -> Format:
    suffix = "" if options.output is None else options.output.suffix.lower().removeprefix(".")
    if options.format is None and options.output is not None and suffix not in FORMATS:
        raise ConfigError(f"--output must end in .{', .'.join(FORMATS)}, or --format be given, got {options.output}")
    if options.format == "parquet" and options.output is None:
        raise ConfigError("--format=parquet needs --output")
    return options.format or suffix or "csv"  # type: ignore[return-value]
