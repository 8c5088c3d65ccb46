"""Annotates one recording: activity, segments, transcript, speakers, predictions of segments and sliding windows."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emojax.annotation.activity import FRAME_SECONDS, DetectorName, choose_detector, silero_detectors
from emojax.annotation.annotation import Annotation, ModelDescription, Segment, Track
from emojax.annotation.config import AnnotateConfig
from emojax.annotation.recording import Recording, open_recording
from emojax.annotation.segments import find_segments, to_seconds
from emojax.annotation.speakers import Turns
from emojax.annotation.track import in_segments, smooth, smooth_spread, window_starts
from emojax.annotation.transcripts import SegmentText, Span, load_word_recognizer, texts_between, transcribe
from emojax.errors import ConfigError
from emojax.inference.predictor import Prediction, Predictor
from emojax.recognition import Recognizer
from emojax.types import ATTRIBUTES, SAMPLE_RATE, CorpusInfo

_SECONDS_AT_ONCE, _ITEMS_AT_ONCE = 800.0, 256
"""Clips that are read and given to the model at a time; windows of 3 s fill its batches."""


class Model(Protocol):
    """What is needed of `emojax.inference.Predictor`."""

    min_samples: int

    @property
    def corpus(self) -> CorpusInfo:
        """Metadata of the training corpus."""
        ...

    @property
    def takes_transcripts(self) -> bool:
        """Whether the model has a lexical modality."""
        ...

    def predict(self, items: Any, rate: Any = None, transcripts: Any = None) -> Any:
        """Predicts (samples, rate) pairs, with their transcripts."""
        ...


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is being done with a recording: its name, and the position in seconds."""

    name: str
    seconds: float


Report = Callable[[Stage], None]
"""Is called while a recording is annotated; may raise an exception to stop."""


def describe(predictor: Predictor, name: str) -> ModelDescription:
    """Description of a model.

    Args:
      predictor: model.
      name: name of its workdir.
    """
    outputs, info = predictor.trained.outputs, predictor.corpus
    attributes = tuple(each for each, trained in zip(ATTRIBUTES, outputs.attributes, strict=True) if trained)
    categories = tuple(info.categories) if outputs.categories else ()
    return ModelDescription(name, info.name, info.scale, attributes, categories, info.speech)


