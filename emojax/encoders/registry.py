"""Which encoder families exist, and which one a `config.json` asks for."""

from collections.abc import Mapping
from typing import Any

from emojax.encoders.family import Family
from emojax.encoders.speech_encoder import SPEECH_FAMILIES
from emojax.encoders.text_tensors import TEXT_FAMILIES
from emojax.errors import CheckpointError

FAMILIES: Mapping[str, Family] = {**SPEECH_FAMILIES, **TEXT_FAMILIES}
"""`model_type` -> family."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint, after checking that its configuration asks for nothing we do not compute.

    Raises:
      CheckpointError: `model_type` is unknown or a key has a value that is not supported.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            f"config.json: model_type: {model_type!r} is not supported; allowed: {', '.join(sorted(FAMILIES))}"
        )
    family = FAMILIES[model_type]
    for key, allowed in family.supported.items():
        if key in config and config[key] not in allowed:
            listed = ", ".join(repr(value) for value in allowed)
            raise CheckpointError(f"config.json: {key}: {config[key]!r} is not supported; allowed: {listed}")
    return family
