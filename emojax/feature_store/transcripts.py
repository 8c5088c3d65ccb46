"""Transcripts of a recognizer in a store: JSON lines, one per utterance, with the metadata of a feature store.

A line has `id`, `text`, `language`, `loops`, `segments` (see `emojax.recognition.Transcript`), `log_probability` and,
where the corpus has a transcript of its own, `word_errors` and `reference_words`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from emojax.content import column_digest
from emojax.errors import CheckpointError
from emojax.feature_store.layout import (
    SplitMetadata,
    StoreMetadata,
    read_metadata,
    read_split_metadata,
    split_directory,
)
from emojax.files import atomic_write, parse_json
from emojax.schema import MinLen, parse, settings

_MAX_LINE_BYTES = 2**24
"""Greatest size of a line that is read; an hour of speech with times of words has a tenth of it."""


@settings
class TranscriptSource:
    """Origin of transcripts.

    Attributes:
      recognizer: fingerprint of the recognizer's checkpoint.
      options: options of decoding.
    """

    recognizer: Annotated[str, MinLen(1)]
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TranscriptStore:
    """Transcripts on disk.

    Attributes:
      directory: folder of the store.
      metadata: corpus and origin.
    """

    directory: Path
    metadata: StoreMetadata

    @classmethod
    def open(cls, directory: Path) -> "TranscriptStore":
        """Opens a store.

        Raises:
          CheckpointError: the folder holds no transcripts, or its metadata is damaged.
        """
        metadata = read_metadata(directory)
        if "recognizer" not in metadata.source or metadata.arrays:
            raise CheckpointError(f"{directory}: holds no transcripts; `--mode=transcribe` writes them")
        parse(TranscriptSource, dict(metadata.source), f"{directory}, source", error=CheckpointError)
        return cls(directory, metadata)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what determines the texts of a corpus: recognizer and options."""
        return hashlib.sha256(json.dumps(dict(self.metadata.source), sort_keys=True).encode()).hexdigest()

    def has_split(self, name: str) -> bool:
        """Whether a folder of that name exists, be it a whole split or a part of one."""
        return (self.directory / name).is_dir()

    def split(self, name: str) -> "TranscribedSplit":
        """Reads the transcripts of a split.

        Raises:
          CheckpointError: the split is missing, unfinished or damaged.
        """
        folder = split_directory(self.directory, name)
        metadata = read_split_metadata(folder)
        texts = {line["id"]: line["text"] for line in read_lines(folder, metadata)}
        return TranscribedSplit(folder, metadata, texts)


@dataclasses.dataclass(frozen=True)
class TranscribedSplit:
    """Transcripts of a split.

    Attributes:
      directory: folder of the split.
      metadata: metadata of the split.
      texts: text by utterance id, in the corpus's order.
    """

    directory: Path
    metadata: SplitMetadata
    texts: Mapping[str, str]

    @property
    def content(self) -> dict[str, str]:
        """Digests of the features that were transcribed, and of the texts as the feature `transcript`."""
        return {**self.metadata.content, "transcript": column_digest("transcript", list(self.texts.values()))}


def read_lines(directory: Path, metadata: SplitMetadata) -> Iterator[dict[str, Any]]:
    """Reads the lines of a split in order.

    Args:
      directory: folder of the split.
      metadata: metadata of the split.

    Raises:
      CheckpointError: shards are missing, or a line is not the JSON object of its utterance.
    """
    if metadata.shards != "jsonl":
        raise CheckpointError(f"{directory}: holds no transcripts")
    for shard, path in enumerate(metadata.shard_files(directory)):
        ids = metadata.ids[metadata.bounds[shard] : metadata.bounds[shard + 1]]
        count = 0
        try:
            with path.open(encoding="utf-8") as file:
                while text := file.readline(_MAX_LINE_BYTES):
                    context = f"{path}, line {count + 1}"
                    if count == len(ids):
                        raise CheckpointError(f"{path}: must have {len(ids)} lines, has more")
                    yield _checked(parse_json(text, context), ids[count], context)
                    count += 1
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from error
        if count < len(ids):
            raise CheckpointError(f"{path}: has no transcript of {ids[count]!r}, it ends after {count} lines")


def _checked(line: Any, id: str, context: str) -> dict[str, Any]:
    if not isinstance(line, dict) or not isinstance(line.get("text"), str):
        raise CheckpointError(f"{context}: must be an object with a text")
    if line.get("id") != id:
        raise CheckpointError(f"{context}: must be of {id!r}, got {str(line.get('id'))[:100]!r}")
    return line


def write_lines(directory: Path, metadata: SplitMetadata, shard: int, lines: Iterable[Mapping[str, Any]]) -> int:
    """Writes one shard.

    Args:
      directory: folder of the split.
      metadata: metadata of the split.
      shard: shard number.
      lines: lines of the shard's utterances, in order.

    Returns:
      Number of bytes written.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); finished shards are intact.
      ValueError: a number is not finite.
    """
    content = "".join(f"{json.dumps(line, ensure_ascii=False, allow_nan=False)}\n" for line in lines).encode()
    with atomic_write(directory / metadata.shard_name(shard)) as temporary:
        temporary.write_bytes(content)
    return len(content)
