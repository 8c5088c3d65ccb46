"""Division that says NaN where a measure is not defined, without warnings."""

from typing import Any

import numpy as np


def ratio_or_nan(numerator: Any, denominator: Any, defined: Any = True) -> Any:
    """numerator / denominator in float64; NaN where the denominator is 0 or `defined` is false."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    where = np.asarray(defined) & (denominator != 0)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=where)
