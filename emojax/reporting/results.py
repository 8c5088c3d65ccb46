"""Reads the scores of a workdir's evaluations from its JSON files."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emojax.config import configuration, migrate
from emojax.errors import CheckpointError, ConfigError
from emojax.types import ATTRIBUTES
from emojax.workdir import CONFIG, CORPUS, EVALUATION, SUMMARY, read_json

SCORES = {f"ccc_{attribute}": f"CCC {attribute}" for attribute in ATTRIBUTES} | {"uar": "UAR", "macro_f1": "macro F1"}
"""Scores of a report, and their titles."""

RATING_SCORES = {
    "nll": "NLL",
    "nll_marginal": "NLL, marginal",
    "nll_histogram": "NLL, least possible",
    "crps": "CRPS",
    "crps_marginal": "CRPS, marginal",
    "calibration_error": "calibration error",
    "spread_correlation": "correlation of spreads",
}
"""Scores of predicted distributions of ratings (`emojax.evaluation.ratings`), and their titles."""

LINEAR_BASELINES = {
    "encoder_linear": "baseline: linear model on encoder statistics",
    "log_mel_linear": "baseline: linear model on log-mel statistics",
}
"""Regressions that some runs fit beside the model (see `emojax.cross_validation.baselines`), and their titles."""

BASELINES = {"mean": "baseline: mean or majority", "random": "baseline: random draws"} | LINEAR_BASELINES
"""Predictors without input (see `emojax.metrics.scores`) and linear models that are shown with a system."""

_MAX_TEXT = 200


@dataclasses.dataclass(frozen=True)
class Score:
    """A score with its 95 % interval; or, over seeds, their mean, mean interval and sample standard deviation."""

    value: float
    low: float | None = None
    high: float | None = None
    deviation: float | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """What one system, or one configuration over several seeds, reached on one split of one corpus.

    Attributes:
      system: name of the workdir.
      corpus: name of the corpus, with version.
      split: split of the corpus.
      speech: `recorded`, `synthesised` or `unknown`.
      attribute_source: `rated`, `derived`, `none` or `unknown`.
      n: number of utterances.
      speakers: number of speakers; None if unknown.
      seeds: seeds of the runs.
      interval: description of the intervals.
      scores: scores by a key of `SCORES`; undefined scores are absent.
      baselines: scores of the baselines, by a key of `BASELINES`.
      parameters: number of parameters.
      seconds: training time (s); over several seeds its mean.
      plots: PNG files of the evaluation.
      categories: scored categories; () if unknown.
      match: description of how categories of corpus and model were matched; "" if they are the same.
      undefined: reason by a key of `SCORES` for undefined scores.
      ratings: scores of predicted distributions by attribute and a key of `RATING_SCORES`; undefined ones are absent.
    """

    system: str
    corpus: str
    split: str
    speech: str
    attribute_source: str
    n: int
    speakers: int | None
    seeds: tuple[str, ...]
    interval: str
    scores: dict[str, Score]
    baselines: dict[str, dict[str, Score]]
    parameters: int | None
    seconds: float | None
    plots: tuple[Path, ...]
    categories: tuple[str, ...] = ()
    match: str = ""
    undefined: dict[str, str] = dataclasses.field(default_factory=dict)
    ratings: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir.

    Attributes:
      path: folder of the workdir.
      name: name in the report.
      seed: seed of its config.
      configuration: its config without the seed (see `emojax.config.configuration`).
      trained_on: training corpus, with its version, marked if its speech is synthetic.
      best_step: step of the best checkpoint; None if unknown.
      results: one per evaluated split.
      problems: reasons why the run, or a file of it, is not in the table.
    """

    path: Path
    name: str
    seed: str
    configuration: str
    trained_on: str
    best_step: int | None
    results: tuple[Result, ...]
    problems: tuple[str, ...]


def read_run(path: Path, name: str = "") -> Run:
    """Reads a workdir.

    Args:
      path: folder of the workdir.
      name: name in the report; default: the name of the folder.

    Raises:
      CheckpointError: it is not a workdir (there is no readable config in it).
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a workdir: " + ("it is a file" if path.exists() else "it does not exist"))
    config = read_json(path / CONFIG)
    name = name or path.resolve().name
    summary, problems = {}, []
    if (path / SUMMARY).exists():
        try:
            summary = read_json(path / SUMMARY)
        except CheckpointError as error:
            problems.append(str(error))
    run = Run(
        path=path,
        name=printable(name),
        seed=_seed(config.get("seed")),
        configuration=configuration(_migrated(config)),
        trained_on=_trained_on(path, config),
        best_step=_count(summary.get("best_step")),
        results=(),
        problems=(),
    )
    results = []
    files = sorted((path / EVALUATION).glob("*.json")) + sorted((path / EVALUATION).glob("*/*.json"))
    for file in files:
        try:
            results.append(_read_result(run, file, summary))
        except CheckpointError as error:
            problems.append(str(error))
    if not results:
        problems.insert(0, _why_not_evaluated(path, bool(files)))
    return dataclasses.replace(run, results=tuple(results), problems=tuple(problems))


def by_split(results: Iterable[Result]) -> dict[tuple[str, str], list[Result]]:
    """Groups results by corpus and split: results of one group can be compared."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.corpus, result.split), []).append(result)
    return groups


