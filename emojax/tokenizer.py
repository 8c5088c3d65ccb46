"""Transcripts as token ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from emojax.errors import ConfigError, CorpusError, EmojaxError, reason
from emojax.files import read_json_object

_SETTINGS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")

_PROBE = "Probe, \u00e9 \u4e2d\u6587."
"""A text with words that a vocabulary seldom has."""


def load_tokenizer(name_or_path: str, error: type[EmojaxError]) -> Any:
    """Loads a tokenizer of transformers; no code from its folder is run.

    Args:
      name_or_path: local folder or hub name.
      error: raised for whatever is wrong with it.

    Raises:
      EmojaxError: of class `error`: it cannot be found or read.
    """
    from transformers import AutoTokenizer

    folder = Path(name_or_path)
    for name in _SETTINGS:
        if (folder / name).is_file():
            read_json_object(folder / name, error)  # its messages name the file, those of transformers do not
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, trust_remote_code=False, local_files_only=folder.is_dir()
        )
        if not tokenizer.get_vocab():
            raise ValueError("it has no tokens")
        tokenizer([_PROBE], verbose=False)  # some of what is wrong shows only now
        return tokenizer
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as problem:  # files of wrong types end in any kind of error, panics of Rust included
        raise error(f"{name_or_path}: the tokenizer cannot be read ({reason(problem)})") from problem


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """The texts as a list; one text is one item, not a sequence of letters.

    Raises:
      CorpusError: an item is no text.
    """
    texts = [texts] if isinstance(texts, str) or not isinstance(texts, Sequence) else list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise CorpusError(f"item {index}: of type {type(text).__name__}; allowed: a text (str)")
    return texts


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
        self._tokenizer = load_tokenizer(name_or_path, ConfigError)
        # What stands after the valid ids is never looked at.
        self._padding = self._tokenizer.pad_token_id or 0
        self.max_tokens = max_tokens
        if self._tokenizer.is_fast:
            self._tokenizer.backend_tokenizer.no_padding()
            self._tokenizer.backend_tokenizer.enable_truncation(max_tokens)

    def __call__(self, texts: str | Sequence[str]) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        """Returns ids (int32, padded with the padding id, 0 without one) and the number of valid ids per row.

        One text is one row. An empty text has 0 valid ids: a missing transcript is not the same as an empty one.

        Raises:
          CorpusError: an item is no text.
        """
        texts = as_texts(texts)
        rows = self._ids(texts)
        tokens = np.full((len(rows), self.max_tokens), self._padding, np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        counts = [len(ids) if text.strip() else 0 for text, ids in zip(texts, rows, strict=True)]
        return tokens, np.array(counts, np.int32)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not self._tokenizer.is_fast:
            return self._tokenizer(texts, padding=False, truncation=True, max_length=self.max_tokens)["input_ids"]
        # Without offsets and without transformers' conversions: a third of the time.
        return [encoding.ids for encoding in self._tokenizer.backend_tokenizer.encode_batch_fast(texts)]
