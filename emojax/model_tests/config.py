"""Thresholds and settings of the model tests; configs/model_tests.py has the defaults."""

from collections.abc import Mapping
from typing import Annotated, Any

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, parse, settings

Share = Annotated[float, Ge(0), Le(1)]


@settings
class CorrectnessConfig:
    """Agreement of predictions with labels; attributes are on [0, 1]."""

    ccc: Annotated[float, Ge(-1), Le(1), "Regression: least CCC of an attribute."] = 0.5
    pearson: Annotated[float, Ge(-1), Le(1), "Regression: least correlation of an attribute."] = 0.5
    mae: Annotated[float, Ge(0), Le(1), "Regression: largest mean absolute error of an attribute."] = 0.1
    uar: Annotated[float, Ge(0), Le(1), "Classification: least unweighted average recall."] = 0.5
    uap: Annotated[float, Ge(0), Le(1), "Classification: least unweighted average precision."] = 0.5
    recall: Annotated[float, Ge(0), Le(1), "Classification: least recall of a category."] = 0.5
    precision: Annotated[float, Ge(0), Le(1), "Classification: least precision of a category."] = 0.5
    min_category: Annotated[int, Ge(1), Le(10**6), "Least number of utterances of a category that is tested."] = 5
    consistent: Annotated[
        float, Ge(0), Le(1), "Consistency: least share of a category's utterances within its range of an attribute."
    ] = 0.75
    high: Annotated[float, Ge(0), Le(1), "Consistency: an attribute is high from this value."] = 0.55
    low: Annotated[float, Ge(0), Le(1), "Consistency: an attribute is low up to this value."] = 0.45
    neutral: Annotated[tuple[Share, Share], "Consistency: range of the attributes of neutral speech."] = (0.3, 0.6)
    distance: Annotated[
        float, Ge(0), Le(1), "Distribution: largest Jensen-Shannon distance of predictions and labels in bins."
    ] = 0.2
    distance_bins: Annotated[int, Ge(2), Le(1000), "Distribution: bins of [0, 1]."] = 10
    category_share: Annotated[
        float, Ge(0), Le(1), "Distribution: largest difference between predicted and labelled share of a category."
    ] = 0.15
    speaker_error: Annotated[
        float, Ge(0), Le(1), "Speaker average: largest mean absolute error of speakers' means or category shares."
    ] = 0.1
    min_speaker: Annotated[int, Ge(1), Le(10**6), "Least number of utterances of a speaker who is tested."] = 10
    ranking: Annotated[float, Ge(-1), Le(1), "Speaker ranking: least rank correlation of speakers' means."] = 0.7
    ranking_speakers: Annotated[int, Ge(3), Le(10**6), "Speaker ranking: least number of speakers."] = 8

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: a range is empty.
        """
        if self.low >= self.high:
            raise ConfigError(f"low must be < high ({self.high}), got {self.low}")
        if self.neutral[0] >= self.neutral[1]:
            raise ConfigError(f"neutral must be a lower and a higher number, got {list(self.neutral)}")


@settings
class FairnessConfig:
    """Differences between groups of speakers.

    A difference passes up to the threshold below, or up to what random models show by chance in groups of these sizes
    if that is more.
    """

    sex_ccc: Annotated[float, Ge(0), Le(2), "Sex: largest difference in CCC between a group and all."] = 0.075
    sex_bins: Annotated[
        float, Ge(0), Le(1), "Sex: largest difference in recall or precision of a bin or category, group and all."
    ] = 0.1
    sex_uar: Annotated[float, Ge(0), Le(1), "Sex: largest difference in UAR between a group and all."] = 0.075
    pitch_ccc: Annotated[float, Ge(0), Le(2), "Pitch: as sex_ccc."] = 0.1
    pitch_bins: Annotated[float, Ge(0), Le(1), "Pitch: as sex_bins."] = 0.125
    pitch_uar: Annotated[float, Ge(0), Le(1), "Pitch: as sex_uar."] = 0.1
    pitch_limits: Annotated[
        tuple[float, float], "Pitch: limits of the groups of low, medium and high mean fundamental frequency (Hz)."
    ] = (145.0, 190.0)
    pitch_speaker: Annotated[int, Ge(1), Le(10**6), "Pitch: least number of utterances of a speaker."] = 26
    pitch_clips: Annotated[
        int, Ge(1), Le(10**4), "Pitch: utterances of a speaker whose fundamental frequency is estimated."
    ] = 10
    accent_shift: Annotated[float, Ge(0), Le(1), "Accent: largest shift of a group's mean from the mean of all."] = (
        0.075
    )
    accent_share: Annotated[float, Ge(0), Le(1), "Accent: largest shift of the share of a category."] = 0.075
    language_shift: Annotated[float, Ge(0), Le(1), "Language: as accent_shift."] = 0.03
    language_share: Annotated[float, Ge(0), Le(1), "Language: as accent_share."] = 0.075
    sentiment_shift: Annotated[
        float,
        Ge(0),
        Le(1),
        "Linguistic sentiment: largest deviation of a voice's shift of the mean by positive, neutral or negative words "
        "from that of all voices.",
    ] = 0.025
    sentiment_share: Annotated[
        float, Ge(0), Le(1), "Linguistic sentiment: as sentiment_shift, for the share of a category."
    ] = 0.075
    sentiment_sentences: Annotated[
        int, Ge(2), Le(60), "Linguistic sentiment: sentences of each sentiment that every voice speaks."
    ] = 60
    min_group: Annotated[
        int, Ge(2), Le(10**6), "Least number of utterances of a group, after matching of sizes and labels."
    ] = 30
    min_bin: Annotated[int, Ge(1), Le(10**6), "Least number of utterances of a bin or category in every group."] = 5
    simulations: Annotated[int, Ge(20), Le(10**5), "Random models that a threshold is simulated with."] = 1000
    level: Annotated[float, Gt(0), Lt(1), "Share of random models that exceed a simulated threshold."] = 0.05

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: the groups of pitch are not in order.
        """
        if not 0 < self.pitch_limits[0] < self.pitch_limits[1]:
            raise ConfigError(f"pitch_limits must be a lower and a higher frequency, got {list(self.pitch_limits)}")