def shared_baselines(results: list[Result]) -> list[tuple[str, dict[str, Score]]]:
    """Distinct baselines of results on one split: title and scores.

    Systems trained on different labels have different baselines; the title then names the systems.
    """
    rows = []
    for key, title in BASELINES.items():
        owners: list[tuple[dict[str, Score], list[str]]] = []
        for result in results:
            scores = result.baselines.get(key)
            if not scores:
                continue
            for known, systems in owners:
                if known == scores:
                    systems.append(result.system)
                    break
            else:
                owners.append((scores, [result.system]))
        for scores, systems in owners:
            rows.append((title if len(owners) == 1 else f"{title}, for {', '.join(systems)}", scores))
    return rows


def printable(text: str, limit: int = _MAX_TEXT) -> str:
    """Text without control characters, which could take a terminal over, cut to `limit` characters."""
    return "".join(character if character.isprintable() else " " for character in text)[:limit]


def _read_result(run: Run, path: Path, summary: dict[str, Any]) -> Result:
    tree = read_json(path)
    corpus, split, n = tree.get("corpus"), tree.get("split"), _count(tree.get("n"))
    if not isinstance(corpus, str) or not isinstance(split, str) or n is None:
        raise CheckpointError(f"{path}: is not an evaluation of a split (corpus, split or n is missing)")
    baselines = _mapping(tree.get("baselines"))
    return Result(
        system=run.name,
        corpus=printable(corpus),
        split=printable(split),
        speech=_one_of(tree.get("speech"), ("recorded", "synthesised")),
        attribute_source=_one_of(tree.get("attribute_source"), ("rated", "derived", "none")),
        n=n,
        speakers=_count(tree.get("speakers")),
        seeds=(run.seed,),
        interval=printable(tree["interval"]) if isinstance(tree.get("interval"), str) else "unknown interval",
        scores=_scores(tree),
        baselines={key: _scores(_mapping(baselines.get(key))) for key in BASELINES if key in baselines},
        parameters=_count(summary.get("parameters")),
        seconds=_number(summary.get("seconds")),
        plots=tuple(sorted(path.parent.glob(f"{_glob_literal(path.stem)}_*.png"))),
        categories=tuple(map(printable, _texts(tree.get("categories")))),
        match=_match(_mapping(tree.get("category_match"))),
        undefined=_undefined(_mapping(tree.get("undefined"))),
        ratings=_ratings(_mapping(_mapping(tree.get("ratings")).get("attributes"))),
    )


def _match(tree: dict[str, Any]) -> str:
    """Describes how categories of corpus and model were matched, in one line."""
    pairs = [(theirs, _texts(ours)) for theirs, ours in _mapping(tree.get("mapping")).items()]
    renamed = ", ".join(f"{theirs} = {'+'.join(ours)}" for theirs, ours in pairs if ours != [theirs])
    parts = [f"{renamed} (corpus = model)"] if renamed else []
    for side in ("corpus", "model"):
        names = _texts(tree.get(f"only_in_{side}"))
        parts += [f"only in the {side}: {', '.join(names)}"] if names else []
    skipped = _count(tree.get("skipped"))
    parts += [f"{skipped} utterances skipped"] if skipped else []
    return printable("; ".join(parts))


def _undefined(tree: dict[str, Any]) -> dict[str, str]:
    names = {name: name.replace("ccc_", "ccc.") for name in SCORES}
    reasons = {name: tree.get(key) for name, key in names.items()}
    return {name: printable(why) for name, why in reasons.items() if isinstance(why, str)}


def _ratings(tree: dict[str, Any]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for attribute in ATTRIBUTES:
        scores = {name: _number(_mapping(tree.get(attribute)).get(name)) for name in RATING_SCORES}
        known = {name: value for name, value in scores.items() if value is not None}
        found |= {attribute: known} if known else {}
    return found


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _scores(tree: dict[str, Any]) -> dict[str, Score]:
    ccc = _mapping(tree.get("ccc"))
    found = {f"ccc_{attribute}": ccc.get(attribute) for attribute in ATTRIBUTES}
    found |= {name: tree.get(name) for name in ("uar", "macro_f1")}
    scores = {}
    for name, item in found.items():
        parts = item if isinstance(item, dict) else {"value": item}
        value = _number(parts.get("value"))
        if value is not None:
            scores[name] = Score(value, _number(parts.get("low")), _number(parts.get("high")))
    return scores


def _trained_on(path: Path, config: dict[str, Any]) -> str:
    try:
        info = _mapping(read_json(path / CORPUS).get("info"))
    except CheckpointError:  # pre-training keeps no metadata of its corpus
        info = _mapping(config.get("corpus"))
    name = info["name"] if isinstance(info.get("name"), str) else "unknown corpus"
    return printable(name) + (", synthetic speech" if info.get("speech") == "synthesised" else "")


def _why_not_evaluated(path: Path, has_files: bool) -> str:
    if has_files:
        return "not evaluated: no file of its evaluation folder can be used"
    if not (path / SUMMARY).exists():
        return f"not evaluated: training has not finished (no {SUMMARY})"
    return f"not evaluated: {EVALUATION}/ has no SPLIT.json; python launch.py --mode=evaluate --workdir={path} makes it"


def _one_of(value: object, allowed: tuple[str, ...]) -> str:
    return value if isinstance(value, str) and value in allowed else "unknown"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def _count(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number >= 0 else None


def _migrated(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A saved config with today's fields, or unchanged if its version is unknown (a file of another program)."""
    try:
        return migrate(config)
    except ConfigError:
        return config


def _seed(value: object) -> str:
    return "unknown" if _count(value) is None else str(_count(value))


def _glob_literal(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
