"""Transcripts of a recognizer in place of a corpus's own."""

import dataclasses
from pathlib import Path

from emojax.content import joined_digests
from emojax.data.corpus import split_names
from emojax.data.index import SplitIndex
from emojax.errors import CheckpointError
from emojax.feature_store import TranscriptStore, check_content


@dataclasses.dataclass(frozen=True, eq=False)
class RecognisedTranscripts:
    """Transcripts of one split, from a store that `--mode=transcribe` wrote.

    Attributes:
      store: store of the corpus.
      split: split of the corpus, a part of one, or a sum.
      texts: text of each utterance, in the order of the split's index; () before `for_split`.
      digest: digest of the texts of the whole split, as of the corpus's own transcripts (`emojax.content`).
    """

    store: TranscriptStore
    split: str
    texts: tuple[str, ...] = ()
    digest: str = ""

    def for_split(self, index: SplitIndex) -> "RecognisedTranscripts":
        """Reads the texts of the utterances of an index.

        Args:
          index: index of the split.

        Raises:
          CheckpointError: the store lacks the split or an utterance, is unfinished or damaged, or was computed from
            other audio.
        """
        whole = [self.split] if self.store.has_split(self.split) else split_names(self.split)
        parts = {name: self.store.split(name) for name in dict.fromkeys(whole)}
        texts = {id: text for part in parts.values() for id, text in part.texts.items()}
        for id in index.ids.tolist():
            if id not in texts:
                raise CheckpointError(f"{self.store.directory}: has no transcript of {id!r} (split {self.split!r})")
        contents = {name: part.content for name, part in parts.items()}
        digests = joined_digests([contents[name] for name in whole])
        audio = {name: digest for name, digest in digests.items() if name != "transcript"}
        check_content(parts[whole[0]].directory, audio, index.content)
        aligned = tuple(texts[id] for id in index.ids.tolist())
        return dataclasses.replace(self, texts=aligned, digest=digests["transcript"])

    def replaced(self, index: SplitIndex) -> SplitIndex:
        """Replaces the digest of the transcripts in an index, so that derived data is compared with these texts."""
        return dataclasses.replace(index, content={**index.content, "transcript": self.digest})


def find_transcripts(folders: str, corpus: str, split: str, field: str) -> RecognisedTranscripts | None:
    """Finds the transcripts of a corpus.

    Args:
      folders: folders of transcripts, comma-separated, one per corpus.
      corpus: TFDS name of the corpus, with config and version.
      split: split of the corpus.
      field: config field of `folders`, for messages.

    Returns:
      Transcripts without texts; None if `folders` is empty: the corpus's own are used.

    Raises:
      CheckpointError: a folder holds no transcripts, or none is of that corpus.
    """
    stores = open_transcripts(folders)
    for store in stores:
        if store.metadata.corpus == corpus:
            return RecognisedTranscripts(store, split)
    if not stores:
        return None
    found = ", ".join(f"{store.metadata.corpus} ({store.directory})" for store in stores)
    raise CheckpointError(f"{field}: has no transcripts of {corpus}, only of {found}")


def open_transcripts(folders: str) -> list[TranscriptStore]:
    """Opens the stores of comma-separated folders.

    Raises:
      CheckpointError: a folder holds no transcripts.
    """
    return [TranscriptStore.open(Path(part.strip()).expanduser()) for part in folders.split(",") if part.strip()]
