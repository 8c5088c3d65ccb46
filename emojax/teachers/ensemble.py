"""An ensemble of trained models: loading its members and averaging their outputs."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from emojax.config import TeacherConfig
from emojax.data import BatchInputs
from emojax.data.transcripts import RecognisedTranscripts, find_transcripts, open_transcripts
from emojax.errors import CheckpointError, ConfigError
from emojax.evaluation import same_categories
from emojax.models import embedding_size, example_batch
from emojax.teachers.stores import TeacherSplit, find_stored, stored_inputs, stored_key
from emojax.types import Batch, EmotionOutput
from emojax.workdir import ENCODERS, TrainedModel, read_encoder_source, restore_model


@flax.struct.dataclass
class AveragedOutputs:
    """Outputs of an ensemble, float32.

    Attributes:
      attributes: weighted mean over the members that have the attribute; NaN without any.
      spread: weighted standard deviation of the members' attributes; 0 with one member.
      probabilities: weighted mean of the probabilities of the ensemble's K categories; NaN without any member.
      embedding: embeddings of the members, concatenated.
    """

    attributes: Float[Array, "B 3"]
    spread: Float[Array, "B 3"]
    probabilities: Float[Array, "B K"]
    embedding: Float[Array, "B E"]


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Trained models whose outputs are averaged.

    Attributes:
      members: the models; none, where only hidden states of a store are used: outputs are then missing.
      weights: weights of the members; their sum is 1.
      transcripts: folders of transcripts for the lexical modality, comma-separated, one per corpus; "": the student's,
        else the corpus's own.
      max_tokens: maximal number of tokens of a transcript in the batches that stores are read for.
    """

    members: tuple[TrainedModel, ...]
    weights: tuple[float, ...]
    transcripts: str = ""
    max_tokens: int = 0

    @property
    def variables(self) -> list[dict[str, Any]]:
        """Variables of each member, on the devices."""
        return [member.variables for member in self.members]

    @property
    def categories(self) -> tuple[str, ...]:
        """The K categories that at least one member was trained on, as the first of them spells each."""
        return _union(_trained_categories(member) for member in self.members)

    @property
    def modalities(self) -> frozenset[str]:
        """Inputs that at least one member has."""
        return frozenset(name for member in self.members for name in member.config.model.modalities)

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz with which every member has a frame."""
        return max((member.model.min_samples for member in self.members), default=0)

    @property
    def max_samples(self) -> int | None:
        """Longest input in samples at 16 kHz that every speech encoder takes that is computed; None: no limit."""
        limits = [member.model.max_samples for member in self.members if "acoustic" in member.online]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def pads_clips(self) -> bool:
        """Whether a speech encoder that is computed pads every clip to its longest input."""
        return any("acoustic" in member.online and member.config.model.acoustic.padded for member in self.members)

    @property
    def transcripts_fingerprint(self) -> str | None:
        """Fingerprint of `transcripts`, the same for every corpus; None without them.

        Raises:
          CheckpointError: a folder holds no transcripts, or they are of different recognizers.
        """
        stores = open_transcripts(self.transcripts)
        fingerprints = {store.fingerprint for store in stores}
        if len(fingerprints) > 1:
            raise CheckpointError(f"config.teacher.transcripts: {self.transcripts} are of different recognizers")
        return next(iter(fingerprints), None)

    @property
    def embedding_size(self) -> int:
        """E, size of the concatenated embeddings."""
        return sum(
            embedding_size(member.model, example_batch(member.model, member.online, member.config.data.max_tokens))
            for member in self.members
        )

    def outputs(self, variables: list[dict[str, Any]], batch: Batch) -> AveragedOutputs:
        """Averages the members' outputs.

        Args:
          variables: variables of each member.
          batch: with the inputs that `batch_inputs` asks for.
        """
        if not self.members:
            rows = batch.weight.shape[0]
            missing, none = jnp.full((rows, 3), jnp.nan, jnp.float32), jnp.zeros((rows, 0), jnp.float32)
            return AveragedOutputs(missing, jnp.zeros_like(missing), none, none)
        attributes, probabilities, embeddings = [], [], []
        categories = self.categories
        for number, (member, own) in enumerate(zip(self.members, variables, strict=True)):
            stored = {modality: batch.stored[stored_key(number, modality)] for modality in _read_modalities(member)}
            inputs = batch.replace(stored=stored)  # type: ignore[attr-defined]
            output: Any = member.model.apply(own, inputs, train=False)
            attributes.append(jnp.where(jnp.asarray(member.outputs.attributes), output.attributes, jnp.nan))
            probabilities.append(_probabilities(member, output, categories))
            embeddings.append(output.embedding.astype(jnp.float32))
        mean, spread = _mean_and_spread(jnp.stack(attributes), self.weights)
        mean_probabilities, _ = _mean_and_spread(jnp.stack(probabilities), self.weights)
        return AveragedOutputs(mean, spread, mean_probabilities, jnp.concatenate(embeddings, axis=1))

    def batch_inputs(self, student: BatchInputs, corpus: str, split: str) -> BatchInputs:
        """Inputs of the student and of all members together, hidden states of members that read a store included.

        Args:
          student: inputs of the student.
          corpus: TFDS name of the corpus; members are applied to every corpus.
          split: split of the corpus.

        Raises:
          ConfigError: two models have different tokenizers, or the student takes other transcripts.
          CheckpointError: `transcripts` has none of that corpus, or a store does not fit.
        """
        tokenizer, stored = student.tokenizer, dict(student.stored)
        for number, member in enumerate(self.members):
            read = _read_modalities(member)
            stored |= stored_inputs(member.workdir, number, read, corpus, split, self.max_tokens)
            if "lexical" in member.online:
                folder = str(member.workdir / ENCODERS / "lexical")
                if tokenizer and not _same_tokenizer(tokenizer, folder):
                    raise ConfigError(
                        f"config.teacher.workdir: {member.workdir} has another tokenizer; use teacher.cache"
                    )
                tokenizer = tokenizer or folder
        waveform = any("log_mel" in member.config.model.modalities for member in self.members)
        audio = student.audio or waveform or any("acoustic" in member.online for member in self.members)
        transcripts = self._transcripts(student, corpus, split) if "lexical" in self.modalities else student.transcripts
        return dataclasses.replace(student, audio=audio, tokenizer=tokenizer, stored=stored, transcripts=transcripts)

    def _transcripts(self, student: BatchInputs, corpus: str, split: str) -> RecognisedTranscripts | None:
        found = find_transcripts(self.transcripts, corpus, split, "config.teacher.transcripts")
        if found is None:
            return student.transcripts
        lexical = student.tokenizer or student.transcripts or "lexical" in student.stored
        others = student.transcripts.store.directory if student.transcripts else None
        if lexical and (others is None or not others.samefile(found.store.directory)):
            raise ConfigError(
                f"config.teacher.transcripts must be those of the student ({others or 'the corpus own ones'}), "
                f"got {found.store.directory}; use teacher.cache"
            )
        return found


def load_ensemble(
    config: TeacherConfig, mesh: Mesh, splits: Sequence[TeacherSplit] = (), computed: tuple[str, ...] = ()
) -> Ensemble:
    """Restores the members from their workdirs.

    Args:
      config: workdirs, weights and dtype.
      mesh: parameters of encoders are divided over it, the others replicated.
      splits: splits that the ensemble is applied to: encoders whose hidden states are in the members' feature stores
        for all of them are not loaded (`emojax.teachers.stores`); (): every encoder is computed.
      computed: modalities whose encoder is computed in any case.

    Raises:
      CheckpointError: a workdir is absent or damaged.
      ConfigError: transcripts are given, and no model has a lexical modality.
    """
    folders = [Path(folder).expanduser() for folder in config.workdirs]
    splits = [_with_transcripts(split, config.transcripts) for split in splits]
    members = (
        restore_model(folder, mesh, find_stored(folder, splits, computed), dtype=config.dtype) for folder in folders
    )
    max_tokens = splits[0].max_tokens if splits else 0
    ensemble = Ensemble(tuple(members), normalised_weights(config), config.transcripts, max_tokens)
    if config.transcripts and "lexical" not in ensemble.modalities:
        raise ConfigError(
            f"config.teacher.transcripts must be '' for teachers without a lexical modality, got {config.transcripts!r}"
        )
    return ensemble


def _with_transcripts(split: TeacherSplit, transcripts: str) -> TeacherSplit:
    """Replaces the transcripts of a split by those of the teacher, if it has its own."""
    found = find_transcripts(transcripts, split.corpus, split.split, "config.teacher.transcripts")
    student = dataclasses.replace(split.student, transcripts=found or split.student.transcripts)
    return dataclasses.replace(split, student=student)


def _read_modalities(member: TrainedModel) -> list[str]:
    """Encoder modalities of a member whose hidden states are read from a store."""
    return [modality for modality in member.config.model.encoder_modalities if modality not in member.online]


def normalised_weights(config: TeacherConfig) -> tuple[float, ...]:
    """Weight of each of `config.workdirs`, sum 1; equal where none are given."""
    weights = config.weights or (1.0,) * len(config.workdirs)
    return tuple(weight / sum(weights) for weight in weights)


def select_categories(
    probabilities: Float[Array, "B K"], names: tuple[str, ...], wanted: tuple[str, ...]
) -> Float[Array, "B C"]:
    """Reorders probabilities to other categories, matched by name (`emojax.evaluation.categories`).

    Args:
      probabilities: probabilities of `names`; NaN rows stay NaN.
      names: K categories.
      wanted: C categories; those that are not in `names` get 0, or NaN where none is.
    """
    same = same_categories(wanted, names)
    if not same:
        return jnp.full((probabilities.shape[0], len(wanted)), jnp.nan)
    absent = jnp.where(jnp.isnan(probabilities[:, 0]), jnp.nan, 0.0)
    columns = [probabilities[:, names.index(same[name])] if name in same else absent for name in wanted]
    return jnp.stack(columns, axis=1)


def _trained_categories(member: TrainedModel) -> tuple[str, ...]:
    return member.metadata.info.categories if member.outputs.categories else ()


def _union(categories: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    united: list[str] = []
    for names in categories:
        same = same_categories(names, united)
        united += [name for name in names if name not in same]
    return tuple(united)


def _mean_and_spread(values: Float[Array, "M B D"], weights: tuple[float, ...]) -> tuple[Array, Array]:
    """Weighted mean and standard deviation over members, NaN skipped."""
    present = ~jnp.isnan(values)
    share = jnp.asarray(weights, jnp.float32)[:, None, None] * present
    total = share.sum(axis=0)
    safe = jnp.where(total > 0, total, 1.0)
    mean = (share * jnp.where(present, values, 0.0)).sum(axis=0) / safe
    variance = (share * jnp.square(jnp.where(present, values - mean, 0.0))).sum(axis=0) / safe
    return jnp.where(total > 0, mean, jnp.nan), jnp.where(total > 0, jnp.sqrt(variance), 0.0)


def _probabilities(member: TrainedModel, output: EmotionOutput, wanted: tuple[str, ...]) -> Float[Array, "B K"]:
    probabilities = jax.nn.softmax(output.emotion_logits.astype(jnp.float32))
    return select_categories(probabilities, _trained_categories(member), wanted)


def _same_tokenizer(folder: str, other: str) -> bool:
    return read_encoder_source(Path(folder)).fingerprint == read_encoder_source(Path(other)).fingerprint
