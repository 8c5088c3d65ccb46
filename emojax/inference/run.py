"""Predicts clips into a table: `python -m emojax predict WORKDIR INPUT ...`."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import jax
import numpy as np
from jaxtyping import Float32

from emojax.errors import ConfigError
from emojax.inference.batches import BatchedPredictions
from emojax.inference.decoding_pool import DecodingPool
from emojax.inference.journal import Journal, Outputs
from emojax.inference.predictor import Prediction, Predictor
from emojax.inference.reading import End, Event, Failure, Reading, Samples
from emojax.inference.sources import Clip
from emojax.inference.tables import ROW_WRITERS, Format, Row
from emojax.progress import Progress
from emojax.types import SAMPLE_RATE
from emojax.workdir.files import CONFIG, CORPUS

if TYPE_CHECKING:
    from emojax.recognition import Recognizer

_TRANSCRIBED_AT_ONCE, _TRANSCRIBED_SECONDS = 64, 600
"""Clips, and audio (s), that are transcribed together; a single clip may be longer."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of a clip: its prediction and bounds in the file, or the message of its failure.

    Attributes:
      number: number of the clip.
      row: row of the table; None: the clip failed.
      embedding: utterance embedding; of a failed clip empty.
      failure: one line; "" for a prediction.
    """

    number: int
    row: Row | None
    embedding: Float32[np.ndarray, "E"]
    failure: str = ""


def predict_clips(
    predictor: Predictor,
    clips: Sequence[Clip],
    numbers: Iterable[int],
    pool: DecodingPool,
    warn: Callable[[str], None],
    recognizer: "Recognizer | None" = None,
    note: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Result]:
    """Predicts clips in batches of similar length, with the windows of validation and evaluation.

    Memory does not grow with the number of clips or their lengths (with a recognizer, which needs a clip as a whole, it
    grows with the longest, at most `emojax.audio.MAX_SECONDS`).

    Args:
      predictor: model.
      clips: all clips.
      numbers: numbers of the clips to predict.
      pool: decodes them.
      warn: receives lines, e.g. that a segment ends beyond its file.
      recognizer: transcribes the clips without transcript; None: they have no words.
      note: receives the audio computed so far (s), after each window.

    Yields:
      Results, as soon as they are computed: in no order, though no clip waits for more than about a thousand others.

    Raises:
      ConfigError: there is a recognizer, and the model has no lexical modality.
    """
    if recognizer is not None and not predictor.takes_transcripts:
        raise ConfigError("--recognizer must not be given: this model has no lexical modality")
    reading = Reading(predictor.windows, predictor.min_samples, predictor.takes_audio, recognizer is not None)
    events = pool.read(((number, clips[number]) for number in numbers), reading)
    texts = {number: clip.transcript or "" for number, clip in enumerate(clips) if clip.transcript}
    if recognizer is not None:
        events = _transcribed(events, clips, recognizer, texts, dataclasses.replace(reading, whole=False))
    batches, ends = BatchedPredictions(predictor, at_once=predictor.batches_at_once), dict[int, End]()
    has_words = predictor.takes_transcripts and (recognizer is not None or bool(texts))

    def results(found: Iterable[tuple[int, Prediction]]) -> Iterator[Result]:
        for number, prediction in found:
            end = ends.pop(number)
            words = texts.get(number, "") if has_words else None
            row = Row.of(clips[number].file, end.start, end.end, prediction, words)
            yield Result(number, row, prediction.embedding)

    for event in events:
        if isinstance(event, Samples):
            yield from results(batches.add(event.clip, event.values, texts.get(event.clip, "")))
        elif isinstance(event, End):
            if event.remark:
                warn(f"warning: {event.remark}")
            ends[event.clip] = event
            yield from results(batches.end(event.clip))
        else:
            batches.drop(event.clip)
            yield Result(event.clip, None, np.zeros(0, np.float32), event.message)
        note(batches.seconds_computed)
    yield from results(batches.rest())
    note(batches.seconds_computed)


def print_predictions(results: Iterable[Result], format: Format, out: TextIO, warn: Callable[[str], None]) -> int:
    """Prints rows in the order of the clips, as soon as they and those before them are computed.

    Args:
      results: results of `predict_clips`, of every clip.
      format: "csv" or "jsonl".
      out: receives the rows.
      warn: receives a line per clip that failed.

    Returns:
      Number of clips that failed.
    """
    write, waiting, following, failed = ROW_WRITERS[format](out), dict[int, Row | None](), 0, 0
    for result in results:
        waiting[result.number] = result.row
        if result.row is None:
            failed += 1
            warn(f"error: {result.failure}")
        while following in waiting:
            row = waiting.pop(following)
            following += 1
            if row is not None:
                write(row)
                out.flush()
    return failed


def predict_to_files(
    predictor: Predictor,
    clips: Sequence[Clip],
    outputs: Outputs,
    options: Mapping[str, Any],
    pool: DecodingPool,
    warn: Callable[[str], None],
    recognizer: "Recognizer | None" = None,
) -> int:
    """Predicts clips into files; after an interruption the same call continues.

    Args:
      predictor: model.
      clips: all clips; those with a result in the journal of `outputs` are not computed again.
      outputs: files that are written.
      options: what the results depend on beside the model and the clips, e.g. the name of the recognizer.
      pool: decodes files.
      warn: receives a summary, after the lines of clips that failed, which are written beside the progress.
      recognizer: see `predict_clips`.

    Returns:
      Number of clips that failed.

    Raises:
      EmojaxError: an output cannot be written, or its journal is of another model.
    """
    identity = {"model": model_digest(predictor), "embeddings": outputs.embeddings is not None, **options}
    with Journal(outputs, identity) as journal:
        first = {clip: number for number, clip in reversed(list(enumerate(clips)))}
        numbers = sorted(number for clip, number in first.items() if clip not in journal)
        done = len(first) - len(numbers)
        with Progress("predict", len(first), "clips", done) as progress:
            if done:
                progress.write(f"{outputs.journal}: {done} of {len(first)} clips computed before")

            def note(seconds: float) -> None:
                progress.advance(0, f"{seconds / 3600:.2f} h of audio")

            for result in predict_clips(predictor, clips, numbers, pool, progress.write, recognizer, note):
                clip = clips[result.number]
                if result.row is None:
                    progress.write(f"error: {result.failure}")
                    journal.fail(clip, result.failure)
                else:
                    journal.write(clip, result.row, result.embedding)
                progress.advance(1)
        failed = journal.finish(clips)
    more = f", {failed} failed: {outputs.failures}" if failed else ""
    count = len(clips) - failed
    warn(f"{outputs.table}: {count} clip{'' if count == 1 else 's'}{more}")
    return failed


def model_digest(predictor: Predictor) -> str:
    """Digest of config, corpus and trained parameters of a model, those of its encoders excepted."""
    trained, digest = predictor.trained, hashlib.sha256()
    for name in (CONFIG, CORPUS):
        digest.update((trained.workdir / name).read_bytes())
    for path, values in jax.tree_util.tree_leaves_with_path(trained.variables):
        name = jax.tree_util.keystr(path)
        if "'encoder'" not in name:
            digest.update(name.encode() + np.asarray(values).tobytes())
    return digest.hexdigest()[:16]


def _transcribed(
    events: Iterable[Event], clips: Sequence[Clip], recognizer: "Recognizer", texts: dict[int, str], reading: Reading
) -> Iterator[Event]:
    """Transcribes whole clips into `texts`, and divides them into windows."""
    group: list[tuple[Samples, End]] = []
    waveforms: dict[int, Samples] = {}
    for event in events:
        if isinstance(event, Samples):
            waveforms[event.clip] = event
        elif isinstance(event, Failure):
            yield event
        else:
            group.append((waveforms.pop(event.clip), event))
            seconds = sum(len(samples.values) for samples, _ in group) / SAMPLE_RATE
            if len(group) >= _TRANSCRIBED_AT_ONCE or seconds >= _TRANSCRIBED_SECONDS:
                yield from _divided(group, clips, recognizer, texts, reading)
                group = []
    yield from _divided(group, clips, recognizer, texts, reading)


def _divided(
    group: list[tuple[Samples, End]],
    clips: Sequence[Clip],
    recognizer: "Recognizer",
    texts: dict[int, str],
    reading: Reading,
) -> Iterator[Event]:
    unknown = [
        samples
        for samples, _ in group
        if clips[samples.clip].transcript is None and len(samples.values) >= recognizer.min_samples
    ]  # a clip that is too short for the recognizer has no words
    found = recognizer.transcribe_all([samples.values for samples in unknown])
    texts |= {samples.clip: transcript.text for samples, transcript in zip(unknown, found, strict=True)}
    for samples, end in group:
        for start, length in reading.bounds(len(samples.values)):
            yield Samples(samples.clip, samples.values[start : start + length])
        yield end
