"""TFDS builder of user corpora: a folder with `corpus.json`, a table and audio files."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import tensorflow_datasets as tfds

from emojax.errors import CorpusError
from tfds_builders.builder import CorpusBuilder
from tfds_builders.folder.clips import Clip, categories_of, make_utterance, read_clips, unused_votes
from tfds_builders.folder.description import DESCRIPTION, Description, read_description
from tfds_builders.folder.splits import split_assignment_of, split_names
from tfds_builders.folder.table import Table, read_table
from tfds_builders.schema import CorpusMetadata
from tfds_builders.sources import stamp_files
from tfds_builders.utterance import Made, is_url


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """Builder config of a user corpus.

    Attributes:
      corpus: content of `corpus.json`.
      table: joined tables.
      categories: names of the emotions.
      splits: names of the splits.
    """

    # Not in `repr`, which TFDS logs.
    corpus: Description | None = dataclasses.field(default=None, repr=False)
    table: Table | None = dataclasses.field(default=None, repr=False)
    categories: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()


class Builder(CorpusBuilder):
    """User corpus."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012
        "1.1.0": "Missing values in all columns; segments that end with their file; ids in full precision.",
        "1.0.0": "First release.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"pass the folder that holds {DESCRIPTION}, the table and the audio as --manual_dir."

    @classmethod
    def config_for(cls, config: str, manual_dir: Path | None) -> tfds.core.BuilderConfig:
        """Reads the config from the user's folder.

        Raises:
          CorpusError: no folder is given, it has no valid `corpus.json` or table, or `config` is given.
        """
        if manual_dir is None:
            raise CorpusError(f"folder: --manual_dir is missing; {cls.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        if config:
            raise CorpusError(f"folder: --config must be empty, since {DESCRIPTION} has the name, got {config}")
        corpus = read_description(manual_dir)
        table = read_table(manual_dir, corpus)
        return FolderConfig(
            name=corpus.name,
            description=f"The user's corpus {corpus.name}.",
            corpus=corpus,
            table=table,
            categories=categories_of(corpus, table),
            splits=split_names(table.rows),
        )

    @property
    def make_utterance(self) -> Callable[[Clip], Made]:
        """Function from an item to its result."""
        return make_utterance

    def metadata(self) -> CorpusMetadata:
        """Returns the metadata of the corpus."""
        config, corpus, table = self._parts
        return CorpusMetadata(
            description=f"{corpus.name}: a user's own corpus.",
            scale=corpus.scale,
            categories=config.categories,
            speech=corpus.speech,
            attribute_source=corpus.attribute_source,
            licence=corpus.licence,
            citation=corpus.citation,
            notes="",
            split_assignment=split_assignment_of(config.splits),
            remarks=(*table.remarks, *unused_votes(table, config.categories)),
        )

    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Clip]]:
        """Returns the clips by split."""
        assert manual_dir is not None  # checked by the build command
        config, corpus, table = self._parts
        splits = read_clips(manual_dir, corpus, table, config.categories, self.counts)
        audio = (manual_dir / row.values["path"] for row in table.rows if not is_url(row.values["path"]))
        self.sources = stamp_files(manual_dir, [manual_dir / DESCRIPTION, *table.paths, *audio])
        return dict(splits)

    @property
    def _parts(self) -> tuple[FolderConfig, Description, Table]:
        config = cast("FolderConfig", self.builder_config)
        assert config.corpus is not None
        assert config.table is not None
        return config, config.corpus, config.table
