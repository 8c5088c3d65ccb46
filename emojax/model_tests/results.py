"""Results of model tests: one row per measured value, and shares of tests passed."""

import collections
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from emojax.schema import Ge, MaxLen, settings, to_tree

GROUPS = ("correctness", "fairness", "robustness")
"""Groups of tests."""

EMOTION = "emotion"
"""Output of categories, beside the names of the attributes."""

ATTRIBUTE_LABELS = "attributes"
"""Output of a result that concerns all attributes."""

TOO_SMALL = "too small"
"""First words of the note of a bin or category that is skipped because of its size."""

Text = Annotated[str, MaxLen(1000)]


@settings
class Result:
    """A measured value and its threshold, or the reason why a test was skipped."""

    test: Annotated[Text, "Name of the test."]
    group: Annotated[Literal["correctness", "fairness", "robustness"], "Group of the test."]
    output: Annotated[Text, "Attribute, `emotion`, or `` for a test that was skipped as a whole."]
    status: Annotated[Literal["passed", "failed", "skipped"], "Outcome."]
    metric: Annotated[Text, "Measured quantity."] = ""
    condition: Annotated[Text, "Degradation, group of speakers, bin or category."] = ""
    value: Annotated[float | None, "Measured value; None if skipped or not defined."] = None
    comparison: Annotated[Literal["", ">=", "<="], "Relation of value and threshold of a passed test."] = ""
    threshold: Annotated[float | None, "Threshold; None if skipped."] = None
    n: Annotated[int, Ge(0), "Utterances (or speakers) that the value is measured on."] = 0
    note: Annotated[Text, "Reason of a skipped or undefined value, and details."] = ""


def at_least(value: float, threshold: float, **fields: Any) -> Result:
    """A result that passes if the value is at least the threshold; a value that is not defined fails.

    Args:
      value: measured value; NaN where the outputs do not define it, e.g. the correlation of constant predictions.
      threshold: least value that passes.
      **fields: other fields of `Result`.
    """
    return _compared(value, threshold, ">=", value >= threshold, fields)


def at_most(value: float, threshold: float, **fields: Any) -> Result:
    """A result that passes if the value is at most the threshold; arguments as for `at_least`."""
    return _compared(value, threshold, "<=", value <= threshold, fields)


def skipped(note: str, **fields: Any) -> Result:
    """A result that was not measured, with the reason."""
    return Result(**{"test": "", "group": GROUPS[0], "output": "", **fields, "status": "skipped", "note": note})


_ROUNDING = 1e-9
"""Values this close to the threshold count as equal to it: sums in another order must not change an outcome."""


def _compared(value: float, threshold: float, comparison: str, passed: bool, fields: dict[str, Any]) -> Result:
    value, threshold = float(value), float(threshold)
    defined = math.isfinite(value)
    note = fields.pop("note", "")
    if not defined:
        note = "; ".join(part for part in ("not defined: the predictions are constant", note) if part)
    passed = defined and (passed or abs(value - threshold) < _ROUNDING)
    return Result(
        **{"test": "", "group": GROUPS[0], "output": "", **fields},
        status="passed" if passed else "failed",
        value=value if defined else None,
        comparison=comparison,  # type: ignore[arg-type]
        threshold=threshold,
        note=note,
    )


@settings
class SplitResults:
    """Results of a model on one split: content of `tests/SPLIT.json`."""

    model: Annotated[Text, "Name of the model."]
    corpus: Annotated[Text, "Name of the corpus, with version."]
    split: Annotated[Text, "Split."]
    speech: Annotated[Text, "`recorded` or `synthesised`."]
    attribute_source: Annotated[Text, "`rated`, `derived` or `none`."]
    n: Annotated[int, Ge(0), "Utterances."]
    too_short: Annotated[int, Ge(0), "Utterances that are too short for the model, which are not tested."]
    degraded: Annotated[int, Ge(0), "Utterances that were degraded."]
    results: Annotated[tuple[Result, ...], MaxLen(100_000), "All results, in the order of the catalogue."]


@settings
class Share:
    """Share of passed values.

    `share` is the mean over tests of each test's share of passed values, so that a test with many conditions counts as
    much as one with few; None if nothing was measured.
    """

    share: float | None
    tests: Annotated[int, Ge(0), "Tests that were measured."]
    tests_passed: Annotated[int, Ge(0), "Tests all of whose values passed."]
    tests_skipped: Annotated[int, Ge(0), "Tests without a measured value."]
    passed: Annotated[int, Ge(0), "Values that passed."]
    failed: Annotated[int, Ge(0), "Values that failed."]
    skipped: Annotated[int, Ge(0), "Values that were skipped."]


def share_of(results: Iterable[Result]) -> Share:
    """Computes the share of passed values of some results."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        counts[result.test][result.status] += 1
    measured = {test: count for test, count in counts.items() if count["passed"] + count["failed"]}
    shares = [count["passed"] / (count["passed"] + count["failed"]) for count in measured.values()]
    return Share(
        share=sum(shares) / len(shares) if shares else None,
        tests=len(measured),
        tests_passed=sum(not count["failed"] for count in measured.values()),
        tests_skipped=len(counts) - len(measured),
        **{status: sum(count[status] for count in counts.values()) for status in ("passed", "failed", "skipped")},
    )


def shares_by_group(results: Sequence[Result]) -> dict[str, Share]:
    """Shares of each group of tests, and of all tests (key `all`)."""
    by_group = {group: share_of(result for result in results if result.group == group) for group in GROUPS}
    return by_group | {"all": share_of(results)}


def status_of_test(results: Iterable[Result]) -> Literal["passed", "failed", "skipped"]:
    """Outcome of a test from its results: failed if a value failed, skipped if none was measured."""
    statuses = {result.status for result in results}
    return "failed" if "failed" in statuses else "passed" if "passed" in statuses else "skipped"


def result_rows(tested: SplitResults) -> list[dict[str, Any]]:
    """Results as flat rows with the same keys: model, corpus and split, and the fields of `Result`."""
    shared = {"model": tested.model, "corpus": tested.corpus, "split": tested.split}
    return [shared | to_tree(result) for result in tested.results]
