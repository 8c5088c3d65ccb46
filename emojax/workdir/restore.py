"""Brings a trained model back from its workdir alone."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from emojax.config import ExperimentConfig, parse_experiment
from emojax.errors import CheckpointError, ConfigError
from emojax.models import EmotionModel
from emojax.parallel import replicated
from emojax.types import NUM_ATTRIBUTES, SAMPLE_RATE, Batch
from emojax.workdir.checkpoints import Checkpoints, abstract_like
from emojax.workdir.corpus_facts import CorpusFacts, TrainedOutputs, read_corpus_facts, trained_outputs
from emojax.workdir.files import CHECKPOINTS, CONFIG, read_json


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model and what is needed to use it.

    Attributes:
      config: the run's whole config.
      facts: the training corpus.
      model: Linen module.
      variables: for `model.apply`, on the mesh's devices.
      step: of the checkpoint it comes from.
    """

    config: ExperimentConfig
    facts: CorpusFacts
    model: EmotionModel
    variables: dict[str, Any]
    step: int

    @property
    def outputs(self) -> TrainedOutputs:
        """Which outputs mean something."""
        return trained_outputs(self.config.objective, self.facts)


def restore_model(workdir: Path, mesh: Mesh) -> TrainedModel:
    """Restores the best checkpoint of a workdir (the latest if none was evaluated), whole on every device.

    Raises:
      CheckpointError: the folder is no workdir, has no checkpoint, or is damaged.
    """
    tree = read_json(workdir / CONFIG)
    try:
        config = parse_experiment(tree)
    except ConfigError as error:
        raise CheckpointError(f"{workdir / CONFIG}: {error}") from error
    facts = read_corpus_facts(workdir)
    model = EmotionModel(config.model, num_categories=len(facts.info.categories))
    if not (workdir / CHECKPOINTS).is_dir():
        raise CheckpointError(f"{workdir}: has no checkpoint yet; train it first")
    with Checkpoints(workdir / CHECKPOINTS, writing=False) as checkpoints:
        step = checkpoints.best_step if checkpoints.best_step is not None else checkpoints.latest_step
        if step is None:
            raise CheckpointError(f"{workdir}: has no checkpoint yet; train it first")
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), example_batch(config, model), train=False))
        abstract = {"params": shapes["params"], "statistics": shapes.get("statistics", {})}
        variables = checkpoints.restore(step, {"model": abstract_like(abstract, replicated(mesh))})["model"]
    return TrainedModel(config, facts, model, variables, step)


def example_batch(config: ExperimentConfig, model: EmotionModel) -> Batch:
    """A batch of one silent second, to initialise a model with."""
    tokens = config.data.max_tokens if config.data.tokenizer else 0
    return Batch(
        waveform=jnp.zeros((1, SAMPLE_RATE), jnp.int16),
        num_samples=jnp.full(1, SAMPLE_RATE, jnp.int32),
        tokens=jnp.zeros((1, tokens), jnp.int32),
        num_tokens=jnp.full(1, tokens, jnp.int32),
        attributes=jnp.zeros((1, NUM_ATTRIBUTES), jnp.float32),
        emotion=jnp.zeros(1, jnp.int32),
        emotion_votes=jnp.zeros((1, model.num_categories), jnp.float32),
        weight=jnp.ones(1, jnp.float32),
        index=jnp.zeros(1, jnp.int32),
    )
