"""Commands on trained models and workdirs: `python -m emojax --help`; in an installed package `emojax`.

Training and evaluation are `launch.py`, building corpora is `python -m tfds_builders`.
"""

from emojax.interruption import watch_signals

if __name__ == "__main__":
    watch_signals()  # what the commands import takes seconds

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from emojax.errors import EmojaxError, reason

# Each command imports what it runs after its arguments are parsed: --help and mistakes are answered at once.


def run() -> None:
    """Runs a command with the arguments of this process, and ends the process with its exit status."""
    watch_signals()
    sys.exit(main(own_process=True))


def main(argv: list[str] | None = None, own_process: bool = False) -> int:
    """Runs a command; returns its exit status: 0 success, 1 an error, reported in one line. Wrong usage is 2.

    Args:
      argv: arguments; None: those of this process.
      own_process: whether the command may change settings of the process: compilation cache, memory allocator.
    """
    arguments = _parser().parse_args(argv)
    arguments.own_process = own_process
    try:
        return arguments.command(arguments)
    except EmojaxError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else reason(error)
    print(f"error: {message}", file=sys.stderr)
    return 1


def config_reference(name: str = "") -> str:
    """Documentation of the config fields of all modes.

    Args:
      name: field or group described as plain text; "" writes the Markdown of docs/config.md.

    Raises:
      ConfigError: there is no such field or group.
    """
    from emojax.annotation.config import AnnotateConfig
    from emojax.config import ExperimentConfig
    from emojax.config.reference import Chapters, describe_fields, markdown_reference
    from emojax.extraction import ExtractConfig, TeacherCacheConfig
    from emojax.model_tests.config import ModelTestsConfig
    from emojax.pretraining import PretrainConfig
    from emojax.robustness.config import RobustnessGridConfig
    from emojax.transcription import TranscribeConfig

    chapters: Chapters = {
        "Training, evaluation, planning, import": ("configs/default.py", ExperimentConfig),
        "Extraction of hidden states": ("configs/extract.py", ExtractConfig),
        "Extraction of teacher outputs": ("configs/extract_teacher.py", TeacherCacheConfig),
        "Transcription": ("configs/transcribe.py", TranscribeConfig),
        "Pre-training": ("configs/pretrain_hubert.py", PretrainConfig),
        "Model tests": ("configs/model_tests.py", ModelTestsConfig),
        "Robustness": ("configs/robustness.py", RobustnessGridConfig),
        "Annotation": ("configs/annotate.py", AnnotateConfig),
    }
    return describe_fields(chapters, name) if name else markdown_reference(chapters)


def _report(arguments: argparse.Namespace) -> int:
    from emojax.reporting.report import write_report

    write_report(arguments.workdirs, arguments.output, arguments.group_seeds, arguments.style, sys.stdout, sys.stderr)
    return 0


def _tests(arguments: argparse.Namespace) -> int:
    from emojax.model_tests.report import write_tests_page

    write_tests_page(arguments.workdirs, arguments.output, arguments.style, sys.stdout, sys.stderr)
    return 0


def _gain(arguments: argparse.Namespace) -> int:
    from emojax.reporting.gain import measure_gain, print_gain

    gains, data, undefined = measure_gain(arguments.workdirs, arguments.over, arguments.split, arguments.resamples)
    print_gain(gains, data, undefined, sys.stdout, arguments.json)
    return 0


def _fill_tables(arguments: argparse.Namespace) -> int:
    from emojax.reporting.fill_tables import fill_document

    filled = fill_document(arguments.document, arguments.workdirs)
    print("\n".join(f"filled: {row}" for row in filled) or "no row of the document has the name of these workdirs")
    return 0 if filled else 1


