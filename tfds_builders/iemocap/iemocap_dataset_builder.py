"""TFDS builder of IEMOCAP from a licensed copy."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from tfds_builders.builder import CorpusBuilder
from tfds_builders.iemocap.labels import CATEGORIES, SCALE
from tfds_builders.iemocap.turns import FOLDS, FOUR, Utterance, make_utterance, read_sessions
from tfds_builders.schema import CorpusMetadata
from tfds_builders.sources import stamp_files
from tfds_builders.utterance import Made


@dataclasses.dataclass(eq=False)
class IemocapConfig(tfds.core.BuilderConfig):
    """Selection of utterances.

    Attributes:
      four: whether to use the usual four classes only.
      improvised: whether to use improvised conversations only.
    """

    four: bool = False
    improvised: bool = False


class Builder(CorpusBuilder):
    """IEMOCAP."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "First release.", "1.1.0": "attributes_histogram: evaluators per value."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        IemocapConfig(name="all", description="Every labelled utterance, ten categories."),
        IemocapConfig(name="four", description="Anger, happiness (with excitement), sadness, neutral.", four=True),
        IemocapConfig(name="improvised", description="Improvised conversations, ten categories.", improvised=True),
        IemocapConfig(
            name="four_improvised",
            description="Improvised conversations, the four classes.",
            four=True,
            improvised=True,
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "all"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "IEMOCAP is licensed: get it from its makers (USC SAIL), unpack it, and pass the folder that holds Session1 to "
        "Session5 as --manual_dir."
    )

    @property
    def make_utterance(self) -> Callable[[Utterance], Made]:
        """Function from an item to its result."""
        return make_utterance

    def metadata(self) -> CorpusMetadata:
        """Returns the metadata of the corpus."""
        return CorpusMetadata(
            description="IEMOCAP: five sessions of two actors each, scripted and improvised conversations.",
            scale=(float(SCALE[0]), float(SCALE[1])),
            categories=FOUR if self.builder_config.four else CATEGORIES,
            speech="recorded",
            attribute_source="rated",
            licence="IEMOCAP licence; the corpus must not be passed on",
            citation=(
                "C. Busso, M. Bulut, C.-C. Lee, A. Kazemzadeh, E. Mower, S. Kim, J. Chang, S. Lee, S. Narayanan. "
                "IEMOCAP: Interactive emotional dyadic motion capture database. "
                "Language Resources and Evaluation 42, 2008."
            ),
            notes=(
                "Acted speech. Scripted conversations have the same words in every session, so that a lexical model is "
                "trained on the test sentences: report improvised conversations too. emotion is -1 without agreement "
                "of the evaluators. emotion_votes, attributes_std and attributes_histogram exclude self reports."
            ),
            split_assignment=FOLDS[-1],
            folds=FOLDS,
            rating_bins=SCALE[1] - SCALE[0] + 1,
        )

    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Utterance]]:
        """Returns the utterances by session."""
        assert manual_dir is not None  # checked by the build command
        config = self.builder_config
        sources: list[Path] = []
        sessions = read_sessions(manual_dir, config.four, config.improvised, self.counts, sources)
        self.sources = stamp_files(manual_dir, sources)
        return dict(sessions)
