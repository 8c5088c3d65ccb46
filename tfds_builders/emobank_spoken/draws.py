"""Random numbers derived by hashing from seed and names, independent of order and library versions."""

import hashlib
import statistics


def uniform(seed: int, *names: str) -> float:
    """Returns a uniform random number in (0, 1)."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def normal(seed: int, *names: str) -> float:
    """Returns a standard normal random number."""
    return statistics.NormalDist().inv_cdf(uniform(seed, *names))
