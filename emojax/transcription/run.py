"""Transcribes a corpus: recordings of a shard through a recognizer, to JSON lines."""

import collections
import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from emojax.data import Corpus, SplitIndex, open_corpus, open_split, read_index
from emojax.data.corpus import read_utterances
from emojax.encoders import ComputeOptions, checkpoint_fingerprint
from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.pretrained import read_config
from emojax.errors import AudioError, CheckpointError, ConfigError, CorpusError
from emojax.extraction.filling import Interrupted, SplitJob, SplitWork, StoreRun, fill_store
from emojax.extraction.shards import shard_bounds
from emojax.feature_store import SplitMetadata, StoreMetadata, TranscriptSource, read_lines, write_lines
from emojax.interruption import Interruption
from emojax.metrics.word_errors import word_errors
from emojax.parallel import is_first_process, sync_processes
from emojax.progress import Progress
from emojax.recognition import DecodingOptions, Recognizer, Transcript, load_recognizer
from emojax.schema import to_tree
from emojax.transcription.config import TranscribeConfig
from emojax.transcription.counts import TranscriptCounts
from emojax.workdir import SUMMARY, holds, write_json

_FULL_SCALE = 2**15

_AT_ONCE = 32
"""Recordings of similar length that are given to a recognizer, which divides them into its batches."""

_BYTES_PER_UTTERANCE = 4096
"""About what a line takes with the times of its words."""


@dataclasses.dataclass(frozen=True)
class Transcription:
    """Result of a transcription.

    Attributes:
      run: what this run did on this host.
      splits: counts of the transcripts of all runs and hosts by split; in the first process, if nothing is missing.
    """

    run: StoreRun
    splits: dict[str, TranscriptCounts]


@holds("directory")
def transcribe_corpus(config: TranscribeConfig, directory: Path) -> Transcription:
    """Transcribes what is missing of a store with the recognizer of a checkpoint, one device per process.

    Args:
      config: corpus and recognizer.
      directory: folder of the store.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, checkpoint or store.
    """
    settings, revision = config.recognizer, config.recognizer.revision or None
    _, family = read_config(find_folder(settings.checkpoint, revision))
    decoding = settings.decoding if family.model_type == "whisper" else None
    if decoding is None and settings.decoding != DecodingOptions():
        raise ConfigError(
            f"config.recognizer.decoding must have its defaults for a {family.model_type} checkpoint, got "
            f"{settings.decoding}"
        )
    options = ComputeOptions(dtype=jnp.dtype(settings.dtype))
    recognizer = load_recognizer(settings.checkpoint, options, decoding=decoding, revision=revision)
    determining = {} if decoding is None else {k: v for k, v in to_tree(decoding).items() if k != "batch_size"}
    source = TranscriptSource(
        checkpoint_fingerprint(settings.checkpoint, revision), {"dtype": settings.dtype, **determining}
    )
    return transcribe_with(recognizer, source, config, directory)


def transcribe_with(
    recognizer: Recognizer, source: TranscriptSource, config: TranscribeConfig, directory: Path
) -> Transcription:
    """Transcribes what is missing of a store; see `transcribe_corpus`.

    Args:
      recognizer: any recognizer.
      source: what determines its texts.
      config: corpus and splits.
      directory: folder of the store, whose lock is held.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    jobs = []
    for split in config.corpus.splits or tuple(corpus.split_sizes):
        index = read_index(corpus, split)
        work = TranscriptWork(corpus, split, index, recognizer)
        jobs.append(SplitJob(f"transcribe {corpus.info.name} {split}", index, work, directory / split))
    run = fill_store(directory, StoreMetadata(corpus.info.name, to_tree(source), ()), jobs)
    if run.interrupted_by:
        return Transcription(run, {})
    sync_processes(f"{directory} was transcribed")
    if not is_first_process():
        return Transcription(run, {})
    counts = {job.directory.name: TranscriptCounts.of(read_lines(job.directory, job.metadata)) for job in jobs}
    if run.utterances:
        trees = {split: found.to_tree() for split, found in counts.items()}
        write_json(directory / SUMMARY, {"checkpoint": config.recognizer.checkpoint, **run.summary, "splits": trees})
    return Transcription(run, counts)


class TranscriptWork(SplitWork):
    """Transcribes the recordings of a split."""

    shards: Literal["array_record", "jsonl"] = "jsonl"
    features = ("audio",)

    def __init__(self, corpus: Corpus, split: str, index: SplitIndex, recognizer: Recognizer):
        """Opens the split; nothing is read yet.

        Args:
          corpus: corpus of the split.
          split: split.
          index: index of the split.
          recognizer: recognizer of its recordings.
        """
        self.counts: collections.Counter[str] = collections.Counter()
        self.bounds = shard_bounds(index.num_samples, np.full(len(index), _BYTES_PER_UTTERANCE), audio=True)
        self._recognizer = recognizer
        self._context, self._source = corpus.describe(split), open_split(corpus, split)

    def read(self, shard: int) -> list[dict[str, Any]]:
        """Reads the utterances of a shard.

        Raises:
          CorpusError: an utterance cannot be read.
        """
        return read_utterances(self._source, range(*self.bounds[shard : shard + 2]), self._context)

    def compute(
        self, data: list[dict[str, Any]], count: int, progress: Progress, interruption: Interruption
    ) -> list[dict[str, Any]]:
        """Transcribes recordings, those of similar length together; too short ones have no text."""
        transcripts = [Transcript("")] * count
        lengths = np.array([utterance["num_samples"] for utterance in data])
        long_enough = lengths >= self._recognizer.min_samples
        self.counts["short"] += int((~long_enough).sum())
        order = np.argsort(lengths, kind="stable")
        positions = order[long_enough[order]].tolist()
        progress.advance(count - len(positions))
        for start in range(0, len(positions), _AT_ONCE):
            if interruption.received:
                raise Interrupted
            chosen = positions[start : start + _AT_ONCE]
            for position, transcript in zip(chosen, self._transcribe([data[i] for i in chosen]), strict=True):
                transcripts[position] = transcript
            progress.advance(len(chosen))
        return [transcript_line(utterance, found) for utterance, found in zip(data, transcripts, strict=True)]

    def _transcribe(self, utterances: list[dict[str, Any]]) -> list[Transcript]:
        clips = [utterance["audio"].astype(np.float32) / _FULL_SCALE for utterance in utterances]
        try:
            return self._recognizer.transcribe_all(clips)
        except AudioError as error:
            ids = ", ".join(utterance["id"] for utterance in utterances)
            raise CorpusError(f"{self._context}: one of {ids[:200]} cannot be transcribed ({error})") from error

    def write(self, directory: Path, metadata: SplitMetadata, shard: int, values: Any) -> int:
        """Writes the lines of a shard.

        Raises:
          CheckpointError: a log-probability or time is not finite.
        """
        try:
            return write_lines(directory, metadata, shard, values)
        except ValueError as error:
            raise CheckpointError(f"{directory}: the recognizer gave a number that is not finite") from error


def transcript_line(utterance: dict[str, Any], transcript: Transcript) -> dict[str, Any]:
    """Makes the line of an utterance (`emojax.feature_store.transcripts`).

    Args:
      utterance: id, and transcript of the corpus.
      transcript: recognised transcript.
    """
    line = {"id": utterance["id"], **dataclasses.asdict(transcript), "log_probability": transcript.log_probability}
    if utterance["transcript"].strip():
        errors, words = word_errors(transcript.text, utterance["transcript"])
        line |= {"word_errors": errors, "reference_words": words}
    return line
