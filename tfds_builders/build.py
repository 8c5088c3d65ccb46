"""Builds a corpus as ArrayRecord files, and summarises it."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from emojax.errors import CorpusError
from tfds_builders.bucket import CorpusBucket
from tfds_builders.builder import CorpusBuilder
from tfds_builders.schema import deterministic_serialization
from tfds_builders.sources import changed_sources, write_sources
from tfds_builders.staging import move_into_place, staging_directory
from tfds_builders.workers import worker_pool


@dataclasses.dataclass(frozen=True)
class Built:
    """Summary of a corpus on disk.

    Attributes:
      full_name: TFDS name with config and version.
      directory: folder of the corpus, or its URL.
      num_examples: utterances per split.
      num_bytes: size of all files.
      hours: duration per split; empty for a corpus that already existed.
      counts: counts of skipped and special items.
      remarks: one-line remarks on how the user's files were read.
      uncompared: reason why an existing corpus was not compared with the user's files; "" if it was.
    """

    full_name: str
    directory: Path | str
    num_examples: dict[str, int]
    num_bytes: int
    hours: dict[str, float]
    counts: dict[str, int]
    remarks: tuple[str, ...]
    uncompared: str = ""


def build(
    builder_class: type[CorpusBuilder],
    data_dir: Path,
    config: str | tfds.core.BuilderConfig = "",
    manual_dir: Path | None = None,
    overwrite: bool = False,
    processes: int = 1,
    beam_options: Sequence[str] | None = None,
    shards_url: str = "",
) -> Built:
    """Builds a corpus, unless it exists and was built from the same files.

    Args:
      builder_class: class of the builder.
      data_dir: root folder, which holds `NAME/CONFIG/VERSION`.
      config: name of a builder config, or a config; "" for the default.
      manual_dir: the user's copy of a corpus that cannot be distributed.
      overwrite: rebuild an existing corpus, which remains until the new one is complete.
      processes: number of worker processes; 1 uses this process.
      beam_options: options of an Apache Beam pipeline that writes the shards; None: shards are written here.
      shards_url: with Beam, folder of a bucket that its workers write the shards to; `data_dir` then has the metadata.

    Raises:
      CorpusError: the input is missing or damaged, `data_dir` cannot be written, or the corpus exists and the user's
        files have changed since.
    """
    builder = builder_class(data_dir=data_dir, config=config or None)
    target = Path(builder.data_dir)
    if (target / "dataset_info.json").exists() and not overwrite:
        return dataclasses.replace(_built(target, {}), uncompared=_compare(builder, target, manual_dir, processes))
    instructions = builder_class.MANUAL_DOWNLOAD_INSTRUCTIONS
    if instructions and not (manual_dir and manual_dir.is_dir() and any(manual_dir.iterdir())):
        missing = "--manual_dir is missing"
        if manual_dir:
            missing = f"--manual_dir={manual_dir}: {'is empty' if manual_dir.is_dir() else 'no such folder'}"
        raise CorpusError(f"{builder.name}: {missing}; {' '.join(instructions.split())}")
    download_config = tfds.download.DownloadConfig(try_download_gcs=False, manual_dir=manual_dir)
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(staging_directory(data_dir, builder.info.full_name.replace("/", "-")))
        staged = builder_class(data_dir=staging, config=config or None, file_format="array_record")
        staged.beam_options, staged.shards_url = beam_options, shards_url
        if processes > 1 and beam_options is None:
            staged.pool, staged.processes = stack.enter_context(worker_pool(processes)), processes
        with _quiet(), deterministic_serialization():
            staged.download_and_prepare(download_config=download_config)
        if manual_dir:
            write_sources(Path(staged.data_dir), manual_dir, staged.sources, processes)
        move_into_place(Path(staged.data_dir), target, retired=staging / "retired")
        _keep_default_config(staging / builder.name, data_dir / builder.name)
    return _built(target, {split: seconds / 3600 for split, seconds in staged.seconds.items()})


def build_in_bucket(
    builder_class: type[CorpusBuilder],
    url: str,
    config: str | tfds.core.BuilderConfig = "",
    manual_dir: Path | None = None,
    overwrite: bool = False,
    processes: int = 1,
    beam_options: Sequence[str] | None = None,
) -> Built:
    """Builds a corpus in a bucket, unless it exists there and was built from the same files.

    Workers of Apache Beam write the shards to the bucket; without it they are built in a temporary folder and copied.
    Another build of the same corpus at the same time is not detected. With `overwrite` an existing corpus is removed
    first.

    Args:
      builder_class: class of the builder.
      url: root folder in the bucket, which holds `NAME/CONFIG/VERSION`.
      config: see `build`; so for the other arguments.

    Raises:
      CorpusError: see `build`; or the bucket cannot be accessed.
    """
    bucket = CorpusBucket(url)
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        builder = builder_class(data_dir=folder, config=config or None)
        corpus = Path(builder.data_dir).relative_to(folder).as_posix()
        target = f"{bucket.url}/{corpus}"
        if not overwrite and bucket.fetch_metadata(corpus, folder):
            found = build(builder_class, folder, config, manual_dir, processes=processes)
            return dataclasses.replace(found, directory=target)
        bucket.remove(corpus)
        try:
            shards_url = "" if beam_options is None else target
            built = build(
                builder_class, folder, config, manual_dir, False, processes, beam_options, shards_url=shards_url
            )
            bucket.put(folder)
        except BaseException:
            bucket.remove(corpus)
            raise
        return dataclasses.replace(built, directory=target)


def _compare(builder: CorpusBuilder, target: Path, manual_dir: Path | None, processes: int) -> str:
    """Raises if the user's files have changed; returns why they were not compared, "" if they were."""
    if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return ""
    if manual_dir is None:
        return "not compared with your copy: no --manual_dir"
    changed = changed_sources(target, manual_dir, processes)
    if changed is None:
        return "not compared with your copy: it has no digests of its files"
    if changed:
        raise CorpusError(
            f"{builder.info.full_name}: already built in {target}, but the files in {manual_dir} have changed since "
            f"({changed}); add --overwrite to build it again"
        )
    return ""


def _keep_default_config(staged: Path, target: Path) -> None:
    """Moves `NAME/.config`, where TFDS stores a builder's default config for `tfds.builder(NAME)`."""
    if (staged / ".config").is_dir() and not (target / ".config").exists():
        (staged / ".config").rename(target / ".config")


def _built(directory: Path, hours: dict[str, float]) -> Built:
    info: Any = tfds.builder_from_directory(directory).info
    return Built(
        full_name=info.full_name,
        directory=directory,
        num_examples={split: metadata.num_examples for split, metadata in info.splits.items()},
        num_bytes=sum(metadata.num_bytes for metadata in info.splits.values())
        + sum(path.stat().st_size for path in directory.glob("*.json")),
        hours=hours,
        counts=dict(info.metadata["counts"]),
        remarks=tuple(info.metadata.get("remarks", ())),
    )


@contextlib.contextmanager
def _quiet():
    """Suppresses the progress bars and messages of TFDS, which would mix with our own."""
    tfds.disable_progress_bar()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
