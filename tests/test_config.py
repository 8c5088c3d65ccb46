"""A wrong key, type or value stops before any work, with one line saying what and what is allowed."""

import copy
import dataclasses
from typing import Literal

import pytest

from configs import default
from emojax.config import parse_experiment, parse_kept
from emojax.config.parse import parse, to_tree
from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int
    mode: Literal["a", "b"]

    def __post_init__(self):
        if self.size < 1:
            raise ConfigError(f"inner.size: {self.size} is not allowed; allowed: an integer >= 1")


@dataclasses.dataclass(frozen=True)
class Outer:
    rate: float
    names: tuple[str, ...]
    pair: tuple[float, float]
    on: bool
    note: str | None
    inner: Inner


GOOD = {
    "rate": 1,
    "names": ["x", "y"],
    "pair": [0.5, 1],
    "on": True,
    "note": None,
    "inner": {"size": 3, "mode": "a"},
}


def with_inner(**changes):
    return GOOD | {"inner": GOOD["inner"] | changes}


def test_a_good_tree_becomes_typed_values_and_comes_back():
    config = parse(Outer, GOOD)
    assert config == Outer(1.0, ("x", "y"), (0.5, 1.0), True, None, Inner(3, "a"))
    assert isinstance(config.rate, float)
    assert parse(Outer, to_tree(config)) == config


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (GOOD | {"rat": 2}, "config.rat: no such setting; did you mean 'rate'? allowed: rate, names, pair, on, note"),
        ({k: v for k, v in GOOD.items() if k != "on"}, "config.on: missing"),
        (GOOD | {"rate": "fast"}, "config.rate: 'fast' has the wrong type; allowed: a number"),
        (GOOD | {"rate": True}, "config.rate: True has the wrong type"),
        (GOOD | {"on": 1}, "config.on: 1 has the wrong type; allowed: True or False"),
        (GOOD | {"names": "xy"}, "config.names: 'xy' has the wrong type; allowed: a list, each a text"),
        (GOOD | {"pair": [1]}, "config.pair: 1 values given; allowed: exactly 2"),
        (GOOD | {"note": 3}, "config.note: 3 has the wrong type; allowed: a text"),
        (GOOD | {"inner": 3}, "config.inner: expected a group of settings, found 3"),
        (with_inner(size=2.0), "config.inner.size: 2.0 has the wrong type; allowed: an integer"),
        (with_inner(size=True), "config.inner.size: True has the wrong type"),
        (with_inner(mode="c"), "config.inner.mode: 'c' is not allowed; allowed: 'a', 'b'"),
        (with_inner(size=0), "config.inner.size: 0 is not allowed; allowed: an integer >= 1"),
        (with_inner(sise=1), "config.inner.sise: no such setting; did you mean 'size'?"),
    ],
)
def test_a_bad_tree_is_told_in_one_line(tree, message):
    with pytest.raises(ConfigError) as caught:
        parse(Outer, tree)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_workdir_made_before_some_fields_existed_means_what_it_did():
    whole = default.get_config().to_dict()
    old = copy.deepcopy(whole)
    del old["mesh"]["tensor"], old["training"]["profile_steps"], old["training"]["checkpoint_dir"]
    assert parse_kept(old) == parse_experiment(whole)
    with pytest.raises(ConfigError, match=r"missing; every setting must be given"):
        parse_experiment(old)
    del old["training"]["epochs"]
    with pytest.raises(ConfigError, match=r"config.training.epochs: missing"):
        parse_kept(old)
