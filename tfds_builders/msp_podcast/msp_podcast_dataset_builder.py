"""TFDS builder of MSP-Podcast, one builder config per release."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from tfds_builders.builder import CorpusBuilder
from tfds_builders.msp_podcast.labels import CATEGORIES, SCALE
from tfds_builders.msp_podcast.releases import BY_NAME, RELEASES
from tfds_builders.msp_podcast.segments import RATING_BINS, Segment, make_utterance, read_release
from tfds_builders.schema import CorpusMetadata
from tfds_builders.sources import stamp_files
from tfds_builders.utterance import Made


class Builder(CorpusBuilder):
    """MSP-Podcast."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "First release.", "1.1.0": "attributes_histogram: raters per value."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=release.name, description=f"Release {release.title}.") for release in RELEASES
    ]
    DEFAULT_BUILDER_CONFIG_NAME = RELEASES[0].name
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "MSP-Podcast is licensed: get it from its makers (UT Dallas), unpack it, and pass the folder that holds "
        "Audios/ and Labels/ as --manual_dir."
    )

    @property
    def make_utterance(self) -> Callable[[Segment], Made]:
        """Function from an item to its result."""
        return make_utterance

    def metadata(self) -> CorpusMetadata:
        """Returns the metadata of the corpus."""
        release = BY_NAME[self.builder_config.name]
        return CorpusMetadata(
            description=(
                f"MSP-Podcast, release {release.title}: speech segments of podcasts, rated by at least five people "
                "each for activation, valence, dominance and emotion."
            ),
            scale=(float(SCALE[0]), float(SCALE[1])),
            categories=CATEGORIES,
            speech="recorded",
            attribute_source="rated",
            licence="MSP-Podcast licence; the corpus must not be passed on",
            citation=(
                "R. Lotfian, C. Busso. Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving "
                "Emotional Speech From Existing Podcast Recordings. IEEE Transactions on Affective Computing, 2019."
            ),
            notes=(
                "emotion is -1 without agreement of the raters; emotion_votes are shares of primary emotions, "
                "attributes_std is the sample standard deviation over raters, attributes_histogram the number of "
                "raters per value (all 0 where it is unknown). test1 and test2 share speakers; unknown speakers may "
                "occur in several splits; test lists differ between releases. test3 has no public labels."
            ),
            split_assignment=release.split_assignment,
            rating_bins=RATING_BINS,
        )

    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Segment]]:
        """Returns the segments by split."""
        assert manual_dir is not None  # checked by the build command
        sources: list[Path] = []
        splits = read_release(manual_dir, BY_NAME[self.builder_config.name], self.counts, sources)
        self.sources = stamp_files(manual_dir, sources)
        return dict(splits)
