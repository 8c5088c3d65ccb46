"""emojax: activation, valence, dominance and emotion categories from speech, in JAX/Flax.

`emojax.load(WORKDIR).predict("clip.wav")` predicts with a trained model; `emojax.Stream(model)` runs it on a stream.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from emojax.inference import Prediction as Prediction
    from emojax.inference import Predictor as Predictor
    from emojax.inference import Stream as Stream
    from emojax.inference import load as load

_PUBLIC = dict.fromkeys(("load", "Prediction", "Predictor", "Stream"), "emojax.inference")


def __getattr__(name: str) -> Any:
    """Imports public names when they are first used, so that importing one part does not import all."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'emojax' has no attribute {name!r}")
