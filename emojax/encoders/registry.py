"""Which encoder families exist, and which one a `config.json` asks for."""

from collections.abc import Mapping
from typing import Any

from emojax.encoders.family import Family
from emojax.encoders.speech_encoder import SPEECH_FAMILIES
from emojax.encoders.text_tensors import TEXT_FAMILIES
from emojax.errors import CheckpointError
from emojax.schema import parse

FAMILIES: Mapping[str, Family] = {**SPEECH_FAMILIES, **TEXT_FAMILIES}
"""`model_type` -> family."""


def family_of(config: Mapping[str, Any], place: str = "config.json") -> Family:
    """The family of a checkpoint, after checking that its configuration asks for nothing we do not compute.

    Args:
      config: content of `config.json`.
      place: what to call it in errors: its path, where it has one.

    Raises:
      CheckpointError: `model_type` is unknown, or a key has a value that is not supported.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise CheckpointError(
            f"{place}: model_type must be one of {', '.join(sorted(FAMILIES))}, got {str(model_type)[:100]!r}"
        )
    family = FAMILIES[model_type]
    parse(family.settings, config, place, error=CheckpointError, unknown="ignore", missing="default")
    return family
