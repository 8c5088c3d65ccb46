"""Whether a split has raters' votes, which its table does not keep."""

import numpy as np

from emojax.data.corpus import Corpus, open_split
from emojax.data.records import read_utterances

_CHUNK = 512


def has_votes(corpus: Corpus, split: str) -> bool:
    """Whether any utterance has a vote for one of the corpus's categories; reads as far as the first that has one.

    Raises:
      CorpusError: no such split, or it cannot be read.
    """
    source = open_split(corpus, split)
    for start in range(0, len(source), _CHUNK):
        positions = range(start, min(start + _CHUNK, len(source)))
        utterances = read_utterances(source, positions, corpus.place(split), audio=False)
        votes = corpus.votes(np.stack([utterance["emotion_votes"] for utterance in utterances]))
        if (np.nan_to_num(votes) > 0).any():
            return True
    return False
