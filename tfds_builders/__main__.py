"""Builds corpora: `python -m tfds_builders NAME [NAME ...] [--config=C] [--data_dir=D] [--manual_dir=M]`."""

from emojax.interruption import INTERRUPTED, end_process, watch_signals

if __name__ == "__main__":
    watch_signals("tfds_builders: ")  # before the imports below, which take seconds

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from emojax.errors import CorpusError, EmojaxError, is_full_disk, reason
from tfds_builders.registry import ENTRIES, builder_class, check_names

if TYPE_CHECKING:
    from tfds_builders.build import Built


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.list:
            print(_listing())
        elif not options.names:
            raise CorpusError(f"NAME is missing; available: {', '.join(sorted(ENTRIES))}")
        else:
            _build_all(options)
    except EmojaxError as error:
        print(f"tfds_builders: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tfds_builders: {error.filename or 'writing'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # called by a program that does not watch signals
        print("tfds_builders: interrupted; no files were left", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # TFDS and array_record wrap errors of the file system in their own exceptions
        if not is_full_disk(error):
            raise
        print(f"tfds_builders: --data_dir={options.data_dir}: cannot be written ({reason(error)})", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tfds_builders", description="Builds corpora for emojax.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="corpora to build")
    parser.add_argument("--list", action="store_true", help="list corpora and configs")
    parser.add_argument("--config", default="", help="builder config (default: the first one listed)")
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets",
        help="folder of corpora, or its URL in a bucket, gs:// or s3:// (default: $TFDS_DATA_DIR or "
        "~/tensorflow_datasets)",
    )
    parser.add_argument("--manual_dir", default="", help="your copy of a corpus that cannot be distributed")
    parser.add_argument("--overwrite", action="store_true", help="rebuild existing corpora")
    parser.add_argument("--processes", type=int, default=_available_cores(), help="worker processes")
    parser.add_argument(
        "--beam",
        action="store_true",
        help="write the shards with Apache Beam (docs/scaling.md); with --data_dir and "
        "--manual_dir in folders that all workers have",
    )
    parser.add_argument(
        "--beam_pipeline_options",
        default="",
        help="options of the Beam pipeline, with blanks between, e.g. "
        "'--runner=FlinkRunner --flink_master=HOST:8081'; by default all --processes of this machine",
    )
    return parser


def _build_all(options: argparse.Namespace) -> None:
    if options.processes < 1:
        raise CorpusError(f"--processes must be >= 1, got {options.processes}")
    for name in options.names:
        check_names(name, options.config)
    manual_dir = Path(options.manual_dir).expanduser() if options.manual_dir else None
    if manual_dir and not manual_dir.is_dir():
        raise CorpusError(f"--manual_dir={options.manual_dir}: no such folder")
    in_bucket = "://" in options.data_dir
    data_dir = Path(options.data_dir).expanduser().absolute()
    if not in_bucket and data_dir.exists() and not data_dir.is_dir():
        raise CorpusError(f"--data_dir={options.data_dir}: must be a folder, got a file")

    from absl import logging

    from tfds_builders.build import build, build_in_bucket

    logging.set_verbosity(logging.ERROR)  # TFDS warns that the config of a user's corpus is not registered
    for name in options.names:
        start = time.monotonic()
        builder = builder_class(name)
        config = builder.config_for(options.config, manual_dir)
        settings = (config, manual_dir, options.overwrite, options.processes, _beam_options(options))
        if in_bucket:
            built = build_in_bucket(builder, options.data_dir, *settings)
        else:
            built = build(builder, data_dir, *settings)
        print(_summary(built, time.monotonic() - start), flush=True)


def _beam_options(options: argparse.Namespace) -> list[str] | None:
    """Options of the Beam pipeline; None without --beam."""
    if not options.beam:
        if options.beam_pipeline_options:
            raise CorpusError("--beam_pipeline_options needs --beam")
        return None
    given = shlex.split(options.beam_pipeline_options)
    # Beam's runner on one machine uses a single process unless it is given a number.
    local = [f"--direct_num_workers={options.processes}", "--direct_running_mode=multi_processing"]
    return given or ["--runner=DirectRunner", *(local if options.processes > 1 else [])]


def _listing() -> str:
    lines = []
    for name, entry in sorted(ENTRIES.items()):
        lines.append(f"{name}: {entry.summary}")
        if entry.configs:
            default, *others = entry.configs
            lines.append(f"    --config: {', '.join([f'{default} (default)', *others])}")
        if entry.needs_manual_dir:
            lines.append("    --manual_dir: required, the folder with your copy")
    return "\n".join(lines)


def _summary(built: "Built", seconds: float) -> str:
    if not built.hours:
        splits = ", ".join(f"{split} {count}" for split, count in built.num_examples.items())
        note = f" ({built.uncompared})" if built.uncompared else ""
        return f"{built.full_name}: already built ({splits}) in {built.directory}{note}"
    lines = [f"{built.full_name}: built in {seconds:.0f} s"]
    for split, count in built.num_examples.items():
        lines.append(f"    {split:<8}{count:>8} utterances{built.hours[split]:>9.2f} h")
    total, hours = sum(built.num_examples.values()), sum(built.hours.values())
    lines.append(f"    {'all':<8}{total:>8} utterances{hours:>9.2f} h{built.num_bytes / 1e6:>10.0f} MB")
    lines += [f"    {what.replace('_', ' ')}: {count}" for what, count in built.counts.items()]
    lines += [f"    {remark}" for remark in built.remarks]
    lines.append(f"    {built.directory}")
    return "\n".join(lines)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run() -> None:
    """Runs the command with the arguments of this process, and ends the process with its exit status."""
    watch_signals("tfds_builders: ")
    status = main()
    if status == 1:  # skips exit handlers of libraries, which print tracebacks for a full disk
        sys.stdout.flush()
        end_process(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
