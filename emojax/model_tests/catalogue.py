"""The catalogue of model tests: what each one measures, what it needs, and how it is run."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from emojax.model_tests import correctness, fairness, robustness, sentiment
from emojax.model_tests.measurement import Measurement
from emojax.model_tests.results import ATTRIBUTE_LABELS, EMOTION, Result, skipped


def _no_labels(measurement: Measurement) -> str:
    return ""


def _consistency_needs(measurement: Measurement) -> str:
    if not any(measurement.model.predicted):
        return "the model predicts no attributes"
    if not measurement.utterances.info.categories:
        return "the corpus has no categories"
    return "" if (measurement.utterances.emotion >= 0).any() else "the split has no labels of categories"


def _speakers(measurement: Measurement) -> str:
    return "" if any(measurement.utterances.speakers) else "the corpus has no speakers"


@dataclasses.dataclass(frozen=True)
class ModelTest:
    """A test of the catalogue.

    Attributes:
      name: name in results.
      group: group of the test.
      measures: what is measured, for documentation.
      needs: what the corpus must have, for documentation.
      run: yields the results, without name and group of the test.
      scores: labels that the test compares predictions with, `attributes` or `emotion`; it is skipped without any of
        them, and partly skipped without one.
      missing: reason why the test cannot be run; "" if it can.
    """

    name: str
    group: Literal["correctness", "fairness", "robustness"]
    measures: str
    needs: str
    run: Callable[[Measurement], Iterable[Result]]
    scores: tuple[str, ...] = ()
    missing: Callable[[Measurement], str] = _no_labels


_EITHER = (ATTRIBUTE_LABELS, EMOTION)

CATALOGUE = (
    ModelTest(
        "regression",
        "correctness",
        "CCC, Pearson's correlation, mean absolute error of each attribute",
        "ratings",
        correctness.regression,
        (ATTRIBUTE_LABELS,),
    ),
    ModelTest(
        "classification",
        "correctness",
        "UAR, unweighted average precision, recall and precision of each category",
        "categories",
        correctness.classification,
        (EMOTION,),
    ),
    ModelTest(
        "consistency",
        "correctness",
        "share of each category's utterances whose attributes are in the expected range",
        "categories; a model of attributes",
        correctness.consistency,
        missing=_consistency_needs,
    ),
    ModelTest(
        "distribution",
        "correctness",
        "Jensen-Shannon distance of predictions and labels; difference of category shares",
        "ratings or categories",
        correctness.distribution,
        _EITHER,
    ),
    ModelTest(
        "speaker average",
        "correctness",
        "mean absolute error of the speakers' means and category shares",
        "speakers with enough utterances",
        correctness.speaker_average,
        _EITHER,
        _speakers,
    ),
    ModelTest(
        "speaker ranking",
        "correctness",
        "Spearman correlation of the speakers' means and category shares",
        "many speakers with enough utterances",
        correctness.speaker_ranking,
        _EITHER,
        _speakers,
    ),
    ModelTest(
        "sex",
        "fairness",
        "difference of CCC, UAR, and recall and precision of bins or categories",
        "sex of the speakers",
        fairness.sex,
        _EITHER,
    ),
    ModelTest(
        "pitch",
        "fairness",
        "as sex, for speakers of low, medium and high mean fundamental frequency",
        "speakers with enough utterances; librosa",
        fairness.pitch,
        _EITHER,
    ),
    ModelTest(
        "accent",
        "fairness",
        "shift of the mean and of category shares; no labels",
        "accents in `groups`",
        fairness.accent,
    ),
    ModelTest(
        "language",
        "fairness",
        "shift of the mean and of category shares; no labels",
        "languages in `groups`",
        fairness.language,
    ),
    ModelTest(
        "linguistic sentiment",
        "fairness",
        "difference between voices in the shift by positive, neutral and negative words",
        "hibari-tts, which speaks the sentences",
        sentiment.sentiment,
    ),
    ModelTest(
        "background noise",
        "robustness",
        "change of CCC and UAR, share of unchanged outputs",
        "folders of music, coughs and sneezes for these",
        robustness.background_noise,
    ),
    ModelTest(
        "low-quality phone",
        "robustness",
        "change of CCC and UAR, share of unchanged outputs",
        "PyAV (AMR-NB)",
        robustness.low_quality_phone,
    ),
    ModelTest("rooms", "robustness", "share of unchanged outputs", "nothing", robustness.rooms),
    ModelTest(
        "recording condition",
        "robustness",
        "share of outputs that are equal for two recordings of the same speech",
        "recordings by two devices, marked by `speech` in `groups`",
        robustness.recording_condition,
    ),
    ModelTest("small changes", "robustness", "share of unchanged outputs", "nothing", robustness.small_changes),
    ModelTest(
        "spectral tilt",
        "robustness",
        "change of CCC and UAR, share of unchanged outputs",
        "nothing",
        robustness.spectral_tilt,
    ),
    ModelTest(
        "sample rate",
        "robustness",
        "change of CCC and UAR, share of unchanged outputs",
        "nothing",
        robustness.sample_rate,
    ),
    ModelTest(
        "compression",
        "robustness",
        "change of CCC and UAR, share of unchanged outputs",
        "nothing",
        robustness.compression,
    ),
)
"""All tests, in the order of reports."""


def run_test(test: ModelTest, measurement: Measurement) -> list[Result]:
    """Runs a test on one model and split; there is at least one result, if only the reason why it was skipped."""
    found = [dataclasses.replace(result, test=test.name, group=test.group) for result in _run(test, measurement)]
    return found or [skipped("no value could be measured", test=test.name, group=test.group)]


def _run(test: ModelTest, measurement: Measurement) -> Iterator[Result]:
    if test.missing(measurement):
        yield skipped(test.missing(measurement))
        return
    reasons = {ATTRIBUTE_LABELS: measurement.why_no_attributes, EMOTION: measurement.why_no_emotion}
    absent = {output: reasons[output] for output in test.scores if reasons[output]}
    if absent and len(absent) == len(test.scores):
        yield skipped("; ".join(absent.values()))
        return
    for output, reason in absent.items():
        yield skipped(reason, output=output)
    yield from test.run(measurement)
