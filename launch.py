"""Trains and evaluates emotion models from a config file.

  python launch.py --config=configs/NAME.py --workdir=DIR [--config.a.b=value ...]
  python launch.py --mode=evaluate --workdir=DIR [--corpus=NAME] [--splits=dev,test] [--category_map=joy:happiness,...]
  python launch.py --mode=extract --config=configs/extract.py --workdir=STORE [--config.encoder.checkpoint=NAME ...]
  python launch.py --mode=import --config=configs/published.py --workdir=DIR [--config.model.acoustic.checkpoint=NAME]
  python launch.py --mode=pretrain --config=configs/pretrain_hubert.py --workdir=DIR [--config.a.b=value ...]
  python launch.py --mode=quantise --workdir=DIR --output=SMALLER
  python launch.py --mode=plan --config=configs/NAME.py --workdir=DIR --topology=v5e:16x16 [--config.a.b=value ...]

`train` continues where DIR holds a checkpoint, and ends with the evaluation of the best one. `evaluate` needs nothing
but the workdir. `extract` runs an encoder, or a teacher, over a corpus and keeps what it says; it continues a store
that is not finished. `import` makes a workdir of a published emotion model. `pretrain` trains a speech encoder without
labels; it then lies in DIR/encoder. `quantise` makes a workdir with 8-bit weights, to evaluate and load as any other.
`plan` compiles the training step for a TPU slice, without one, and tells memory, exchanges and predicted speed.
Ctrl-C and SIGTERM during training or extraction save first; the same command then continues. At any other moment
they end the command with one line, and a second one always ends it at once. Exit status: 0 done (or saved on SIGTERM),
1 an error reported in one line, 2 wrong usage, 130 stopped by Ctrl-C, 143 stopped by SIGTERM with nothing saved.
One command at a time writes in a folder; a second one ends with an error that names host and process of the first.

Started by srun or mpirun, or on every host of a TPU slice, the same command runs as one program over all their
devices; elsewhere `--coordinator=HOST:PORT --num_processes=N --process_id=K` says who belongs together.
"""

from emojax.interruption import INTERRUPTED, end_process, watch_signals

if __name__ == "__main__":
    watch_signals()  # what is imported below takes seconds

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from emojax.task_launchers import quiet_native_logs, started_with_others

