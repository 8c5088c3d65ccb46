"""Feature stores that training writes itself (`make_store`)."""

import signal
from pathlib import Path

from emojax.config import ExperimentConfig
from emojax.data import Corpus, split_names
from emojax.errors import CheckpointError
from emojax.extraction import ExtractConfig, extract_store
from emojax.extraction.config import ExtractCorpusConfig, ExtractEncoderConfig, StatesConfig
from emojax.feature_store import Store
from emojax.models import EncoderInputConfig
from emojax.parallel import sync_processes
from emojax.workdir import store_directory, stored_modalities


def make_stores(config: ExperimentConfig, corpus: Corpus, workdir: Path) -> signal.Signals | None:
    """Writes what the feature stores lack of the splits that a run reads.

    Args:
      config: config of the run, with its splits.
      corpus: corpus of the run.
      workdir: folder of the run.

    Returns:
      The signal that stopped it, where there was one; finished shards are kept.

    Raises:
      EmojaxError: the encoder or the corpus cannot be read, or a store is of something else.
    """
    splits = (config.corpus.train_split, *config.corpus.evaluated_splits)
    parts = tuple(dict.fromkeys(part for split in splits for part in split_names(corpus.selected_from(split))))
    for modality in stored_modalities(config.model):
        settings: EncoderInputConfig = getattr(config.model, modality)
        directory = store_directory(workdir, settings)
        if not settings.make_store or _is_complete(directory, parts):
            continue
        interrupted_by = extract_store(_extraction(config, settings, parts), directory).interrupted_by
        if interrupted_by is not None:
            return interrupted_by
        sync_processes(f"{directory} was written")
    return None


def _is_complete(directory: Path, splits: tuple[str, ...]) -> bool:
    try:
        store = Store(directory)
        for split in splits:
            store.split(split)
    except CheckpointError:  # where it is damaged, the extraction reports it
        return False
    return True


def _extraction(config: ExperimentConfig, settings: EncoderInputConfig, splits: tuple[str, ...]) -> ExtractConfig:
    return ExtractConfig(
        corpus=ExtractCorpusConfig(config.corpus.name, config.corpus.data_dir, splits),
        encoder=ExtractEncoderConfig(
            checkpoint=settings.checkpoint,
            revision=settings.revision,
            dtype=config.model.dtype,
            max_tokens=config.data.max_tokens,
            transcripts=getattr(settings, "transcripts", ""),  # of text encoders
        ),
        states=StatesConfig(
            layers=settings.layers,
            combine="mean" if settings.combine == "mean" else "stack",
            pooling=settings.pooling,
            dtype="float16" if settings.pooling == "none" else "float32",  # pooled rows take little space
        ),
    )
