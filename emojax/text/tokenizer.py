"""Transcripts to token ids, with the tokenizer files that lie next to a text encoder's checkpoint."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from emojax.errors import ConfigError, reason


class Tokenizer:
    """Turns texts into padded arrays of token ids."""

    def __init__(self, name_or_path: str, max_tokens: int):
        """Loads a tokenizer.

        Args:
          name_or_path: local folder or hub name, as `transformers.AutoTokenizer` takes it; no code from it is run.
          max_tokens: length every row is padded or cut to, special tokens included.

        Raises:
          ConfigError: it cannot be found or read.
        """
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"tokenizer {name_or_path!r} cannot be loaded ({reason(error)})") from error
        self.max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        """Returns ids (int32, padded with the tokenizer's own padding id) and the number of valid ids per row.

        An empty text has 0 valid ids: a missing transcript is not the same as one that says nothing.
        """
        encoded = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="np"
        )
        given = np.array([bool(text.strip()) for text in texts])
        counts = encoded["attention_mask"].sum(axis=1).astype(np.int32)
        return encoded["input_ids"].astype(np.int32), np.where(given, counts, 0).astype(np.int32)
