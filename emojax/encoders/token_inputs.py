"""Input adapter of text encoders: token ids of checked texts."""

import collections
import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from emojax.encoders.inputs import InputAdapter
from emojax.errors import CheckpointError, CorpusError
from emojax.tokenizer import as_texts, load_tokenizer
from emojax.types import Batch

VOCABULARY_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
"""Files of which a tokenizer needs one; `vocab.json` goes with `merges.txt`."""


@dataclasses.dataclass(frozen=True, eq=False)
class TokenInputs(InputAdapter):
    """Token ids of texts.

    Attributes:
      longest: longest sequence the encoder takes, special tokens included.
      tokenizer: tokenizer of transformers; None where no files were read.
    """

    modality: ClassVar[Literal["speech", "text"]] = "text"
    field: ClassVar[Literal["audio", "transcript"]] = "transcript"
    shortest_bucket: ClassVar[int] = 16
    batch_size: ClassVar[int] = 2_048

    longest: int
    tokenizer: Any = None
    min_samples: int = 0

    @classmethod
    def of(cls, sizes: Any) -> "TokenInputs":
        """Makes an adapter without a tokenizer, for token ids."""
        return cls(sizes.max_tokens)

    @classmethod
    def read(cls, folder: Path, sizes: Any) -> "TokenInputs":
        """Reads the tokenizer, which must not have more tokens than the encoder embeddings."""
        # Without any of them transformers makes a tokenizer that maps every word to the unknown token.
        if not any((folder / name).is_file() for name in VOCABULARY_FILES):
            raise CheckpointError(f"{folder}: no tokenizer (supported: {', '.join(VOCABULARY_FILES)} with merges.txt)")
        tokenizer = load_tokenizer(str(folder), CheckpointError)
        largest = max(tokenizer.get_vocab().values(), default=-1)
        if max(len(tokenizer), largest + 1) > sizes.vocab_size:
            tokens = f"{len(tokenizer)} tokens" if largest < len(tokenizer) else f"the token id {largest}"
            raise CheckpointError(f"{folder}: the tokenizer has {tokens}, the encoder {sizes.vocab_size} embeddings")
        return cls(sizes.max_tokens, tokenizer)

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def example(cls) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Two tokens."""
        return jax.ShapeDtypeStruct((1, 2), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)

    @classmethod
    def resolution(cls, sizes: Any, max_tokens: int) -> dict[str, int | None]:
        """Tokens at most."""
        return {"max_tokens": max_tokens, "samples_per_frame": None}

    def prepare(self, items: Any) -> list[Int[np.ndarray, "L"]]:
        """Tokenizes texts; one text is a list of one."""
        texts = as_texts(items)
        if not texts:
            return []
        # `verbose=False`: transformers' own warning about the length would come before our error.
        tokenized = self.tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
        for index, tokens in enumerate(tokenized):
            if len(tokens) > self.longest:
                raise CorpusError(
                    f"text {index} must have at most {self.longest} tokens, got {len(tokens)} "
                    f"(it starts: {texts[index][:40]!r})"
                )
        return [np.asarray(tokens, np.int32) for tokens in tokenized]

    def prepare_utterances(
        self, items: list[Any], max_tokens: int
    ) -> tuple[list[np.ndarray], collections.Counter[str]]:
        """Tokenizes transcripts and truncates them as training does; an empty one has no tokens."""
        limit = min(max_tokens, self.longest)
        whole = self.tokenizer(items, verbose=False)["input_ids"]
        within = self.tokenizer(items, truncation=True, max_length=limit)["input_ids"]
        counts = collections.Counter(
            cut=sum(len(tokens) > limit for tokens in whole), empty=sum(not text.strip() for text in items)
        )
        pairs = zip(items, within, strict=True)
        return [np.asarray(tokens if text.strip() else [], np.int32) for text, tokens in pairs], counts

    def of_batch(self, batch: Batch) -> tuple[Array, Array]:
        """Token ids and their numbers."""
        return batch.tokens, batch.num_tokens

    def __call__(self, inputs: Int[Array, "B L"], lengths: Int[Array, "B"]) -> Int[Array, "B L"]:
        """Returns the token ids as they are."""
        return inputs
