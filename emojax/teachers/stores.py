"""Feature stores of a teacher: hidden states of its frozen encoders, read instead of computed again.

A model that was trained from a store does not need the encoder itself on utterances of which the store has the hidden
states. Its outputs are then those of the encoder up to the rounding of the stored values (float16 unless the store has
another type), and on a cropped utterance those of the crop of the whole utterance's states, as in the training of the
model. A store is read if it fits every split that the teacher is applied to: same checkpoint, layers, pooling, token
limit, and digests of audio or transcripts.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from emojax.config import ExperimentConfig
from emojax.data import BatchInputs, SplitIndex, StoredInput
from emojax.errors import CheckpointError, ConfigError
from emojax.workdir import QUANTISED, read_config, stored_input, stored_modalities


@dataclasses.dataclass(frozen=True, eq=False)
class TeacherSplit:
    """Utterances that a teacher is applied to.

    Attributes:
      corpus: TFDS name of their corpus, with config and version.
      split: split on disk that they are in.
      index: index of the utterances.
      student: other inputs of the batches; their transcripts are those of the teacher unless it has its own.
      max_tokens: maximal number of tokens of a transcript.
    """

    corpus: str
    split: str
    index: SplitIndex
    student: BatchInputs
    max_tokens: int


def storable_modalities(workdir: Path, config: ExperimentConfig) -> tuple[str, ...]:
    """Lists the modalities of a model whose hidden states may come from its stores.

    Args:
      workdir: folder of the model. With 8-bit weights its encoders are not those that wrote the stores.
      config: config of the model.
    """
    return () if (workdir / QUANTISED).exists() else stored_modalities(config.model)


def find_stored(workdir: Path, splits: Sequence[TeacherSplit], computed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Finds the modalities of a model whose stores fit every split, and prints for each whether its store is read.

    Args:
      workdir: folder of the model.
      splits: splits that the model is applied to; none: nothing is read.
      computed: modalities whose encoder is needed anyway.

    Raises:
      CheckpointError: the folder is not a workdir.
    """
    config, found = read_config(workdir), []
    for modality in storable_modalities(workdir, config) if splits else ():
        settings = getattr(config.model, modality)
        if modality in computed:
            print(f"teacher {workdir}: {modality} encoder is computed, its hidden states are targets", flush=True)
            continue
        try:
            for split in splits:
                stored = stored_input(workdir, modality, settings, split.corpus, split.split, split.max_tokens)
                dataclasses.replace(split.student, stored={modality: stored}).for_split(split.index)
        except (CheckpointError, ConfigError) as error:
            print(f"teacher {workdir}: {modality} encoder is computed, its store does not fit ({error})", flush=True)
            continue
        print(f"teacher {workdir}: {modality} hidden states are read from {settings.store}", flush=True)
        found.append(modality)
    return tuple(found)


def stored_inputs(
    workdir: Path, number: int, modalities: Sequence[str], corpus: str, split: str, max_tokens: int
) -> dict[str, StoredInput]:
    """Opens the stores of a model, by key of `Batch.stored`.

    Args:
      workdir: folder of the model.
      number: position of the model among the teachers.
      modalities: modalities from `find_stored`.
      corpus: TFDS name with config and version.
      split: name of the split.
      max_tokens: maximal number of tokens of a transcript.
    """
    model = read_config(workdir).model
    return {
        stored_key(number, modality): stored_input(
            workdir, modality, getattr(model, modality), corpus, split, max_tokens
        )
        for modality in modalities
    }


def stored_key(number: int, modality: str) -> str:
    """Key of `Batch.stored` with the hidden states of a modality of teacher `number`."""
    return f"teacher{number}_{modality}"