if __name__ == "__main__" and (started_with_others() or any("num_processes" in word for word in sys.argv)):
    quiet_native_logs()  # before a config file, which is read with the flags, imports JAX

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file; any field can be overridden.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "evaluate", "extract", "import", "pretrain", "quantise", "plan"], "What to do."
)
_CORPUS = flags.DEFINE_string("corpus", "", "evaluate: another corpus than the one trained on.")
_SPLITS = flags.DEFINE_list("splits", [], "evaluate: splits; the config's test splits by default.")
_CATEGORY_MAP = flags.DEFINE_list(
    "category_map", [], "evaluate: THEIRS:OURS,... for categories of the corpus that the model has by another name."
)
_OUTPUT = flags.DEFINE_string("output", "", "quantise: the small workdir that is made.")
_TOPOLOGY = flags.DEFINE_string("topology", "", "plan: TPU slice, e.g. v5e:16x16.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "Several processes: HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "Several processes: how many.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Several processes: the number of this one, from 0.")
_JOIN_SECONDS = flags.DEFINE_integer("join_seconds", 300, "Several processes: how long to wait for the others.")
_HEARTBEAT_SECONDS = flags.DEFINE_integer("heartbeat_seconds", 100, "Several processes: silence that means death.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "evaluate: where corpora are, if not where training found them.")

_USAGE = 2


class _UsageError(Exception):
    """A flag that is missing or wrong."""


def main(argv: list[str]) -> int:
    """Runs one mode; returns the exit status. After an error the process ends here."""
    logging.set_verbosity(logging.WARNING)  # TFDS and JAX tell at INFO what files and backends they looked for
    if len(argv) > 1:
        return _fail(f"{argv[1]!r} is no flag; see python launch.py --help", _USAGE)
    if not _WORKDIR.value:
        return _fail("--workdir=DIR is missing", _USAGE)
    status, message = _run(Path(_WORKDIR.value))
    if status in (1, _USAGE):
        # At once: the exit handlers of libraries would wait for lost processes, or print tracebacks of a full disk.
        sys.stdout.flush()
        end_process(status, message)
    return status


def _run(workdir: Path) -> tuple[int, str]:
    """Runs the mode; returns the exit status and, for an error, the line that reports it."""
    from emojax.errors import EmojaxError, is_full_disk, reason
    from emojax.parallel import LOST, keep_freed_memory, lost_process, use_compilation_cache

    keep_freed_memory()
    use_compilation_cache()
    try:
        _join_processes()
        return _MODES[_MODE.value](workdir), ""
    except EmojaxError as error:
        return 1, f"error: {error}"
    except _UsageError as error:
        return _USAGE, f"error: {error}"
    except Exception as error:
        if lost_process(error):
            return 1, f"{LOST} ({reason(error)})"
        if isinstance(error, OSError) or is_full_disk(error):
            place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            return 1, f"error: {place}{reason(error)}"
        traceback.print_exc()
        return 1, ""


def _join_processes() -> None:
    from emojax.parallel import is_first, join_processes
    from emojax.progress import Progress

    join_processes(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        join_seconds=_JOIN_SECONDS.value,
        heartbeat_seconds=_HEARTBEAT_SECONDS.value,
    )
    if not is_first():  # errors are told by every process, anything else by the first
        Progress.shown = False
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _train(workdir: Path) -> int:
    from emojax.config import parse_experiment
    from emojax.reporting import evaluate_workdir
    from emojax.training import train_workdir
    from emojax.workdir import hold

    config = parse_experiment(_config_tree())
    with hold(workdir):  # no other command in between
        outcome = train_workdir(config, workdir)
        if outcome.interrupted_by is not None:
            return _interrupted(outcome.interrupted_by, f"stopped at step {outcome.steps}, which is saved")
        evaluate_workdir(workdir)
    return 0


def _evaluate(workdir: Path) -> int:
    if _CONFIG.value is not None:
        raise _UsageError("--mode=evaluate takes its config from the workdir; leave --config out")
    from emojax.reporting import evaluate_workdir

    evaluate_workdir(
        workdir,
        corpus_name=_CORPUS.value,
        splits=tuple(_SPLITS.value),
        data_dir=_DATA_DIR.value,
        category_map=_CATEGORY_MAP.value,
    )
    return 0


def _extract(directory: Path) -> int:
    tree = _config_tree()
    if "teacher" in tree:
        return _extract_teacher(tree, directory)
    from emojax.extraction import extract_store, parse_extraction

    run = extract_store(parse_extraction(tree), directory)
    if run.interrupted_by is not None:
        return _interrupted(run.interrupted_by, "stopped; finished shards are kept")
    empty = f", {run.empty} without a transcript" if run.empty else ""
    short = f", {run.short} too short for one frame" if run.short else ""
    cut = f", {run.cut} transcripts cut" if run.cut else ""
    speed = f"{run.audio_hours_per_hour:.0f} audio-hours per hour" if run.utterances else "nothing was left to do"
    print(f"{directory}: {run.utterances} utterances, {run.bytes / 1e6:.1f} MB{empty}{short}{cut}; {speed}", flush=True)
    return 0


def _extract_teacher(tree: dict[str, Any], directory: Path) -> int:
    from emojax.training.teacher_cache import cache_teacher, parse_teacher_cache

    run = cache_teacher(parse_teacher_cache(tree), directory)
    if run.interrupted_by is not None:
        return _interrupted(run.interrupted_by, "stopped; finished splits are kept")
    print(f"{directory}: {run.utterances} utterances in {run.seconds:.0f} s", flush=True)
    return 0


def _import(workdir: Path) -> int:
    from emojax.config import parse_experiment
    from emojax.importers import import_published

    import_published(parse_experiment(_config_tree()), workdir)
    print(f"{workdir}: imported", flush=True)
    return 0


def _pretrain(workdir: Path) -> int:
    from emojax.pretraining import ENCODER, parse_pretraining, pretrain_workdir

    outcome = pretrain_workdir(parse_pretraining(_config_tree()), workdir)
    if outcome.interrupted_by is not None:
        return _interrupted(outcome.interrupted_by, f"stopped at step {outcome.steps}, which is saved")
    print(f"{workdir / ENCODER}: pre-trained, accuracy on hidden frames {outcome.best_score:.3f}", flush=True)
    return 0


def _quantise(workdir: Path) -> int:
    if not _OUTPUT.value:
        raise _UsageError("--output=DIR is missing")
    from emojax.workdir.restore import quantise_workdir

    path = quantise_workdir(workdir, Path(_OUTPUT.value))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
    return 0


def _plan(workdir: Path) -> int:
    if not _TOPOLOGY.value:
        raise _UsageError("--topology=CHIP:AxB is missing, e.g. --topology=v5e:4x4")
    from emojax.config import parse_experiment
    from emojax.planning import plan_workdir

    plan_workdir(parse_experiment(_config_tree()), workdir, _TOPOLOGY.value)
    return 0


_MODES = {
    "train": _train,
    "evaluate": _evaluate,
    "extract": _extract,
    "import": _import,
    "pretrain": _pretrain,
    "quantise": _quantise,
    "plan": _plan,
}


def _config_tree() -> dict[str, Any]:
    if _CONFIG.value is None:
        raise _UsageError("--config=configs/NAME.py is missing")
    try:
        return _CONFIG.value.to_dict()
    except OSError as error:  # ml_collections reports a file that is not there when the config is first read
        filename = flags.FLAGS["config"].config_filename  # type: ignore[attr-defined]
        raise _UsageError(f"--config={filename}: no such config file") from error


def _interrupted(number: signal.Signals, message: str) -> int:
    print(f"{message}; the same command continues", file=sys.stderr)
    return INTERRUPTED if number is signal.SIGINT else 0


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses flags, telling a wrong one in one line in place of a usage page or a traceback."""
    try:
        return flags.FLAGS(argv)
    except FileNotFoundError as error:
        sys.exit(_fail(f"--config: {error.filename or error} does not exist", _USAGE))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        # For a field that does not exist ml_collections raises a KeyError, sometimes within an AttributeError, whose
        # second line names the field it may have been; its text is written as Python would, with quotes and \\n.
        cause: Any = error
        while cause.args and isinstance(cause.args[0], Exception):
            cause = cause.args[0]
        message = str(cause.args[0]) if isinstance(cause, KeyError) and cause.args else str(cause)
        lines = [line.strip() for line in message.splitlines() if line.strip()] or [type(error).__name__]
        if lines[0].endswith(":"):  # what a config file raised comes last
            lines = lines[-1:]
        elif isinstance(cause, KeyError):
            lines[0] = f"--config: has no field {lines[0]}" if lines[0].startswith("'") else f"--config: {cause!r}"
        sys.exit(_fail("; ".join(lines), _USAGE))
    except Exception as error:  # of the config file's own code
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
        sys.exit(_fail(f"--config: {type(error).__name__}: {error}{place}", _USAGE))


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
