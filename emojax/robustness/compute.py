"""Computes the cells of a grid: each clip is degraded once per condition, for all models that lack the cell."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from emojax.bucketing import padded_batches
from emojax.interruption import Interruption
from emojax.model_tests.model import Clip, Outputs
from emojax.model_tests.utterances import Utterances
from emojax.progress import Progress
from emojax.robustness.cells import Cell, CellStore
from emojax.robustness.conditions import Condition
from emojax.robustness.degrade import ClipBatch, Degrader
from emojax.robustness.models import GridModel
from emojax.robustness.transcripts import ConditionTranscripts
from emojax.types import NUM_ATTRIBUTES, SAMPLE_RATE

_READ_AT_ONCE = 1024
"""Clips in memory at a time."""

_LEAST_SECONDS, _MOST_SECONDS = 10, 160
"""Audio per batch and device, padding included, unless one clip is longer (s)."""

_BATCHES = 16
"""Batches that few clips are divided into. All of a length have the same number of rows, so that few programs are
compiled; more batches have fewer empty rows."""


@dataclasses.dataclass(frozen=True)
class GridWork:
    """What a grid is computed from.

    Attributes:
      models: models, with different names.
      utterances: utterances of a split.
      rows: those that are degraded, as indices.
      conditions: conditions that are not missing.
      degrader: degrades batches.
      store: finished cells.
      keys: key of the cell of each model and condition, by their names.
      transcripts: opens the transcripts of a condition; None for the corpus's own.
    """

    models: Sequence[GridModel]
    utterances: Utterances
    rows: Int[np.ndarray, "N"]
    conditions: Sequence[Condition]
    degrader: Degrader
    store: CellStore
    keys: Mapping[tuple[str, str], str]
    transcripts: Callable[[Condition], ConditionTranscripts] | None


def compute_grid(work: GridWork, interruption: Interruption) -> dict[tuple[str, str], Cell] | None:
    """Computes the cells that are not in the store, and returns all.

    Args:
      work: models, utterances and conditions.
      interruption: stops the work; the cells that are finished, and all transcripts, are kept.

    Returns:
      Cell of each model and condition, by their names; None if interrupted.

    Raises:
      EmojaxError: a clip cannot be read, an output is not finite, or a file cannot be written.
    """
    cells: dict[tuple[str, str], Cell] = {}
    missing: list[tuple[Condition, list[GridModel]]] = []
    for condition in work.conditions:
        models = []
        for model in work.models:
            place = (model.name, condition.name)
            cell = work.store.read(*place, work.keys[place], len(work.rows))
            if cell is None:
                models.append(model)
            else:
                cells[place] = cell
        if models:
            missing.append((condition, models))
    label = f"robustness {work.utterances.info.name} {work.utterances.split}"
    total = len(work.models) * len(work.conditions) * len(work.rows)
    with Progress(label, total, "clips", done=len(cells) * len(work.rows)) as progress:
        for condition, models in missing:
            computed = _compute(work, condition, models, progress, interruption)
            if computed is None:
                return None
            for model, cell in zip(models, computed, strict=True):
                place = (model.name, condition.name)
                work.store.write(*place, work.keys[place], cell)
                cells[place] = cell
    return cells


def _compute(
    work: GridWork, condition: Condition, models: Sequence[GridModel], progress: Progress, interruption: Interruption
) -> list[Cell] | None:
    """Cells of models in a condition; None if interrupted."""
    count = len(work.rows)
    outputs = [
        Outputs(np.full((count, NUM_ATTRIBUTES), np.nan), np.zeros((count, len(model.categories)))) for model in models
    ]
    no_snr, beyond = np.zeros((2, count), bool)
    found = work.transcripts(condition) if work.transcripts and any(m.takes_transcripts for m in models) else None
    most, devices = min(_MOST_SECONDS, *(model.seconds_at_once for model in models)), work.degrader.mesh.size
    for start in range(0, count, _READ_AT_ONCE):
        clips = work.utterances.read(work.rows[start : start + _READ_AT_ONCE].tolist())
        waveforms = [clip.waveform for clip in clips]
        even = sum(map(len, waveforms)) // (_BATCHES * devices)
        size = min(max(even, _LEAST_SECONDS * SAMPLE_RATE), most * SAMPLE_RATE)
        for members, padded, lengths in padded_batches(waveforms, SAMPLE_RATE, size, None, devices, fill=True):
            if interruption.received:
                return None
            places = np.array(members) + start
            degraded = work.degrader(condition, _batch(work, clips, members, places, padded, lengths))
            batch = degraded.batch
            no_snr[places], beyond[places] = degraded.no_snr, degraded.beyond
            texts = [clips[member].transcript for member in members]
            if found is not None:
                texts = found.texts(batch.ids, batch.clips)
            for model, output in zip(models, outputs, strict=True):
                predicted = model.predict(batch, texts if model.takes_transcripts else [""] * len(members))
                output.attributes[places], output.probabilities[places] = predicted.attributes, predicted.probabilities
                progress.advance(len(members), f"{condition.name}, {model.name}")
    return [Cell(output, no_snr, beyond) for output in outputs]


def _batch(
    work: GridWork,
    clips: Sequence[Clip],
    members: Sequence[int],
    places: Int[np.ndarray, "n"],
    padded: np.ndarray,
    lengths: np.ndarray,
) -> ClipBatch:
    return ClipBatch(
        waveform=padded,
        num_samples=lengths,
        ids=tuple(clips[member].id for member in members),
        speakers=tuple(work.utterances.speakers[row] for row in work.rows[places]),
    )