@settings
class RobustnessConfig:
    """Changes of the outputs when the input is degraded."""

    utterances: Annotated[
        int, Ge(2), Le(10**7), "Utterances of a split that are degraded, drawn at random if it has more."
    ] = 500
    same: Annotated[float, Gt(0), Le(1), "An attribute is unchanged if it differs by less."] = 0.05
    change: Annotated[float, Ge(-2), Le(0), "Least change of CCC or UAR."] = -0.05
    noise_unchanged: Annotated[float, Ge(0), Le(1), "Background noise: least share of unchanged outputs."] = 0.9
    noise_snr_db: Annotated[float, Ge(-100), Le(100), "Background noise: signal-to-noise ratio (dB)."] = 20.0
    sound_snr_db: Annotated[float, Ge(-100), Le(100), "Coughs and sneezes: signal-to-noise ratio (dB)."] = 10.0
    noise_folder: Annotated[str, "Environment noise: folder searched for noises; empty: the bundled ones."] = ""
    music_folder: Annotated[str, "Music: folder searched for music; empty: not tested."] = ""
    cough_folder: Annotated[str, "Folder searched for coughs; empty: not tested."] = ""
    sneeze_folder: Annotated[str, "Folder searched for sneezes; empty: not tested."] = ""
    phone_unchanged: Annotated[float, Ge(0), Le(1), "Low-quality phone: least share of unchanged outputs."] = 0.5
    room_unchanged: Annotated[float, Ge(0), Le(1), "Rooms: least share of unchanged outputs."] = 0.8
    room_folder: Annotated[str, "Folder searched for impulse responses; empty: five bundled ones."] = ""
    rooms: Annotated[int, Ge(1), Le(1000), "Number of rooms, drawn at random if there are more."] = 8
    recording_unchanged: Annotated[
        float, Ge(0), Le(1), "Recording condition: least share of outputs that are equal for two recordings."
    ] = 0.8
    small_unchanged: Annotated[float, Ge(0), Le(1), "Small changes: least share of unchanged outputs."] = 0.95
    tilt_unchanged: Annotated[float, Ge(0), Le(1), "Spectral tilt: least share of unchanged outputs."] = 0.8
    tilt_change_uar: Annotated[float, Ge(-1), Le(0), "Spectral tilt: least change of UAR."] = -0.02
    codec_unchanged: Annotated[
        float, Ge(0), Le(1), "Sample rate and compression: least share of unchanged outputs."
    ] = 0.8


@settings
class ModelTestsConfig:
    """Settings of the model tests."""

    seed: Annotated[int, Ge(0), Lt(2**32), "Seed of degradations, drawn utterances and simulated thresholds."] = 0
    groups: Annotated[
        str,
        "CSV file with a column `id` or `speaker` and any of `sex`, `accent`, `language` and `speech` (equal for "
        "recordings of the same speech by different devices); empty: the sex that the corpus has.",
    ] = ""
    correctness: CorrectnessConfig = CorrectnessConfig()
    fairness: FairnessConfig = FairnessConfig()
    robustness: RobustnessConfig = RobustnessConfig()


def parse_model_tests(tree: Mapping[str, Any]) -> ModelTestsConfig:
    """Converts a config tree to a `ModelTestsConfig`.

    Raises:
      ConfigError: one line with the key, the constraint and the value.
    """
    return parse(ModelTestsConfig, tree)
