"""What an encoder reads of a corpus: waveforms, or the tokens of transcripts."""

import collections

import numpy as np

from emojax.data import Corpus, open_split
from emojax.data.records import read_utterances
from emojax.encoders import Encoder
from emojax.encoders.preprocess import TextPreprocess


class EncoderInputs:
    """A split's utterances as an encoder takes them.

    Attributes:
      counts: `empty` transcripts and `cut` ones, recordings too `short` for one frame, of what was read so far.
    """

    def __init__(self, corpus: Corpus, split: str, encoder: Encoder, max_tokens: int):
        """Opens the split; nothing is read yet."""
        self._preprocess, self._min_samples = encoder.preprocess, encoder.min_samples
        self._place = corpus.place(split)
        self._max_tokens = max_tokens
        self._source = open_split(corpus, split)
        self.counts: collections.Counter[str] = collections.Counter()

    def read(self, first: int, end: int) -> list[np.ndarray]:
        """Waveforms int16 (S_i,) or tokens int32 (L_i,) of the utterances first, ..., end - 1.

        An empty transcript has no tokens; a longer one than allowed is cut as training cuts it. A recording too short
        for one frame has no samples.

        Raises:
          CorpusError: an utterance cannot be read; the message names it.
        """
        reads = isinstance(self._preprocess, TextPreprocess)
        examples = read_utterances(self._source, range(first, end), self._place, audio=not reads)
        if isinstance(self._preprocess, TextPreprocess):
            return self._tokens([example["transcript"] for example in examples], self._preprocess)
        recordings = [example["audio"] for example in examples]
        long_enough = [len(audio) >= self._min_samples for audio in recordings]
        self.counts["short"] += long_enough.count(False)
        return [audio if taken else audio[:0] for audio, taken in zip(recordings, long_enough, strict=True)]

    def _tokens(self, texts: list[str], preprocess: TextPreprocess) -> list[np.ndarray]:
        limit = min(self._max_tokens, preprocess.max_tokens)
        whole = preprocess.tokenizer(texts, verbose=False)["input_ids"]
        within = preprocess.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        self.counts["cut"] += sum(len(tokens) > limit for tokens in whole)
        self.counts["empty"] += sum(not text.strip() for text in texts)
        return [
            np.asarray(tokens if text.strip() else [], np.int32) for text, tokens in zip(texts, within, strict=True)
        ]
