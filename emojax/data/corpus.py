"""Access to built corpora: metadata, splits and records."""

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from emojax.content import is_complete
from emojax.data.readers import RecordFiles
from emojax.errors import ConfigError, CorpusError, reason
from emojax.schema import Ge, Le, parse, settings
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, CorpusInfo, SplitAssignment

_TEXTS = ("id", "transcript", "speaker", "gender")
_VECTORS = ("attributes", "attributes_std", "emotion_votes")
_BYTES_PER_SAMPLE = 2

HISTOGRAM = "attributes_histogram"
"""Number of raters per attribute and value (3, K); a feature of corpora whose raters' choices are known."""

MAX_RATING_BINS = 101
"""Largest number of values of a rating scale."""


# Copied from the registry of builders, which this package must not import; a test compares them.
_NEEDS_MANUAL_DIR = ("folder", "iemocap", "msp_podcast")
_CONFIG_FROM_MANUAL_DIR = "folder"
"""Builder whose config name is read from the user's `corpus.json`."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """Some utterances of a split.

    Attributes:
      split: split as accepted by `open_split`.
      positions: ascending positions in it.
    """

    split: str
    positions: Int[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus on disk.

    Attributes:
      info: metadata saved with every model and result.
      directory: folder of the built version, e.g. `DATA_DIR/emodb/1.0.0`.
      split_sizes: number of utterances per split, in the corpus's own order.
      split_assignment: default training, validation and test splits; None if the corpus defines none.
      folds: split assignment of each cross-validation fold.
      category_indices: index in the files of each of `info.categories`; None if all categories are used.
      content: digests of the features of each split (`emojax.content`), computed by the builder; empty for corpora
        built by older versions.
      selections: further splits, by name, which are parts of those on disk (`emojax.data.speaker_splits`).
      rating_bins: K of the histograms of ratings (3, K), one value per whole number of the scale; 0 without histograms.
      rating_table: histograms by utterance id in place of the corpus's own (`emojax.data.ratings`); None: its own.
    """

    info: CorpusInfo
    directory: Path
    split_sizes: dict[str, int]
    split_assignment: SplitAssignment | None
    folds: tuple[SplitAssignment, ...]
    category_indices: tuple[int, ...] | None = None
    content: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    selections: Mapping[str, Selection] = dataclasses.field(default_factory=dict)
    rating_bins: int = 0
    rating_table: Mapping[str, Float[np.ndarray, "3 K"]] | None = dataclasses.field(default=None, compare=False)

    def describe(self, split: str) -> str:
        """Names a split in error messages."""
        return f"{self.directory}, split {split!r}"

    def selected_from(self, split: str) -> str:
        """The split on disk that a split of `selections` is a part of; any other split itself."""
        selection = self.selections.get(split)
        return split if selection is None else selection.split

    def emotion(self, stored: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Maps category indices of the files to indices in `info.categories`; -1 for categories not selected."""
        if self.category_indices is None:
            return stored
        emotion = np.full(stored.shape, MISSING_EMOTION, stored.dtype)
        for index, stored_index in enumerate(self.category_indices):
            emotion[stored == stored_index] = index
        return emotion

    def votes(self, stored: Float[np.ndarray, "N V"]) -> Float[np.ndarray, "N C"]:
        """Renormalises the shares of votes over `info.categories`; NaN without a vote for any of them."""
        if self.category_indices is None:
            return stored
        votes = stored[:, list(self.category_indices)]
        total = votes.sum(axis=1, keepdims=True)
        return np.where(total > 0, votes / np.where(total > 0, total, 1), np.nan).astype(stored.dtype)


def default_data_dir() -> Path:
    """Returns the default folder of corpora: `$TFDS_DATA_DIR`, else TFDS's default, `~/tensorflow_datasets`."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def find_data_dir(data_dir: str | os.PathLike[str] = "") -> Path:
    """Returns the folder of corpora.

    Args:
      data_dir: folder; empty for `default_data_dir()`.

    Raises:
      CorpusError: it is a URL.
    """
    named = os.fspath(data_dir) or os.environ.get("TFDS_DATA_DIR", "")
    if "://" in named:
        raise CorpusError(
            f"data_dir must be a folder, got {named}: corpora are read at random from a disk; copy the corpus to a "
            "disk of this host (`gcloud storage cp -r`, `aws s3 cp --recursive`), or mount the bucket"
        )
    return Path(data_dir).expanduser() if data_dir else default_data_dir()


def open_corpus(name: str, data_dir: str | os.PathLike[str] = "") -> Corpus:
    """Opens a built corpus.

    Args:
      name: TFDS name, `NAME`, `NAME/CONFIG` or `NAME/CONFIG:VERSION`; an omitted config must be unambiguous on disk, an
        omitted version is the newest.
      data_dir: folder that holds `NAME/`; empty for `default_data_dir()`.

    Raises:
      CorpusError: the corpus is not there, several configs match, the folder does not have this project's schema, or
        is a URL.
    """
    import tensorflow_datasets as tfds

    root = find_data_dir(data_dir)
    directory = _version_directory(name, root)
    try:
        builder = tfds.builder_from_directory(directory)
        metadata = dict(builder.info.metadata or {})
    except Exception as error:  # TFDS raises various exceptions for a damaged folder
        raise CorpusError(f"{directory}: cannot be read as a TFDS data set ({reason(error)})") from error
    absent = {"scale", "categories", "speech", "attribute_source", "split_assignment"} - set(metadata)
    if absent:
        raise CorpusError(f"{directory}: its metadata lacks {', '.join(sorted(absent))}; rebuild it with tfds_builders")
    context = f"{directory}: metadata"
    info = parse(
        CorpusInfo,
        {
            "name": builder.info.full_name,
            **{key: metadata[key] for key in ("scale", "categories", "speech", "attribute_source")},
            **{key: metadata.get(key, "") for key in ("licence", "citation")},
        },
        context,
        error=CorpusError,
    )
    split_tree = {
        key: metadata[key] for key in ("split_assignment", "folds", "content", "rating_bins") if metadata.get(key)
    }
    splits = parse(_SplitMetadata, split_tree, context, error=CorpusError, missing="default")
    sizes = {split: int(split_info.num_examples) for split, split_info in builder.info.splits.items()}
    content = {split: digests for split, digests in splits.content.items() if is_complete(digests)}
    return Corpus(
        info,
        directory,
        sizes,
        splits.split_assignment,
        splits.folds,
        content=content,
        rating_bins=splits.rating_bins,
    )


@settings
class _SplitMetadata:
    """Metadata of the splits, part of the TFDS metadata of a corpus."""

    split_assignment: SplitAssignment | None = None
    folds: tuple[SplitAssignment, ...] = ()
    content: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    rating_bins: Annotated[int, Ge(0), Le(MAX_RATING_BINS)] = 0


def choose_categories(corpus: Corpus, names: tuple[str, ...]) -> Corpus:
    """Restricts a corpus to some of its categories.

    Args:
      corpus: from `open_corpus`.
      names: categories, in the order of their new indices; () keeps all. Utterances of other categories get none.

    Raises:
      ConfigError: the corpus does not have a category.
    """
    if not names:
        return corpus
    for name in names:
        if name not in corpus.info.categories:
            available = ", ".join(corpus.info.categories) or "none"
            raise ConfigError(f"config.corpus.categories must be categories of the corpus ({available}), got {name!r}")
    indices = tuple(corpus.info.categories.index(name) for name in names)
    return dataclasses.replace(
        corpus, info=dataclasses.replace(corpus.info, categories=names), category_indices=indices
    )


def open_split(corpus: Corpus, split: str) -> Any:
    """Opens a split for random access, as a TFDS data source.

    Args:
      corpus: from `open_corpus`.
      split: a key of `corpus.selections`; or a key of `corpus.split_sizes`, a part of one in whole percent,
        `a[:50%]`, or a sum, `a+b`.

    Raises:
      CorpusError: the corpus has no such split, or the split is empty.
    """
    import tensorflow_datasets as tfds

    selection = corpus.selections.get(split)
    if selection is not None:
        return _SelectedSource(open_split(corpus, selection.split), selection.positions)
    parts = split_names(split)
    for part in parts:
        if part not in corpus.split_sizes:
            raise CorpusError(
                f"{corpus.info.name}: no split {part!r}; it has {', '.join(corpus.split_sizes) or 'no splits'}"
            )
    if sum(corpus.split_sizes[part] for part in parts) == 0:
        raise CorpusError(f"{corpus.info.name}: split {split!r} is empty")
    try:
        builder = tfds.builder_from_directory(corpus.directory)
        source: Any = builder.as_data_source(split=split)
        if len(source) > 0:  # TFDS's own keeps every file open
            source.data_source = RecordFiles(builder.info.splits[split].file_instructions)
    except (ValueError, AssertionError) as error:
        raise CorpusError(f"{corpus.info.name}: no split {split!r} ({reason(error)})") from error
    if len(source) == 0:
        raise CorpusError(f"{corpus.info.name}: split {split!r} is empty")
    return source


class _SelectedSource:
    """Some utterances of a TFDS data source, with the part of its interface that `read_utterances` uses."""

    def __init__(self, source: Any, positions: Int[np.ndarray, "N"]):
        self._source, self._positions = source, positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def data_source(self) -> "_SelectedSource":
        return self

    def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
        return self._source.data_source.__getitems__(self._positions[list(indices)].tolist())


def split_parts(corpus: Corpus, split: str) -> list[tuple[str, slice]]:
    """Resolves a split such as `a[:50%]+b` to positions in whole splits.

    Args:
      corpus: from `open_corpus`.
      split: as accepted by `open_split`.

    Returns:
      Name of the whole split and the positions in it, for each part in order.
    """
    import tensorflow_datasets as tfds

    infos = tfds.builder_from_directory(corpus.directory).info.splits
    found = tfds.core.ReadInstruction.from_spec(split).to_absolute(dict(infos.items()))
    return [(part.splitname, slice(part.from_, part.to)) for part in found]


def split_names(split: str) -> list[str]:
    """Lists the whole splits that a split is composed of: a and b for `a[:50%]+b`."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def read_utterances(source: Any, indices: Sequence[int], context: str, audio: bool = True) -> list[dict[str, Any]]:
    """Reads utterances by position.

    Args:
      source: data source from `open_split`.
      indices: positions in `source`.
      context: name of the split in error messages, `corpus.describe(split)`.
      audio: whether to return the audio.

    Returns:
      One dict per utterance with the features of the schema: texts as str, vectors as float32, `audio` as int16 (S,),
      `attributes_histogram` as float32 (3, K) where the corpus has it; and S as `num_samples`.

    Raises:
      CorpusError: an utterance cannot be read; the message names the split and the positions.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    if not indices:  # a host without rows in the last batch; array_record does not accept an empty list
        return []
    try:
        records = source.data_source.__getitems__(indices)
        return [_decode(tf_example_pb2.Example.FromString(record).features.feature, audio) for record in records]
    except Exception as error:  # array_record and protobuf raise various exceptions for damaged shards
        first, last = min(indices), max(indices)
        raise CorpusError(f"{context}: examples {first} to {last} cannot be read ({reason(error)})") from error


def _decode(feature: Any, audio: bool) -> dict[str, Any]:
    utterance: dict[str, Any] = {name: feature[name].bytes_list.value[0].decode() for name in _TEXTS}
    for name in _VECTORS:
        utterance[name] = np.array(feature[name].float_list.value, np.float32)
    if len(utterance["attributes"]) != NUM_ATTRIBUTES:
        raise ValueError(f"{utterance['id']!r} has {len(utterance['attributes'])} attributes")
    if HISTOGRAM in feature:
        utterance[HISTOGRAM] = np.array(feature[HISTOGRAM].float_list.value, np.float32).reshape(NUM_ATTRIBUTES, -1)
    utterance["emotion"] = feature["emotion"].int64_list.value[0]
    stored = feature["audio"].bytes_list.value[0]
    utterance["num_samples"], remainder = divmod(len(stored), _BYTES_PER_SAMPLE)
    if remainder or not stored:
        raise ValueError(f"{utterance['id']!r} has {len(stored)} bytes of audio")
    if audio:
        utterance["audio"] = np.frombuffer(stored, "<i2")
    return utterance


def _version_directory(name: str, root: Path) -> Path:
    """Finds `ROOT/NAME/CONFIG/VERSION`; the error lists the alternatives if the name is ambiguous."""
    base, _, version = name.partition(":")
    corpus_name, _, config = base.partition("/")
    if not corpus_name or ".." in Path(base).parts:
        raise CorpusError(f"corpus name must be NAME, NAME/CONFIG or NAME/CONFIG:VERSION, got {name!r}")
    hint = _build_hint(corpus_name, config, root)
    found = sorted(path.parent for path in (root / corpus_name).glob("**/dataset_info.json"))
    # Folders whose name is not a version are unfinished builds of TFDS.
    found = [path for path in found if _version_key(path.name)]
    if not found:
        raise CorpusError(f"corpus {corpus_name!r} is not in {root}; {hint}")
    configs = sorted({str(path.parent.relative_to(root / corpus_name)) for path in found})
    if config:
        found = [path for path in found if path.parent == root / corpus_name / config]
        if not found:
            raise CorpusError(f"corpus {base!r} is not in {root}, which has {', '.join(configs)}; {hint}")
    elif len(configs) > 1:
        choices = ", ".join(f"{corpus_name}/{c}" for c in configs)
        raise CorpusError(f"corpus {corpus_name!r} has several configs; choose one of {choices}")
    if version:
        found = [path for path in found if path.name == version]
        if not found:
            raise CorpusError(f"corpus {name!r}: version {version} is not in {root / base}")
    return max(found, key=lambda path: _version_key(path.name))


def _build_hint(name: str, config: str, root: Path) -> str:
    command = ["python", "-m", "tfds_builders", name]
    command += [f"--config={config}"] if config and name != _CONFIG_FROM_MANUAL_DIR else []
    command += ["--manual_dir=FOLDER"] if name in _NEEDS_MANUAL_DIR else []
    note = ", where FOLDER holds your copy" if name in _NEEDS_MANUAL_DIR else ""
    return f"build it with `{shlex.join([*command, f'--data_dir={root}'])}`{note}"


def _version_key(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else ()
