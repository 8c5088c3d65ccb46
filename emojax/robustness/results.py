"""Results of a grid on one split: content of its JSON and CSV files."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from emojax.files import atomic_write
from emojax.reporting.table import write_csv
from emojax.robustness.conditions import CLEAN, Condition
from emojax.robustness.scores import GridScore
from emojax.workdir import write_json


@dataclasses.dataclass(frozen=True)
class ConditionCounts:
    """Counts of the clips of a condition.

    Attributes:
      no_snr: clips that no noise was added to, because they or the noise are silent.
      beyond: clips that would have exceeded full scale.
      word_error_rate: word errors of the recognised transcripts per word of the corpus's own; None where unknown.
    """

    no_snr: int
    beyond: int
    word_error_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class GridResults:
    """Results of models on one split.

    Attributes:
      corpus: name of the corpus, with version.
      split: split.
      speech: `recorded` or `synthesised`.
      n: utterances.
      too_short: utterances that are too short for a model, which are skipped.
      units: what intervals resample: `speaker` or `utterance`, and their number.
      models: names of the systems.
      reference: the one that the others are compared with.
      runs: names of the models of each system: one, or its seeds.
      transcripts: source of the transcripts by system, for those with a lexical modality.
      conditions: all conditions: those that cannot be applied, and means of others, among them.
      counts: counts by condition, without the means.
      scores: scores.
      settings: settings of the grid.
      seconds: time taken.
    """

    corpus: str
    split: str
    speech: str
    n: int
    too_short: int
    units: str
    models: tuple[str, ...]
    reference: str
    runs: dict[str, tuple[str, ...]]
    transcripts: dict[str, str]
    conditions: tuple[Condition, ...]
    counts: dict[str, ConditionCounts]
    scores: tuple[GridScore, ...]
    settings: dict[str, Any]
    seconds: float

    def shown_name(self, model: str) -> str:
        """Name of a system in plots and tables, which marks transcripts that no condition affects."""
        source = self.transcripts.get(model, "")
        return f"{model} (corpus transcripts)" if source == CORPUS_TRANSCRIPTS else model

    @property
    def outputs(self) -> list[str]:
        """Outputs that are scored."""
        return list(dict.fromkeys(score.output for score in self.scores))

    def score(self, model: str, condition: str, output: str) -> GridScore | None:
        """Score of a cell; None if there is none."""
        return self._by_place.get((model, condition, output))

    @functools.cached_property
    def _by_place(self) -> dict[tuple[str, str, str], GridScore]:
        return {(score.model, score.condition, score.output): score for score in self.scores}

    def at_level(self, model: str, output: str, snr_db: float | None) -> GridScore | None:
        """Score at a ratio, averaged over the kinds of noise, without rooms; None: of clean clips."""
        names = [
            condition.name
            for condition in sorted(self.conditions, key=lambda condition: not condition.mean_of)
            if (condition.name == CLEAN if snr_db is None else condition.room is None and condition.snr_db == snr_db)
        ]
        found = (self.score(model, name, output) for name in names)
        return next((score for score in found if score is not None), None)


CORPUS_TRANSCRIPTS = "the corpus's own, which no condition affects"
RECOGNISED_TRANSCRIPTS = "recognised from the degraded audio"


def write_results(directory: Path, name: str, results: GridResults) -> None:
    """Writes NAME.csv, one row per score, and NAME.json.

    Args:
      directory: existing or new folder.
      name: name of the split as part of a file name.
      results: results.

    Raises:
      EmojaxError: a file cannot be written.
    """
    conditions = {condition.name: condition for condition in results.conditions}
    rows = []
    for score in results.scores:
        condition, counts = conditions[score.condition], results.counts.get(score.condition)
        described = {key: getattr(condition, key) for key in ("group", "snr_db", "rt60")}
        row = {"corpus": results.corpus, "split": results.split, **score.row(), **described}
        names = [field.name for field in dataclasses.fields(ConditionCounts)]
        row |= {name: getattr(counts, name, None) for name in names}
        row |= {"runs": len(results.runs[score.model]), "transcripts": results.transcripts.get(score.model, "")}
        rows.append(row)
    directory.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(directory / f"{name}.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        write_csv(rows, file)
    tree = dataclasses.asdict(results)
    write_json(directory / f"{name}.json", tree)


def summary_lines(results: GridResults) -> list[str]:
    """A table for the terminal: scores on clean clips and, averaged over kinds of noise, at each ratio."""
    levels: list[float | None] = [None]
    levels += sorted({c.snr_db for c in results.conditions if c.room is None and c.snr_db is not None}, reverse=True)
    headings = ["clean" if level is None else f"{level:g} dB" for level in levels]
    width = max(len(results.shown_name(model)) for model in results.models)
    lines = [f"{results.corpus} {results.split}, n {results.n}; mean over kinds of noise, 95 % intervals in the page"]
    lines.append(f"{'':<{width}}  {'':<15}" + "".join(f"{heading:>8}" for heading in headings))
    metrics = {score.output: score.metric for score in results.scores}
    for model in results.models:
        for output in results.outputs:
            scores = [results.at_level(model, output, level) for level in levels]
            values = [None if score is None else score.score.value for score in scores]
            texts = ["–" if value is None else f"{value:.3f}" for value in values]
            if any(text != "–" for text in texts):
                label = f"{metrics[output]} {output}"
                lines.append(f"{results.shown_name(model):<{width}}  {label:<15}" + "".join(f"{t:>8}" for t in texts))
    return lines
