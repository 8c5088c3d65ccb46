"""Tokenization of transcripts with the tokenizers of transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from emojax.errors import ConfigError, CorpusError, EmojaxError, reason
from emojax.files import read_json_object

_SETTINGS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")

_PROBE = "Probe, \u00e9 \u4e2d\u6587."
"""A text with characters that few vocabularies have."""


def load_tokenizer(name_or_path: str, error: type[EmojaxError]) -> Any:
    """Loads a tokenizer of transformers; no code from its folder is run.

    Args:
      name_or_path: local folder or hub name.
      error: class of the exception.

    Raises:
      EmojaxError: of class `error`, if it cannot be found or read.
    """
    from transformers import AutoTokenizer

    folder = Path(name_or_path)
    for name in _SETTINGS:
        if (folder / name).is_file():
            read_json_object(folder / name, error)  # its messages have the file's name, those of transformers do not
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, trust_remote_code=False, local_files_only=folder.is_dir()
        )
        if not tokenizer.get_vocab():
            raise ValueError("it has no tokens")
        tokenizer([_PROBE], verbose=False)  # some damage becomes an error only here
        return tokenizer
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as problem:  # damaged files raise any kind of error, panics of Rust included
        raise error(f"{name_or_path}: the tokenizer cannot be read ({reason(problem)})") from problem


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """Converts texts to a list; one text is one item, not a sequence of letters.

    Raises:
      CorpusError: an item is no text.
    """
    texts = [texts] if isinstance(texts, str) or not isinstance(texts, Sequence) else list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise CorpusError(f"item {index}: of type {type(text).__name__}; allowed: a text (str)")
    return texts


class Tokenizer:
    """Tokenizer with padded or truncated rows of token ids."""

    def __init__(self, name_or_path: str, max_tokens: int):
        """Loads a tokenizer.

        Args:
          name_or_path: local folder or hub name, as for `transformers.AutoTokenizer`; no code from it is run.
          max_tokens: length that every row is padded or truncated to, special tokens included.

        Raises:
          ConfigError: it cannot be found or read.
        """
        self._tokenizer = load_tokenizer(name_or_path, ConfigError)
        # Ids after the valid ones have no effect.
        self._padding = self._tokenizer.pad_token_id or 0
        self.max_tokens = max_tokens
        if self._tokenizer.is_fast:
            self._tokenizer.backend_tokenizer.no_padding()
            self._tokenizer.backend_tokenizer.enable_truncation(max_tokens)

    def __call__(self, texts: str | Sequence[str]) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        """Tokenizes texts.

        Returns:
          Ids (int32, padded with the padding id, or 0 if there is none) and the number of valid ids per row. One text
          is one row. An empty text, which means that there is no transcript, has 0 valid ids.

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