def _config(arguments: argparse.Namespace) -> int:
    sys.stdout.write(config_reference(arguments.name))
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    if arguments.own_process:
        import jax

        from emojax.parallel import keep_freed_memory, use_compilation_cache

        keep_freed_memory()
        use_compilation_cache()
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # many small programs
    from emojax.inference.command import predict_command

    return predict_command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_program(), description="Commands on trained models and workdirs.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _add_predict(commands)

    command = commands.add_parser(
        "report",
        help="compare evaluated workdirs in a table and an HTML page",
        description="Compares evaluated workdirs: prints one table per corpus and split, and writes an HTML page.",
    )
    command.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a run")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="HTML file (default: report.html in the folder of the workdirs)"
    )
    _add_styles(command)
    command.add_argument(
        "--group-seeds",
        action="store_true",
        help="one row, mean ± standard deviation, for workdirs whose configs differ only in the seed",
    )
    command.set_defaults(command=_report)

    command = commands.add_parser(
        "tests",
        help="compare the model tests of workdirs in a table and an HTML page",
        description="Compares workdirs that `--mode=test` has tested: prints the outcome of each test and the share of "
        "values passed, and writes an HTML page.",
    )
    command.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a tested run")
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="HTML file (default: tests.html in the folder of the workdirs)"
    )
    _add_styles(command)
    command.set_defaults(command=_tests)

    command = commands.add_parser(
        "gain",
        help="measure the difference in CCC of two systems",
        description="Difference in CCC of two systems on the same utterances, with a paired bootstrap interval. "
        "Several workdirs of one system are its seeds.",
    )
    command.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="evaluated runs of the new system")
    command.add_argument(
        "--over", nargs="+", type=Path, required=True, metavar="WORKDIR", help="evaluated runs of the old system"
    )
    command.add_argument("--split", default="test", help="split whose predictions are compared (default: test)")
    command.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: 1000)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_gain)

    command = commands.add_parser(
        "fill-tables",
        help="fill the tables of a Markdown file with scores",
        description="Fills marked tables of a Markdown file with the scores of workdirs.",
    )
    command.add_argument("document", type=Path, metavar="FILE", help="Markdown file with marked tables")
    command.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of an evaluated run")
    command.set_defaults(command=_fill_tables)

    command = commands.add_parser(
        "config",
        help="list config fields with type, bounds, default and meaning",
        description="Lists config fields with type, bounds, default and meaning: all of them as Markdown, or those of "
        "one group as text.",
    )
    command.add_argument("name", nargs="?", default="", metavar="NAME", help="field or group, e.g. optimizer")
    command.set_defaults(command=_config)
    return parser


def _add_predict(commands: Any) -> None:
    command = commands.add_parser(
        "predict",
        help="predict audio files",
        description="Predicts audio by the best checkpoint of a workdir; one row per clip: file, start, end and the "
        "model's outputs. A clip that cannot be predicted is a line on stderr, and the exit status is then 1. With "
        "--output, a command that was stopped continues when it is run again.",
    )
    command.add_argument("workdir", type=Path, metavar="WORKDIR", help="folder of a trained model")
    command.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="audio file; folder, searched recursively; table with a column file and optionally start, end and "
        "transcript (.csv, .tsv, .jsonl, .parquet; audformat); list of files (.txt); - for standard input: a list, a "
        "table, or audio",
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="file of the rows (default: standard output)")
    command.add_argument(
        "--format",
        choices=("csv", "jsonl", "parquet"),
        help="format of the rows (default: by the suffix of --output, else csv)",
    )
    command.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="also write the embeddings, in the order of the rows: .npy, .npz",
    )
    command.add_argument(
        "--failures", type=Path, metavar="FILE", help="table of the clips that failed (default: OUTPUT.failed.csv)"
    )
    command.add_argument(
        "--root", type=Path, metavar="FOLDER", help="folder of relative paths in tables (default: the table's own)"
    )
    command.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode audio; 0: none (default: by files and cores)"
    )
    command.add_argument(
        "--batch-seconds", type=int, metavar="S", help="audio per forward pass (default: 320, with an encoder 40)"
    )
    command.add_argument(
        "--recognizer",
        default="",
        metavar="CHECKPOINT",
        help="speech recognizer that transcribes clips without transcript, for a model with a lexical modality",
    )
    command.set_defaults(command=_predict)


def _add_styles(command: argparse.ArgumentParser) -> None:
    style = command.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        style.add_argument(
            f"--{name}", dest="style", action="store_const", const=name, help=f"print the rows as {name.upper()}"
        )
    command.set_defaults(style="table")


def _program() -> str:
    return "python -m emojax" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name


if __name__ == "__main__":
    run()