class Annotator:
    """Annotates recordings with one model.

    Attributes:
      detector: voice activity detector, "silero" or "energy".
    """

    def __init__(
        self,
        model: Model,
        description: ModelDescription,
        config: AnnotateConfig,
        recognizer: Recognizer | None = None,
    ):
        """Loads the recognizer, if one is needed, and the detector.

        Args:
          model: emotion model.
          description: its description.
          config: settings.
          recognizer: recognizer with times of words; None: that of the config, if it has `transcripts`.

        Raises:
          EmojaxError: the detector or recognizer cannot be loaded, or the model needs transcripts.
        """
        if model.takes_transcripts and not config.transcripts:
            raise ConfigError(f"config.transcripts must be True: {description.name} has a lexical modality, got False")
        self.detector: DetectorName = choose_detector(config.activity.detector)
        self._start_detector: Callable[[], Any] = silero_detectors() if self.detector == "silero" else lambda: None
        self._recognizer = recognizer
        if config.transcripts and recognizer is None:
            self._recognizer = load_word_recognizer(config.recognizer)
        self._model, self._description, self._config = model, description, config

    def annotate(
        self,
        path: Path,
        folder: Path,
        turns: Turns | None = None,
        file: str = "",
        key: str = "",
        report: Report = lambda stage: None,
    ) -> Annotation:
        """Annotates a recording; memory grows by about 10 MB per hour, for results.

        Args:
          path: audio file.
          folder: folder of a temporary file (see `open_recording`).
          turns: turns of its speakers; None: no speakers.
          file: path of the recording in the annotation; "": `path`.
          key: `Annotation.key`.
          report: progress.

        Raises:
          AudioError: the file cannot be read.
        """
        with open_recording(path, folder, self._start_detector(), _sum_up("decoding", report)) as recording:
            return self.annotate_recording(recording, turns, file or str(path), key, report)

    def annotate_recording(
        self, recording: Recording, turns: Turns | None, file: str, key: str = "", report: Report = lambda stage: None
    ) -> Annotation:
        """Annotates a decoded recording; see `annotate`."""
        config = self._config
        runs = find_segments(recording.probabilities, recording.levels, FRAME_SECONDS, config.activity, config.segments)
        found = to_seconds(runs, FRAME_SECONDS, recording.duration)
        spans = [span for span in found if _num_samples(span) >= self._model.min_samples]
        texts: list[SegmentText] | None = None
        if self._recognizer is not None:
            texts = transcribe(self._recognizer, recording, spans, _sum_up("transcript", report))
        return Annotation(
            file=file,
            duration=recording.duration,
            model=self._description,
            segments=tuple(self._segments(recording, spans, texts, turns, report)),
            track=self._track(recording, spans, texts, report),
            peaks=recording.peaks,
            skipped=len(found) - len(spans),
            key=key,
        )

    def _segments(
        self,
        recording: Recording,
        spans: Sequence[Span],
        texts: Sequence[SegmentText] | None,
        turns: Turns | None,
        report: Report,
    ) -> Iterator[Segment]:
        bounds = [(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in spans]
        spoken = None if texts is None else [text.text for text in texts]
        for number, prediction in enumerate(self._predict(recording, bounds, spoken, _sum_up("segments", report))):
            start, end = spans[number]
            yield Segment(
                start=start,
                end=end,
                speaker=None if turns is None else turns.speaker(start, end),
                attributes=prediction.attributes,
                spread={name: each.std for name, each in prediction.ratings.items()} or None,
                probabilities=prediction.emotions or None,
                transcript=None if texts is None else texts[number].text,
                words=None if texts is None else texts[number].words,
            )

    def _track(
        self, recording: Recording, spans: Sequence[Span], texts: Sequence[SegmentText] | None, report: Report
    ) -> Track:
        config, total = self._config.track, recording.num_samples
        window, hop = round(config.window_seconds * SAMPLE_RATE), round(config.hop_seconds * SAMPLE_RATE)
        starts = window_starts(total, window, hop)
        length = min(window, total)
        times = (starts + length / 2) / SAMPLE_RATE
        computed = length >= self._model.min_samples and bool(self._description.attributes)
        rows = np.flatnonzero(in_segments(times, spans) & computed)
        bounds = [(int(start), int(start) + length) for start in starts[rows]]
        spoken = None
        if texts is not None and self._model.takes_transcripts:
            words = [word for text in texts for word in text.words]
            spoken = texts_between(words, [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in bounds])
        names = self._description.attributes
        means = {name: np.full(len(times), np.nan) for name in names}
        stds = {name: np.full(len(times), np.nan) for name in names}
        advance = _sum_up("windows", report)
        for row, prediction in zip(rows, self._predict(recording, bounds, spoken, advance), strict=True):
            for name in names:
                means[name][row] = prediction.attributes[name]
                if name in prediction.ratings:
                    stds[name][row] = prediction.ratings[name].std
        deviation = config.smoothing_seconds / config.hop_seconds
        has_spread = any(np.isfinite(values).any() for values in stds.values())
        return Track(
            window=config.window_seconds,
            hop=config.hop_seconds,
            times=times,
            attributes={name: smooth(values, deviation) for name, values in means.items()},
            spread={name: smooth_spread(means[name], stds[name], deviation) for name in names} if has_spread else None,
        )

    def _predict(
        self,
        recording: Recording,
        bounds: Sequence[tuple[int, int]],
        texts: Sequence[str] | None,
        advance: Callable[[float], None],
    ) -> Iterator[Prediction]:
        """Predicts clips of a recording, given by their first sample and the one after their last."""
        given = texts if self._model.takes_transcripts else None
        for first, last in batches_of([stop - start for start, stop in bounds]):
            items = [(recording.samples(*bounds[number]), SAMPLE_RATE) for number in range(first, last)]
            yield from self._model.predict(items, transcripts=None if given is None else list(given[first:last]))
            advance((bounds[last - 1][1] - bounds[first][0]) / SAMPLE_RATE)


def batches_of(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Divides clips of these lengths (samples) into ranges that are read at a time."""
    first, seconds = 0, 0.0
    for number, length in enumerate(lengths):
        more = length / SAMPLE_RATE
        if number > first and (seconds + more > _SECONDS_AT_ONCE or number - first == _ITEMS_AT_ONCE):
            yield first, number
            first, seconds = number, 0.0
        seconds += more
    if lengths:
        yield first, len(lengths)


def _num_samples(span: Span) -> int:
    return round(span[1] * SAMPLE_RATE) - round(span[0] * SAMPLE_RATE)


def _sum_up(name: str, report: Report) -> Callable[[float], None]:
    seconds = 0.0

    def advance(more: float) -> None:
        nonlocal seconds
        seconds += more
        report(Stage(name, seconds))

    return advance
