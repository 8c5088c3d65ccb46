"""Length of training by the number of training utterances, for configs whose epochs are 0."""

import dataclasses
import math

from emojax.config import ExperimentConfig

NUM_STEPS = 300
"""Steps that a small corpus is trained for, from heads that start at a regression."""

MIN_EPOCHS, MAX_EPOCHS = 3, 80

NUM_VALIDATIONS = 20


def fill_epochs(config: ExperimentConfig, num_utterances: int) -> ExperimentConfig:
    """Fills in `training.epochs` and `training.evaluate_every_epochs` where they are 0.

    Epochs are those of 300 steps, at least 3 and at most 80: at a batch size of 32, 43 for 200 utterances, 19 for 500,
    5 for 2,000 and 3 for more than 3,200. There are at most 20 validations.

    Args:
      config: config of a run.
      num_utterances: utterances of the training split.
    """
    training = config.training
    if not training.epochs:
        per_epoch = math.ceil(num_utterances / config.data.batch_size)
        epochs = min(max(math.ceil(NUM_STEPS / per_epoch), MIN_EPOCHS), MAX_EPOCHS)
        training = dataclasses.replace(training, epochs=epochs)
    if not training.evaluate_every_epochs:
        training = dataclasses.replace(training, evaluate_every_epochs=math.ceil(training.epochs / NUM_VALIDATIONS))
    return dataclasses.replace(config, training=training)
