"""Puts runs together that differ only in their seed: mean and standard deviation of each score."""

import dataclasses
import re
import statistics

from emojax.evaluation.results import Result, Run, Score, by_split


def group_seeds(runs: list[Run]) -> list[Result]:
    """Results of the runs; where configs differ only in `seed`, one result per corpus and split in place of many.

    Runs stay apart if a seed comes twice (a copied workdir would make results look steadier than they are), or if
    their evaluations are not of the same utterances or categories. Standard deviations are those of a sample (n - 1).
    """
    families: dict[str, list[Run]] = {}
    for run in runs:
        families.setdefault(run.configuration, []).append(run)
    results: list[Result] = []
    for family in families.values():
        apart = [result for run in family for result in run.results]
        if len({run.seed for run in family}) < len(family):
            results += apart
            continue
        name = _family_name([run.name for run in family])
        for same_split in by_split(apart).values():
            measured = {(result.n, result.speakers, result.categories) for result in same_split}
            comparable = len(same_split) > 1 and len(measured) == 1
            results += [_merge(name, same_split)] if comparable else same_split
    return results


def _merge(name: str, results: list[Result]) -> Result:
    seconds = [result.seconds for result in results if result.seconds is not None]
    baselines = {
        key: _mean_scores([result.baselines[key] for result in results], with_deviation=False)
        for key in results[0].baselines
        if all(key in result.baselines for result in results)
    }
    return dataclasses.replace(
        results[0],
        system=name,
        seeds=tuple(seed for result in results for seed in result.seeds),
        interval=f"mean ± standard deviation over {len(results)} seeds",
        scores=_mean_scores([result.scores for result in results], with_deviation=True),
        baselines=baselines,
        seconds=statistics.fmean(seconds) if seconds else None,
        plots=(),
    )


def _mean_scores(scores: list[dict[str, Score]], with_deviation: bool) -> dict[str, Score]:
    merged = {}
    for name in scores[0]:
        if all(name in one for one in scores):
            values = [one[name].value for one in scores]
            deviation = statistics.stdev(values) if with_deviation else None
            merged[name] = Score(statistics.fmean(values), *_mean_interval([one[name] for one in scores]), deviation)
    return merged


def _mean_interval(scores: list[Score]) -> tuple[float | None, float | None]:
    """Mean bounds: the interval of one run's score, for typical luck with the seed."""
    lows, highs = [score.low for score in scores], [score.high for score in scores]
    return tuple(  # type: ignore[return-value]
        None if None in bounds else statistics.fmean(bound for bound in bounds if bound is not None)
        for bounds in (lows, highs)
    )


def _family_name(names: list[str]) -> str:
    """`student_seed0`, `student_seed1`: `student`."""
    stems = {re.sub(r"[-_.]?(seed|s)?[-_.]?\d+$", "", name) for name in names}
    stem = stems.pop()
    return stem if stem and not stems else f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
