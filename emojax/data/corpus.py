"""Opens a built corpus: its metadata, splits and records."""

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emojax.content import FEATURES
from emojax.errors import ConfigError, CorpusError, reason
from emojax.schema import parse, settings
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, CorpusInfo, SplitRoles

_TEXTS = ("id", "transcript", "speaker", "gender")
_VECTORS = ("attributes", "attributes_std", "emotion_votes")
_BYTES_PER_SAMPLE = 2


def read_utterances(source: Any, indices: Sequence[int], place: str, audio: bool = True) -> list[dict[str, Any]]:
    """Reads utterances by their positions.

    Args:
      source: data source from `open_split`.
      indices: positions in it.
      place: what to call it in messages, e.g. `corpus.place(split)`.
      audio: whether to take the audio.

    Returns:
      For each the features of the schema: texts as str, vectors as float32, `audio` as int16 (S,); and S as
      `num_samples`.

    Raises:
      CorpusError: an utterance cannot be read; the message names the place and the positions.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    if not indices:  # a host whose part of the last batch is empty; array_record refuses an empty list
        return []
    try:
        records = source.data_source.__getitems__(indices)
        return [_decoded(tf_example_pb2.Example.FromString(record).features.feature, audio) for record in records]
    except Exception as error:  # array_record and protobuf raise many kinds for damaged shards
        first, last = min(indices), max(indices)
        raise CorpusError(f"{place}: examples {first} to {last} cannot be read ({reason(error)})") from error


def _decoded(feature: Any, audio: bool) -> dict[str, Any]:
    utterance: dict[str, Any] = {name: feature[name].bytes_list.value[0].decode() for name in _TEXTS}
    for name in _VECTORS:
        utterance[name] = np.array(feature[name].float_list.value, np.float32)
    if len(utterance["attributes"]) != NUM_ATTRIBUTES:
        raise ValueError(f"{utterance['id']!r} has {len(utterance['attributes'])} attributes")
    utterance["emotion"] = feature["emotion"].int64_list.value[0]
    stored = feature["audio"].bytes_list.value[0]
    utterance["num_samples"], half = divmod(len(stored), _BYTES_PER_SAMPLE)
    if half or not stored:
        raise ValueError(f"{utterance['id']!r} has {len(stored)} bytes of audio")
    if audio:
        utterance["audio"] = np.frombuffer(stored, "<i2")
    return utterance


# The registry of builders is above this floor; a test compares.
_BROUGHT_BY_USER = ("folder", "iemocap", "msp_podcast")
_DESCRIBED_BY_USER = "folder"
"""Its config is the name in the user's `corpus.json`."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus on disk.

    Attributes:
      info: what numbers made from it must say.
      directory: folder of the built version, e.g. `DATA_DIR/emodb/1.0.0`.
      split_sizes: number of utterances per split, in the corpus's own order.
      roles: what its splits are for; None if it does not say.
      folds: the same for every fold of its cross-validation.
      chosen: what number each of `info.categories` has in the files; None where they are all of them.
      content: digests of the features of each split (`emojax.content`), as the builder computed them; of corpora built
        by older versions empty.
    """

    info: CorpusInfo
    directory: Path
    split_sizes: dict[str, int]
    roles: SplitRoles | None
    folds: tuple[SplitRoles, ...]
    chosen: tuple[int, ...] | None = None
    content: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def place(self, split: str) -> str:
        """How messages call a split."""
        return f"{self.directory}, split {split!r}"

    def emotion(self, stored: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Numbers in `info.categories` of categories as the files number them; -1 for those that were not chosen."""
        if self.chosen is None:
            return stored
        numbers = np.full(stored.shape, MISSING_EMOTION, stored.dtype)
        for number, original in enumerate(self.chosen):
            numbers[stored == original] = number
        return numbers

    def votes(self, stored: Float[np.ndarray, "N V"]) -> Float[np.ndarray, "N C"]:
        """Shares of `info.categories` among the votes for them; NaN where nobody voted for any."""
        if self.chosen is None:
            return stored
        votes = stored[:, list(self.chosen)]
        total = votes.sum(axis=1, keepdims=True)
        return np.where(total > 0, votes / np.where(total > 0, total, 1), np.nan).astype(stored.dtype)


