"""TFDS builder of the Berlin Database of Emotional Speech, from the Opus files in this folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from emojax.types import SplitAssignment
from tfds_builders.builder import CorpusBuilder
from tfds_builders.emodb.recordings import CATEGORIES, SPLITS, Recording, make_utterance, read_recordings
from tfds_builders.schema import CorpusMetadata
from tfds_builders.utterance import Made


class Builder(CorpusBuilder):
    """EmoDB."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012

    @property
    def make_utterance(self) -> Callable[[Recording], Made]:
        """Function from an item to its result."""
        return make_utterance

    def metadata(self) -> CorpusMetadata:
        """Returns the metadata of the corpus."""
        return CorpusMetadata(
            description=(
                "535 recordings of 10 German actors who speak 10 sentences in 7 emotions (Berlin Database of Emotional "
                "Speech)."
            ),
            scale=(0.0, 1.0),
            categories=CATEGORIES,
            speech="recorded",
            attribute_source="none",
            licence="CC0-1.0",
            citation=(
                "F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss. "
                '"A Database of German Emotional Speech." Interspeech 2005.'
            ),
            notes=(
                "There are no attribute ratings: attributes are NaN and the scale is unused. Acted speech; every "
                "recording was recognised by at least 16 of 20 listeners. This copy is altered: most files are "
                "normalised to full scale, and all are exactly 2 s long, longer recordings truncated and shorter ones "
                "padded. Level, length and pauses carry no information, and transcripts are those of the complete "
                "sentences. The same 10 sentences are spoken in every emotion and split, so that words carry no "
                "information about the emotion. Stored as Opus at about 26 kbit/s."
            ),
            split_assignment=SplitAssignment("train", "val", ("test",)),
        )

    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Recording]]:
        """Returns the recordings by speaker-disjoint split."""
        recordings = read_recordings()
        return {split: [recording for recording in recordings if recording.split == split] for split in SPLITS}
