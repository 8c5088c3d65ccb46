"""Tokenizers of transcripts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from emojax.errors import ConfigError, CorpusError, EmojaxError, reason
from emojax.files import read_json_object

_SETTINGS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")

_PROBE = "Probe, \u00e9 \u4e2d\u6587."
"""Text with words outside of most vocabularies, which tests the tokenizer."""


def load_tokenizer(name_or_path: str, error: type[EmojaxError]) -> Any:
    """Loads a tokenizer of transformers, without running code from its folder.

    Args:
      name_or_path: local folder or hub name.
      error: class of the error raised.

    Raises:
      EmojaxError: of class `error`: the tokenizer cannot be found or read.
    """
    from transformers import AutoTokenizer

    folder = Path(name_or_path)
    for name in _SETTINGS:
        if (folder / name).is_file():
            read_json_object(folder / name, error)  # for error messages that name the file
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, trust_remote_code=False, local_files_only=folder.is_dir()
        )
        if not tokenizer.get_vocab():
            raise ValueError("it has no tokens")
        tokenizer([_PROBE], verbose=False)  # some damage is detected in use only
        return tokenizer
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as problem:  # invalid files cause various exceptions, including Rust panics
        raise error(f"{name_or_path}: the tokenizer cannot be read ({reason(problem)})") from problem


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """Returns texts as a list; a single string is one item.

    Raises:
      CorpusError: an item is not a string.
    """
    texts = [texts] if isinstance(texts, str) or not isinstance(texts, Sequence) else list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise CorpusError(f"item {index}: must be a text (str), got {type(text).__name__}")
    return texts


class Tokenizer:
    """Converts texts to padded arrays of token ids."""

    def __init__(self, name_or_path: str, max_tokens: int):
        """Loads a tokenizer.

        Args:
          name_or_path: local folder or hub name, as for `transformers.AutoTokenizer`; no code from it is run.
          max_tokens: length that rows are padded or truncated to, special tokens included.

        Raises:
          ConfigError: the tokenizer cannot be found or read.
        """
        self._tokenizer = load_tokenizer(name_or_path, ConfigError)
        # The value of padding has no effect, since it is masked.
        self._padding = self._tokenizer.pad_token_id or 0
        self.max_tokens = max_tokens
        if self._tokenizer.is_fast:
            self._tokenizer.backend_tokenizer.no_padding()
            self._tokenizer.backend_tokenizer.enable_truncation(max_tokens)

    def __call__(self, texts: str | Sequence[str]) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        """Tokenizes texts, one per row.

        Returns:
          Ids (int32, padded with the padding id, or 0 without one) and the number of valid ids per row, 0 for an empty
          text (a missing transcript).

        Raises:
          CorpusError: an item is not a string.
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
        # Without offsets and conversions of transformers, which takes a third of the time.
        return [encoding.ids for encoding in self._tokenizer.backend_tokenizer.encode_batch_fast(texts)]
