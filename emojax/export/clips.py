"""Recordings that an exported file is compared with the model on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emojax.audio import read_audio
from emojax.data import open_corpus
from emojax.data.corpus import open_split, read_utterances
from emojax.errors import ConfigError, CorpusError
from emojax.export.description import Description
from emojax.inference.sources import find_audio
from emojax.types import SAMPLE_RATE
from emojax.workdir import TrainedModel

NUM_CLIPS = 8

_LONGEST = 12 * SAMPLE_RATE
"""Longer clips are cut: longer ones take time and show nothing else."""

Clip = Float32[np.ndarray, "S"]


def read_clips(trained: TrainedModel, description: Description, paths: Sequence[str]) -> tuple[list[Clip], str]:
    """Reads up to 8 recordings, and adds the shortest input of the model, from the first of them.

    Args:
      trained: model.
      description: its shortest and longest clips.
      paths: audio files and folders; (): utterances of the training corpus's test split.

    Returns:
      The clips, 16 kHz, full scale 1.0, and their source.

    Raises:
      ConfigError: there are no paths and the corpus cannot be read.
      AudioError: a file cannot be read.
    """
    if paths:
        files = [file for path in paths for file in find_audio(Path(path))]
        clips, source = [read_audio(file, str(file)) for file in files[:NUM_CLIPS]], ", ".join(paths)
    else:
        clips, source = _corpus_clips(trained)
    windows = round(description.window_seconds * SAMPLE_RATE) or _LONGEST
    longest = min(_LONGEST, windows, description.max_samples or _LONGEST)
    least = description.min_samples
    kept = [clip[:longest] for clip in clips if len(clip) >= least]
    if not kept:
        raise ConfigError(f"{source}: every clip is shorter than {least} samples at 16 kHz, the model's shortest input")
    return [*kept, kept[0][:least]], source


def _corpus_clips(trained: TrainedModel) -> tuple[list[Clip], str]:
    settings = trained.config.corpus
    try:
        corpus = open_corpus(settings.name, settings.data_dir)
        split = next((each for each in settings.tested_splits if each in corpus.split_sizes), None)
        split = split or next(iter(corpus.split_sizes))
        source = open_split(corpus, split)
        places = np.linspace(0, len(source) - 1, min(NUM_CLIPS, len(source))).astype(int).tolist()
        found = read_utterances(source, places, corpus.describe(split))
    except CorpusError as error:
        raise ConfigError(
            f"--clips=FILE,... must name recordings to compare the export with the model on, since the corpus cannot "
            f"be read ({error})"
        ) from error
    return [item["audio"].astype(np.float32) / np.float32(2**15) for item in found], corpus.describe(split)
