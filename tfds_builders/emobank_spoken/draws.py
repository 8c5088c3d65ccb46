"""Random numbers that depend on nothing but their names: no generator whose stream a release could change."""

import hashlib
import statistics


def uniform(seed: int, *names: str) -> float:
    """A number in (0, 1)."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def normal(seed: int, *names: str) -> float:
    """A number of the standard normal distribution."""
    return statistics.NormalDist().inv_cdf(uniform(seed, *names))
