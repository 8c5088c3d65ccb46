"""Two further splits of a corpus, defined by speakers: the utterances of some, and those of all others."""

import dataclasses

import numpy as np

from emojax.data.corpus import Corpus, Selection
from emojax.data.index import read_index
from emojax.errors import ConfigError

SPEAKERS, OTHER_SPEAKERS = "speakers", "other_speakers"


def all_splits(corpus: Corpus) -> str:
    """The split that is the sum of all of a corpus, in the corpus's order."""
    return "+".join(corpus.split_sizes)


def with_speaker_splits(corpus: Corpus, speakers: tuple[str, ...]) -> Corpus:
    """Adds the splits `speakers` and `other_speakers`, over all utterances of a corpus.

    Args:
      corpus: from `open_corpus`.
      speakers: speakers of the first; "" stands for the utterances of unknown speakers. (): no split is added.

    Raises:
      ConfigError: the corpus has a split of that name or no utterance of a speaker, or one of the splits is empty.
    """
    if not speakers:
        return corpus
    for name in (SPEAKERS, OTHER_SPEAKERS):
        if name in corpus.split_sizes:
            raise ConfigError(f"config.corpus.speakers must be (): {corpus.info.name} has a split {name!r} of its own")
    whole = all_splits(corpus)
    index = read_index(corpus, whole)
    for speaker in speakers:
        if speaker not in index.speakers:
            raise ConfigError(f"config.corpus.speakers must be speakers of {corpus.info.name}, got {speaker!r}")
    chosen = np.isin(index.speakers, speakers)
    if chosen.all():
        raise ConfigError(f"config.corpus.speakers must not be all speakers of {corpus.info.name}")
    selections = {
        SPEAKERS: Selection(whole, np.flatnonzero(chosen)),
        OTHER_SPEAKERS: Selection(whole, np.flatnonzero(~chosen)),
    }
    return dataclasses.replace(corpus, selections=selections)
