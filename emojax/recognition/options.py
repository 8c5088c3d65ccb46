"""Options of decoding with Whisper checkpoints."""

from typing import Annotated, Literal

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, MaxLen, MinLen, settings

_Temperature = Annotated[float, Ge(0), Le(2)]


@settings
class DecodingOptions:
    """How text is decoded; thresholds and temperatures as published (Radford et al. 2023, section 4.5)."""

    language: Annotated[
        str,
        MaxLen(8),
        "Language of the recordings for multilingual checkpoints, e.g. `de`; empty: detected for each recording.",
    ] = ""
    task: Annotated[
        Literal["transcribe", "translate"], "Text in the language of the recording, or translated to English."
    ] = "transcribe"
    timestamps: Annotated[
        bool, "Predict times of segments in recordings of at most 30 s, too; longer ones always have them."
    ] = False
    word_times: Annotated[bool, "Align words with the recording by the attention of the decoder."] = False
    beam_size: Annotated[int, Ge(1), Le(16), "Hypotheses of beam search at temperature 0; 1: greedy."] = 1
    length_penalty: Annotated[
        float, Ge(0), Le(2), "Exponent of the length that log-probabilities of beams are divided by."
    ] = 1.0
    max_tokens: Annotated[int, Ge(1), Le(4096), "Longest text of a window in tokens, without the prompt."] = 224
    temperatures: Annotated[
        tuple[_Temperature, ...],
        MinLen(1),
        MaxLen(16),
        "Sampling temperatures, tried in this order until a text passes both thresholds; 0: the most probable tokens.",
    ] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    compression_ratio_threshold: Annotated[
        float | None, Gt(1), "Largest compression ratio of a text; texts above it repeat themselves. None: no limit."
    ] = 2.4
    log_probability_threshold: Annotated[
        float | None, Le(0), "Least mean log-probability of the tokens of a text. None: no limit."
    ] = -1.0
    no_speech_threshold: Annotated[
        float | None,
        Ge(0),
        Le(1),
        "Probability of no speech above which a text below `log_probability_threshold` is dropped. None: never.",
    ] = 0.6
    batch_size: Annotated[int, Ge(1), Le(256), "Windows of 30 s that are computed at a time."] = 8
    seed: Annotated[int, Ge(0), Le(2**31 - 1), "Seed of sampling at temperatures above 0."] = 0

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if any(later <= earlier for earlier, later in zip(self.temperatures, self.temperatures[1:], strict=False)):
            raise ConfigError(f"temperatures must increase, got {self.temperatures}")