def default_data_dir() -> Path:
    """Where corpora are built and looked for: `$TFDS_DATA_DIR`, else TFDS's own `~/tensorflow_datasets`."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def open_corpus(name: str, data_dir: str | os.PathLike[str] = "") -> Corpus:
    """Opens a built corpus.

    Args:
      name: TFDS name, `NAME`, `NAME/CONFIG` or `NAME/CONFIG:VERSION`; what is left out must be unambiguous on disk
        (of several versions the newest is taken).
      data_dir: folder that holds `NAME/`; empty for `default_data_dir()`.

    Raises:
      CorpusError: nothing is there, several configs fit, or the folder is no corpus of this project's schema.
    """
    import tensorflow_datasets as tfds

    root = Path(data_dir).expanduser() if data_dir else default_data_dir()
    directory = _version_directory(name, root)
    try:
        builder = tfds.builder_from_directory(directory)
        metadata = dict(builder.info.metadata or {})
    except Exception as error:  # TFDS raises many kinds for a damaged folder; the user needs the folder's name
        raise CorpusError(f"{directory}: cannot be read as a TFDS data set ({reason(error)})") from error
    absent = {"scale", "categories", "speech", "attribute_source"} - set(metadata)
    if absent:
        raise CorpusError(f"{directory}: its metadata lacks {', '.join(sorted(absent))}; rebuild it with tfds_builders")
    place = f"{directory}: metadata"
    info = parse(
        CorpusInfo,
        {
            "name": builder.info.full_name,
            **{key: metadata[key] for key in ("scale", "categories", "speech", "attribute_source")},
            **{key: metadata.get(key, "") for key in ("licence", "citation")},
        },
        place,
        error=CorpusError,
    )
    described = {key: metadata[key] for key in ("roles", "folds", "content") if metadata.get(key)}
    splits = parse(_SplitMetadata, described, place, error=CorpusError, missing="default")
    sizes = {split: int(found.num_examples) for split, found in builder.info.splits.items()}
    content = {split: digests for split, digests in splits.content.items() if set(digests) == set(FEATURES)}
    return Corpus(info, directory, sizes, splits.roles, splits.folds, content=content)


@settings
class _SplitMetadata:
    """What the TFDS metadata of a corpus holds about its splits."""

    roles: SplitRoles | None = None
    folds: tuple[SplitRoles, ...] = ()
    content: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


def choose_categories(corpus: Corpus, names: tuple[str, ...]) -> Corpus:
    """The corpus with these categories alone, in this order; utterances of others have no category. () keeps all.

    Raises:
      ConfigError: it has no such category.
    """
    if not names:
        return corpus
    for name in names:
        if name not in corpus.info.categories:
            allowed = ", ".join(corpus.info.categories) or "none"
            raise ConfigError(f"config.corpus.categories: {name!r} is not allowed; allowed: {allowed}")
    chosen = tuple(corpus.info.categories.index(name) for name in names)
    return dataclasses.replace(corpus, info=dataclasses.replace(corpus.info, categories=names), chosen=chosen)


def open_split(corpus: Corpus, split: str) -> Any:
    """Random access to a split's examples: a sequence of dicts of NumPy values (a TFDS data source).

    Args:
      corpus: from `open_corpus`.
      split: one of `corpus.split_sizes`, a part of it in whole percent, `a[:50%]`, or a sum of several, `a+b`.

    Raises:
      CorpusError: no such split, or the split is empty.
    """
    import tensorflow_datasets as tfds

    parts = split_names(split)
    for part in parts:
        if part not in corpus.split_sizes:
            raise CorpusError(
                f"{corpus.info.name}: no split {part!r}; it has {', '.join(corpus.split_sizes) or 'no splits'}"
            )
    if sum(corpus.split_sizes[part] for part in parts) == 0:
        raise CorpusError(f"{corpus.info.name}: split {split!r} is empty")
    try:
        source: Any = tfds.builder_from_directory(corpus.directory).as_data_source(split=split)
    except (ValueError, AssertionError) as error:
        raise CorpusError(f"{corpus.info.name}: no split {split!r} ({reason(error)})") from error
    if len(source) == 0:
        raise CorpusError(f"{corpus.info.name}: split {split!r} is empty")
    return source


def split_parts(corpus: Corpus, split: str) -> list[tuple[str, slice]]:
    """Positions in whole splits of the utterances of a split: `a[:50%]+b` of a and b, in order.

    Args:
      corpus: from `open_corpus`.
      split: one that `open_split` opens.
    """
    import tensorflow_datasets as tfds

    infos = tfds.builder_from_directory(corpus.directory).info.splits
    found = tfds.core.ReadInstruction.from_spec(split).to_absolute(dict(infos.items()))
    return [(part.splitname, slice(part.from_, part.to)) for part in found]


def split_names(split: str) -> list[str]:
    """The whole splits that a split is made of: `a[:50%]+b` of a and b."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def _version_directory(name: str, root: Path) -> Path:
    """Finds `ROOT/NAME/CONFIG/VERSION`, saying what is there when it is not clear what is meant."""
    base, _, version = name.partition(":")
    corpus_name, _, config = base.partition("/")
    if not corpus_name or ".." in Path(base).parts:
        raise CorpusError(f"{name!r} is no corpus name; write NAME, NAME/CONFIG or NAME/CONFIG:VERSION")
    hint = _build_hint(corpus_name, config, root)
    found = sorted(path.parent for path in (root / corpus_name).glob("**/dataset_info.json"))
    # Folders whose name is not a plain version are TFDS's own unfinished builds.
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
        raise CorpusError(f"corpus {corpus_name!r} is there in several configs; name one of {choices}")
    if version:
        found = [path for path in found if path.name == version]
        if not found:
            raise CorpusError(f"corpus {name!r}: version {version} is not in {root / base}")
    return max(found, key=lambda path: _version_key(path.name))


def _build_hint(name: str, config: str, root: Path) -> str:
    command = ["python", "-m", "tfds_builders", name]
    command += [f"--config={config}"] if config and name != _DESCRIBED_BY_USER else []
    command += ["--manual_dir=FOLDER"] if name in _BROUGHT_BY_USER else []
    where = ", where FOLDER holds your copy" if name in _BROUGHT_BY_USER else ""
    return f"build it with `{shlex.join([*command, f'--data_dir={root}'])}`{where}"


def _version_key(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else ()
