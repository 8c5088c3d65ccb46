"""Runs the modes of the command, each a function of the workdir that returns the exit status."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from emojax.interruption import INTERRUPTED, end_process
from emojax.launcher.flags import (
    CATEGORY_MAP,
    CLIPS,
    CONFIG,
    COORDINATOR,
    CORPUS,
    CORPUS_HOURS,
    DATA_DIR,
    FOLDS,
    FORMAT,
    HEARTBEAT_SECONDS,
    JOIN_SECONDS,
    MODE,
    MODELS,
    NUM_PROCESSES,
    OUTPUT,
    PREDICTOR,
    PROCESS_ID,
    RTTM,
    RUNTIME,
    SEARCH,
    SPLITS,
    TOPOLOGY,
    TRANSCRIPTS,
    USAGE,
    WORKDIR,
    UsageError,
    beam_options,
    check_flags_of_mode,
    config_tree,
    fail,
    program,
)

if TYPE_CHECKING:
    from emojax.extraction import StoreRun

# Each mode imports what it runs when it is chosen: together they take seconds.


def main(argv: list[str]) -> int:
    """Runs one mode; returns the exit status. After an error the process ends here."""
    logging.set_verbosity(logging.WARNING)  # at INFO, TFDS and JAX log which files and backends they looked for
    if len(argv) > 1 and MODE.value != "annotate":
        return fail(f"{argv[1]!r} is not a flag; see {program()} --help", USAGE)
    if not WORKDIR.value:
        return fail("--workdir=DIR is missing", USAGE)
    if "://" in WORKDIR.value:
        return fail(f"--workdir must be a folder, got {WORKDIR.value}; mount the bucket", USAGE)
    status, message = _run(Path(WORKDIR.value), argv[1:])
    if status in (1, USAGE):
        # At once: the exit handlers of libraries would wait for lost processes, or print tracebacks of a full disk.
        sys.stdout.flush()
        end_process(status, message)
    return status


def _run(workdir: Path, recordings: Sequence[str]) -> tuple[int, str]:
    """Runs the mode; returns the exit status and, for an error, the line that reports it."""
    from emojax.errors import EmojaxError, is_full_disk, reason
    from emojax.parallel import LOST, is_lost_process_error, keep_freed_memory, use_compilation_cache

    keep_freed_memory()
    use_compilation_cache()
    try:
        check_flags_of_mode()
        _join_processes()
        if MODE.value == "annotate":
            return _annotate(workdir, recordings), ""
        return _MODES[MODE.value](workdir), ""
    except EmojaxError as error:
        return 1, f"error: {error}"
    except UsageError as error:
        return USAGE, f"error: {error}"
    except Exception as error:
        if is_lost_process_error(error):
            return 1, f"{LOST} ({reason(error)})"
        if isinstance(error, OSError) and error.filename:
            return 1, f"error: {error.filename}: {error.strerror}"
        if isinstance(error, OSError) or is_full_disk(error):
            return 1, f"error: {reason(error)}"
        traceback.print_exc()
        return 1, ""


def _join_processes() -> None:
    from emojax.parallel import is_first_process, join_processes
    from emojax.progress import Progress

    join_processes(
        COORDINATOR.value,
        NUM_PROCESSES.value,
        PROCESS_ID.value,
        join_seconds=JOIN_SECONDS.value,
        heartbeat_seconds=HEARTBEAT_SECONDS.value,
    )
    if not is_first_process():  # errors are printed by every process, anything else by the first
        Progress.shown = False
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _train(workdir: Path) -> int:
    from emojax.config import parse_experiment
    from emojax.reporting import evaluate_workdir
    from emojax.training import train_workdir
    from emojax.workdir import hold

    config = parse_experiment(config_tree())
    with hold(workdir):  # no other command in between
        if FOLDS.value:
            from emojax.cross_validation import cross_validate, parse_num_folds

            outcome = cross_validate(config, workdir, parse_num_folds(FOLDS.value))
        else:
            outcome = train_workdir(config, workdir)
        if outcome.interrupted_by is not None:
            return _interrupted(outcome.interrupted_by, f"stopped at step {outcome.steps}, which is saved")
        if FOLDS.value:
            return 0
        if config.evaluation.linear_baselines:
            from emojax.cross_validation import write_linear_baselines

            write_linear_baselines(workdir)
        evaluate_workdir(workdir)
    return 0


def _evaluate(workdir: Path) -> int:
    if CONFIG.value is not None:
        raise UsageError("--mode=evaluate takes its config from the workdir; omit --config")
    from emojax.reporting import evaluate_workdir

    evaluate_workdir(
        workdir,
        corpus_name=CORPUS.value,
        splits=tuple(SPLITS.value),
        data_dir=DATA_DIR.value,
        category_map=CATEGORY_MAP.value,
        transcripts=TRANSCRIPTS.value,
    )
    return 0


def _test(workdir: Path) -> int:
    from emojax.model_tests import ModelTestsConfig, parse_model_tests, run_workdir_tests

    run_workdir_tests(
        workdir,
        ModelTestsConfig() if CONFIG.value is None else parse_model_tests(config_tree()),
        corpus_name=CORPUS.value,
        splits=tuple(SPLITS.value),
        data_dir=DATA_DIR.value,
        category_map=CATEGORY_MAP.value,
        predictor=PREDICTOR.value,
    )
    return 0


def _robustness(workdir: Path) -> int:
    from emojax.robustness import RobustnessGridConfig, parse_robustness, run_robustness

    outcome = run_robustness(
        workdir,
        RobustnessGridConfig() if CONFIG.value is None else parse_robustness(config_tree()),
        models=tuple(MODELS.value),
        corpus_name=CORPUS.value,
        splits=tuple(SPLITS.value),
        data_dir=DATA_DIR.value,
        category_map=CATEGORY_MAP.value,
    )
    if outcome.interrupted_by is not None:
        return _interrupted(outcome.interrupted_by, "stopped; finished conditions are kept")
    return 0


def _extract(directory: Path) -> int:
    from emojax.extraction import extract_store, parse_extraction

    options = beam_options()
    run = extract_store(parse_extraction(config_tree()), directory, options)
    if run.interrupted_by is not None:
        return _interrupted(run.interrupted_by, "stopped; finished shards are kept")
    empty = f", {run.empty} without a transcript" if run.empty else ""
    short = f", {run.short} too short for one frame" if run.short else ""
    cut = f", {run.cut} transcripts cut" if run.cut else ""
    counts = f"{run.utterances} utterances, {run.bytes / 1e6:.1f} MB{empty}{short}{cut}"
    print(f"{directory}: {counts}; {_speed(run)}", flush=True)
    return 0


def _transcribe(directory: Path) -> int:
    from emojax.transcription import parse_transcription, transcribe_corpus

    outcome = transcribe_corpus(parse_transcription(config_tree()), directory)
    run = outcome.run
    if run.interrupted_by is not None:
        return _interrupted(run.interrupted_by, "stopped; finished shards are kept")
    for split, counts in outcome.splits.items():
        print(f"{split}: {counts}")
    short = f", {run.short} too short" if run.short else ""
    print(f"{directory}: {run.utterances} utterances transcribed{short}; {_speed(run)}", flush=True)
    return 0


def _import(workdir: Path) -> int:
    from emojax.config import parse_experiment
    from emojax.importers import import_published

    import_published(parse_experiment(config_tree()), workdir)
    print(f"{workdir}: imported", flush=True)
    return 0


def _pretrain(workdir: Path) -> int:
    from emojax.pretraining import ENCODER, parse_pretraining, pretrain_workdir

    outcome = pretrain_workdir(parse_pretraining(config_tree()), workdir)
    if outcome.interrupted_by is not None:
        return _interrupted(outcome.interrupted_by, f"stopped at step {outcome.steps}, which is saved")
    print(f"{workdir / ENCODER}: pre-trained, accuracy on masked frames {outcome.best_score:.3f}", flush=True)
    return 0


def _annotate(workdir: Path, recordings: Sequence[str]) -> int:
    if not recordings:
        raise UsageError("recordings are missing: --mode=annotate --workdir=DIR FILE_OR_FOLDER ...")
    from emojax.annotation import AnnotateConfig, annotate_files, parse_annotation
    from emojax.annotation.run import ANNOTATIONS
    from emojax.parallel import leave_processes

    run = annotate_files(
        workdir,
        AnnotateConfig() if CONFIG.value is None else parse_annotation(config_tree()),
        [Path(each) for each in recordings],
        Path(OUTPUT.value) if OUTPUT.value else workdir / ANNOTATIONS,
        [Path(each) for each in RTTM.value],
    )
    if run.interrupted_by is not None:
        return _interrupted(run.interrupted_by, "stopped; finished recordings are kept")
    print(f"{OUTPUT.value or workdir / ANNOTATIONS}: {run}", flush=True)
    leave_processes()
    return 1 if run.missing else 0


def _quantise(workdir: Path) -> int:
    if not OUTPUT.value:
        raise UsageError("--output=DIR is missing")
    from emojax.workdir.restore import quantise_workdir

    path = quantise_workdir(workdir, Path(OUTPUT.value))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
    return 0


def _export(workdir: Path) -> int:
    if not OUTPUT.value:
        raise UsageError("--output=FOLDER is missing")
    if CONFIG.value is not None:
        raise UsageError("--mode=export takes its config from the workdir; omit --config")
    if RUNTIME.value and FORMAT.value != "web":
        raise UsageError(f"--runtime is a flag of --format=web, got --format={FORMAT.value}")
    from emojax.export import export_workdir

    runtime = Path(RUNTIME.value) if RUNTIME.value else None
    export_workdir(workdir, Path(OUTPUT.value), FORMAT.value, tuple(CLIPS.value), runtime)
    print(f"{OUTPUT.value}: exported", flush=True)
    return 0


def _plan(workdir: Path) -> int:
    if not TOPOLOGY.value:
        raise UsageError("--topology=CHIP:AxB is missing, e.g. --topology=v5e:4x4")
    from emojax.config import parse_experiment
    from emojax.planning import plan_workdir

    plan_workdir(
        parse_experiment(config_tree()),
        workdir,
        TOPOLOGY.value,
        corpus_hours=CORPUS_HOURS.value,
        searched=SEARCH.value,
    )
    return 0


_MODES = {
    "train": _train,
    "evaluate": _evaluate,
    "test": _test,
    "robustness": _robustness,
    "extract": _extract,
    "transcribe": _transcribe,
    "import": _import,
    "pretrain": _pretrain,
    "quantise": _quantise,
    "export": _export,
    "plan": _plan,
}
"""What runs a mode of `--mode`: takes the workdir, returns the exit status."""


def _speed(run: "StoreRun") -> str:
    return f"{run.audio_hours_per_hour:.3g} audio-hours per hour" if run.utterances else "nothing was left to do"


def _interrupted(number: signal.Signals, message: str) -> int:
    print(f"{message}; the same command continues", file=sys.stderr)
    return INTERRUPTED if number is signal.SIGINT else 0
