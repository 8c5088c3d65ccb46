"""Builds a corpus: from a builder's name to ArrayRecord files in their place, and a summary of what is there."""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any
from unittest import mock

import tensorflow_datasets as tfds

from emojax.errors import CorpusError
from tfds_builders.builder import CorpusBuilder
from tfds_builders.staging import move_into_place, staging_directory
from tfds_builders.workers import worker_pool


@dataclasses.dataclass(frozen=True)
class Built:
    """A corpus on disk.

    Attributes:
      full_name: TFDS name with config and version.
      directory: where it lies.
      num_examples: utterances per split.
      num_bytes: size of all files.
      hours: duration per split; empty where the corpus was there already.
      counts: what was left out or counted.
    """

    full_name: str
    directory: Path
    num_examples: dict[str, int]
    num_bytes: int
    hours: dict[str, float]
    counts: dict[str, int]


def build(
    builder_class: type[CorpusBuilder],
    data_dir: Path,
    config: str | tfds.core.BuilderConfig = "",
    manual_dir: Path | None = None,
    overwrite: bool = False,
    processes: int = 1,
) -> Built:
    """Builds a corpus unless it is there.

    Args:
      builder_class: what to build.
      data_dir: root that holds `NAME/CONFIG/VERSION`.
      config: name of a builder config or one of the caller's own; "" for the default.
      manual_dir: the user's copy of a corpus that cannot be distributed.
      overwrite: build again what is there; the old one stays until the new one is complete.
      processes: worker processes; 1 works in this one.

    Raises:
      CorpusError: missing or damaged input, or the place cannot be written.
    """
    builder = builder_class(data_dir=data_dir, config=config or None)
    target = Path(builder.data_dir)
    if (target / "dataset_info.json").exists() and not overwrite:
        return _built(target, {})
    instructions = builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS
    if instructions and not (manual_dir and manual_dir.is_dir()):
        missing = f"manual_dir {manual_dir} is no folder" if manual_dir else "needs --manual_dir"
        raise CorpusError(f"{builder.name}: {missing}; {' '.join(instructions.split())}")
    download_config = tfds.download.DownloadConfig(try_download_gcs=False, manual_dir=manual_dir)
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(staging_directory(data_dir, builder.info.full_name.replace("/", "-")))
        staged = builder_class(data_dir=staging, config=config or None, file_format="array_record")
        if processes > 1:
            staged.pool, staged.processes = stack.enter_context(worker_pool(processes)), processes
        with _quiet(), _same_bytes_every_time():
            staged.download_and_prepare(download_config=download_config)
        move_into_place(Path(staged.data_dir), target, retired=staging / "retired")
        _keep_default_config(staging / builder.name, data_dir / builder.name)
    return _built(target, {split: seconds / 3600 for split, seconds in staged.seconds.items()})


def _keep_default_config(staged: Path, place: Path) -> None:
    """TFDS notes a builder's default config in `NAME/.config`, for `tfds.builder(NAME)` without a config."""
    if (staged / ".config").is_dir() and not (place / ".config").exists():
        (staged / ".config").rename(place / ".config")


def _built(directory: Path, hours: dict[str, float]) -> Built:
    info: Any = tfds.builder_from_directory(directory).info
    return Built(
        full_name=info.full_name,
        directory=directory,
        num_examples={split: facts.num_examples for split, facts in info.splits.items()},
        num_bytes=sum(path.stat().st_size for path in directory.iterdir() if path.is_file()),
        hours=hours,
        counts=dict(info.metadata["counts"]),
    )


@contextlib.contextmanager
def _same_bytes_every_time():
    """Makes TFDS write an example's features in one order; protobuf's own order differs between processes.

    TFDS creates its serializer where no argument reaches it, so its method is replaced while a corpus is built.
    """

    def serialize_example(self: tfds.core.ExampleSerializer, example: Any) -> bytes:
        return self.get_tf_example(example).SerializeToString(deterministic=True)

    with mock.patch.object(tfds.core.ExampleSerializer, "serialize_example", serialize_example):
        yield


@contextlib.contextmanager
def _quiet():
    """TFDS's own bars and announcements would mix with the progress shown here."""
    tfds.disable_progress_bar()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
