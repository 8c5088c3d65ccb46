"""Measures models on the utterances of one split: keys of the cells, transcripts, cells, and their scores."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from emojax.errors import ConfigError
from emojax.evaluation.categories import parse_category_map
from emojax.interruption import Interruption
from emojax.metrics import resampled_by
from emojax.model_tests.config import ModelTestsConfig, RobustnessConfig
from emojax.model_tests.measurement import Measurement
from emojax.model_tests.utterances import Utterances
from emojax.reporting.evaluate import file_name
from emojax.robustness.cells import CellStore, cell_key, utterances_digest
from emojax.robustness.compute import GridWork, compute_grid
from emojax.robustness.conditions import Condition, condition_digest, grid_conditions, mean_conditions
from emojax.robustness.config import RobustnessGridConfig
from emojax.robustness.degrade import Degrader
from emojax.robustness.models import GridModel, systems_of
from emojax.robustness.results import (
    CORPUS_TRANSCRIPTS,
    RECOGNISED_TRANSCRIPTS,
    ConditionCounts,
    GridResults,
)
from emojax.robustness.scores import Scoring, System, score_grid
from emojax.robustness.sounds import GridSounds
from emojax.robustness.transcripts import ConditionTranscripts, GridRecognizer, write_description
from emojax.schema import to_tree


def measure_grid(
    models: Sequence[GridModel],
    utterances: Utterances,
    sounds: GridSounds,
    config: RobustnessGridConfig,
    mesh: Mesh,
    directory: Path,
    interruption: Interruption,
    category_map: Sequence[str] = (),
    content: str = "",
) -> GridResults | None:
    """Measures models on the utterances of one split; finished cells in the folder are not computed again.

    Args:
      models: models, with different names; runs that differ in their seeds are one system.
      utterances: utterances of a split.
      sounds: noises, talkers and rooms.
      config: settings of the grid.
      mesh: mesh from `grid_mesh`.
      directory: folder of the cells and transcripts, in `SPLIT/`.
      interruption: stops the work; what is finished is kept.
      category_map: pairs `THEIRS:OURS` of a category of the corpus and one of the models.
      content: digest of the utterances' audio; "" where unknown.

    Returns:
      Results, without the time taken; None if interrupted.

    Raises:
      ConfigError: `config.reference` is no system, or two systems have one name.
    """
    pairs = parse_category_map(category_map)
    tests = ModelTestsConfig(seed=config.seed, robustness=RobustnessConfig(utterances=config.utterances))
    as_tested: list[Any] = list(models)  # `Measurement` uses what both kinds of models have
    measurements = {
        model.name: Measurement(model, utterances, tests, _pairs_of(model, models, pairs)) for model in as_tested
    }
    grouped = systems_of(models)
    systems = {name: System(name, tuple(measurements[run.name] for run in runs)) for name, runs in grouped.items()}
    reference = config.reference or next(iter(systems))
    if reference not in systems:
        raise ConfigError(f"config.reference must be one of {', '.join(systems)}, got {reference!r}")
    rows = measurements[models[0].name].drawn
    ids = [utterances.ids[row] for row in rows]
    conditions = grid_conditions(config, sounds)
    applied = [condition for condition in conditions if not condition.missing]
    folder = directory / file_name(utterances.split)
    of_utterances = utterances_digest(utterances.info.name, utterances.split, ids, content)
    digests = {condition.name: condition_digest(condition, config, sounds) for condition in applied}
    recognizer, sources, source = None, {}, ""
    if any(model.takes_transcripts for model in models):
        source = CORPUS_TRANSCRIPTS
        if config.transcripts == "recognised":
            recognizer = GridRecognizer(config.recognizer)
            write_description(folder / "transcripts" / "recognizer.json", recognizer)
            source = RECOGNISED_TRANSCRIPTS
        sources = {name: source for name, runs in grouped.items() if runs[0].takes_transcripts}
    recognised = json.dumps(recognizer.description) if recognizer else source

    @functools.cache
    def open_transcripts(condition: Condition) -> ConditionTranscripts:
        assert recognizer is not None
        key = hashlib.sha256(json.dumps([digests[condition.name], of_utterances, recognised]).encode()).hexdigest()
        path = folder / "transcripts" / f"{file_name(condition.name)}.jsonl"
        return ConditionTranscripts(path, key, recognizer)

    work = GridWork(
        models=models,
        utterances=utterances,
        rows=rows,
        conditions=applied,
        degrader=Degrader(sounds, mesh, config.seed, config.full_scale),
        store=CellStore(folder / "cells"),
        keys={
            (model.name, condition.name): cell_key(
                model.digest,
                digests[condition.name],
                of_utterances,
                recognised if model.takes_transcripts else "",
            )
            for model in models
            for condition in applied
        },
        transcripts=open_transcripts if recognizer else None,
    )
    cells = compute_grid(work, interruption)
    if cells is None:
        return None
    counts = {}
    references = [clip.transcript for clip in utterances.read(rows.tolist())] if recognizer else []
    for condition in applied:
        cell = cells[models[0].name, condition.name]
        rate = open_transcripts(condition).word_error_rate(ids, references) if recognizer else None
        counts[condition.name] = ConditionCounts(int(cell.no_snr.sum()), int(cell.beyond.sum()), rate)
    means = mean_conditions(applied)
    scoring = Scoring(config.bootstrap_resamples, config.seed)
    return GridResults(
        corpus=utterances.info.name,
        split=utterances.split,
        speech=utterances.info.speech,
        n=len(rows),
        too_short=utterances.too_short,
        units=_units(utterances, rows.tolist()),
        models=tuple(systems),
        reference=reference,
        runs={name: tuple(run.name for run in runs) for name, runs in grouped.items()},
        transcripts=sources,
        conditions=(conditions[0], *means, *conditions[1:]),
        counts=counts,
        scores=tuple(score_grid(list(systems.values()), [*applied, *means], cells, scoring, reference)),
        settings=to_tree(config),
        seconds=0.0,
    )


def _pairs_of(model: GridModel, models: Sequence[GridModel], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of a map of categories without those of other models; an error is raised for those of none."""
    others = {name for other in models for name in other.categories if name not in model.categories}
    return [(theirs, ours) for theirs, ours in pairs if ours not in others]


def _units(utterances: Utterances, rows: Sequence[int]) -> str:
    speakers = [utterances.speakers[row] for row in rows]
    if resampled_by(speakers) == "utterance":
        return f"{len(rows)} utterances"
    return f"{len(set(speakers))} speakers"
