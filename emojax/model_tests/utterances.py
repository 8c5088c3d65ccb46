"""Utterances that a model is tested on: labels on [0, 1], speakers and their groups, and the clips on demand."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from emojax.data import Corpus, open_split, read_index
from emojax.data.corpus import read_utterances
from emojax.data.transcripts import find_transcripts
from emojax.errors import ConfigError, CorpusError
from emojax.evaluation.predictions import read_cell
from emojax.model_tests.model import Clip
from emojax.tables import read_rows
from emojax.types import CorpusInfo

GROUPINGS = ("sex", "accent", "language", "speech")
"""Columns of the table of groups. `speech` is equal for recordings of the same speech by different devices."""

LONGEST_CROP = 1000
"""Samples that the longest crop removes; utterances that would be too short for the model then are not tested."""


@dataclasses.dataclass(frozen=True, eq=False)
class Utterances:
    """Utterances of a split.

    Attributes:
      info: corpus.
      split: split of the corpus.
      ids: id of every utterance, unique.
      speakers: speaker of every utterance; "" where unknown.
      attributes: labels mapped to [0, 1], in the order of `ATTRIBUTES`; NaN where missing.
      emotion: index into `info.categories`; -1 where missing.
      groups: value of each of `GROUPINGS` for every utterance; "" where unknown.
      read: reads the clips of some utterances by index.
      too_short: number of utterances of the split that are too short for the model.
    """

    info: CorpusInfo
    split: str
    ids: list[str]
    speakers: list[str]
    attributes: Float[np.ndarray, "N 3"]
    emotion: Int[np.ndarray, "N"]
    groups: dict[str, list[str]]
    read: Callable[[Sequence[int]], list[Clip]]
    too_short: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def utterances_of(
    corpus: Corpus, split: str, min_samples: int, groups_file: str = "", transcripts: str = ""
) -> Utterances:
    """Utterances of a split of a built corpus.

    Args:
      corpus: corpus.
      split: its split.
      min_samples: samples of the model's shortest input at 16 kHz.
      groups_file: CSV file of `read_groups`; "" for the sex that the corpus has.
      transcripts: folder of recognised transcripts; "" for the corpus's own.

    Raises:
      CheckpointError: the transcripts are not those of the corpus.
      CorpusError: there is no such split, it is empty, or no utterance is long enough.
      ConfigError: the file of groups cannot be used.
    """
    index = read_index(corpus, split)
    kept = np.flatnonzero(index.num_samples >= min_samples + LONGEST_CROP)
    if not kept.size:
        raise CorpusError(
            f"{corpus.describe(split)}: every utterance is shorter than {min_samples + LONGEST_CROP} samples, the "
            f"model's shortest input and the longest crop"
        )
    recognised = find_transcripts(transcripts, corpus.info.name, split, "config.model.lexical.transcripts")
    texts = recognised.for_split(index).texts if recognised else None
    source = open_split(corpus, split)
    low, high = corpus.info.scale

    def read(rows: Sequence[int]) -> list[Clip]:
        positions = [int(kept[row]) for row in rows]
        found = read_utterances(source, positions, corpus.describe(split))
        words = [item["transcript"] for item in found] if texts is None else [texts[number] for number in positions]
        return [
            Clip(item["id"], item["audio"].astype(np.float32) / np.float32(2**15), text)
            for item, text in zip(found, words, strict=True)
        ]

    ids, speakers = index.ids[kept].tolist(), index.speakers[kept].tolist()
    groups = {grouping: [""] * len(ids) for grouping in GROUPINGS} | {"sex": index.genders[kept].tolist()}
    if groups_file:
        groups |= read_groups(Path(groups_file).expanduser(), ids, speakers)
    return Utterances(
        info=corpus.info,
        split=split,
        ids=ids,
        speakers=speakers,
        attributes=(index.attributes[kept].astype(np.float64) - low) / (high - low),
        emotion=index.emotion[kept].astype(np.int64),
        groups=groups,
        read=read,
        too_short=len(index) - len(kept),
    )


def read_groups(path: Path, ids: Sequence[str], speakers: Sequence[str]) -> dict[str, list[str]]:
    """Reads groups of utterances from a CSV file with a column `id` or `speaker` and some of `GROUPINGS`.

    Args:
      path: CSV file.
      ids: ids of the utterances.
      speakers: their speakers.

    Returns:
      Value of each grouping in the file for every utterance; "" where the file has none.

    Raises:
      ConfigError: the file cannot be read, has other columns, a key twice, or no row of these utterances.
    """
    rows, columns = read_rows(path, f"config.groups: {path}", ConfigError)
    keys = [column for column in columns if column in ("id", "speaker")]
    found = [column for column in columns if column in GROUPINGS]
    if len(keys) != 1 or not found or len(columns) != 1 + len(found):
        raise ConfigError(
            f"config.groups: {path}: must have a column id or speaker, and some of {', '.join(GROUPINGS)}, got "
            f"{', '.join(columns) or 'none'}"
        )
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        key = read_cell(row[keys[0]] or "")
        if key in table:
            raise ConfigError(f"config.groups: {path}: {keys[0]} {key!r} must occur once, got it twice")
        table[key] = {column: (row[column] or "").strip() for column in found}
    wanted = ids if keys[0] == "id" else speakers
    if not any(key in table for key in wanted):
        raise ConfigError(f"config.groups: {path}: has no {keys[0]} of the tested utterances, e.g. {wanted[0]!r}")
    return {column: [table.get(key, {}).get(column, "") for key in wanted] for column in found}
