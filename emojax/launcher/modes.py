"""The modes of the command, each a function of the workdir that returns the exit status."""

import signal
import sys
from pathlib import Path

from emojax.interruption import INTERRUPTED
from emojax.launcher.flags import (
    CATEGORY_MAP,
    CONFIG,
    CORPUS,
    DATA_DIR,
    OUTPUT,
    SPLITS,
    TOPOLOGY,
    UsageError,
    config_tree,
)

# Each mode imports what it runs when it is chosen: together they take seconds.


def _train(workdir: Path) -> int:
    from emojax.config import parse_experiment
    from emojax.reporting import evaluate_workdir
    from emojax.training import train_workdir
    from emojax.workdir import hold

    config = parse_experiment(config_tree())
    with hold(workdir):  # no other command in between
        outcome = train_workdir(config, workdir)
        if outcome.interrupted_by is not None:
            return _interrupted(outcome.interrupted_by, f"stopped at step {outcome.steps}, which is saved")
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
    )
    return 0


def _extract(directory: Path) -> int:
    from emojax.extraction import extract_store, parse_extraction

    run = extract_store(parse_extraction(config_tree()), directory)
    if run.interrupted_by is not None:
        return _interrupted(run.interrupted_by, "stopped; finished shards are kept")
    empty = f", {run.empty} without a transcript" if run.empty else ""
    short = f", {run.short} too short for one frame" if run.short else ""
    cut = f", {run.cut} transcripts cut" if run.cut else ""
    speed = f"{run.audio_hours_per_hour:.0f} audio-hours per hour" if run.utterances else "nothing was left to do"
    print(f"{directory}: {run.utterances} utterances, {run.bytes / 1e6:.1f} MB{empty}{short}{cut}; {speed}", flush=True)
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


def _quantise(workdir: Path) -> int:
    if not OUTPUT.value:
        raise UsageError("--output=DIR is missing")
    from emojax.workdir.restore import quantise_workdir

    path = quantise_workdir(workdir, Path(OUTPUT.value))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
    return 0


def _plan(workdir: Path) -> int:
    if not TOPOLOGY.value:
        raise UsageError("--topology=CHIP:AxB is missing, e.g. --topology=v5e:4x4")
    from emojax.config import parse_experiment
    from emojax.planning import plan_workdir

    plan_workdir(parse_experiment(config_tree()), workdir, TOPOLOGY.value)
    return 0


MODES = {
    "train": _train,
    "evaluate": _evaluate,
    "extract": _extract,
    "import": _import,
    "pretrain": _pretrain,
    "quantise": _quantise,
    "plan": _plan,
}
"""What runs a mode of `--mode`: takes the workdir, returns the exit status."""


def _interrupted(number: signal.Signals, message: str) -> int:
    print(f"{message}; the same command continues", file=sys.stderr)
    return INTERRUPTED if number is signal.SIGINT else 0
