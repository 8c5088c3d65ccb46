"""Validation of configs: one-line errors for invalid keys, types and values; migration."""

import copy
import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from configs import default
from emojax.__main__ import config_reference
from emojax.config import ExperimentConfig, configuration, load_saved_config, migrate, parse_experiment, saved_tree
from emojax.config.migrate import _LATER_FIELDS
from emojax.config.reference import fields
from emojax.errors import CheckpointError, ConfigError
from emojax.schema import Ge, Lt, parse, read_settings, settings, to_tree


@settings
class Inner:
    size: Annotated[int, Ge(1), Lt(100), "Number of things."]
    mode: Literal["a", "b"]

    def __post_init__(self):
        if self.mode == "b" and self.size == 2:
            raise ConfigError("size: 2 is not possible with mode 'b'")


@settings
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


def test_parse_and_to_tree_round_trip():
    config = parse(Outer, GOOD)
    assert config == Outer(1.0, ("x", "y"), (0.5, 1.0), True, None, Inner(3, "a"))
    assert isinstance(config.rate, float)
    assert parse(Outer, to_tree(config)) == config


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (GOOD | {"rat": 2}, "config.rat: no such field; did you mean 'rate'? allowed: rate, names, pair, on, note"),
        ({k: v for k, v in GOOD.items() if k != "on"}, "config.on is missing"),
        (GOOD | {"rate": "fast"}, "config.rate must be a number, got 'fast'"),
        (GOOD | {"rate": True}, "config.rate must be a number, got True"),
        (GOOD | {"on": 1}, "config.on must be True or False, got 1"),
        (GOOD | {"names": "xy"}, "config.names must be a list, each text, got 'xy'"),
        (GOOD | {"pair": [1]}, "config.pair must have 2 values, got 1"),
        (GOOD | {"note": 3}, "config.note must be text, got 3"),
        (GOOD | {"inner": 3}, "config.inner must be a group of fields, got 3"),
        (with_inner(size=2.0), "config.inner.size must be an integer, got 2.0"),
        (with_inner(size=True), "config.inner.size must be an integer, got True"),
        (with_inner(mode="c"), "config.inner.mode must be 'a' or 'b', got 'c'"),
        (GOOD | {"rate": math.nan}, "config.rate must be a finite number, got nan"),
        (GOOD | {"rate": 10**400}, "config.rate must be a finite number, got 1000"),
        (with_inner(size=2, mode="b"), "config.inner.size: 2 is not possible with mode 'b'"),
        (with_inner(size=0), "config.inner.size must be >= 1 and < 100, got 0"),
        (with_inner(sise=1), "config.inner.sise: no such field; did you mean 'size'?"),
    ],
)
def test_invalid_tree_raises_one_line_error(tree, message):
    with pytest.raises(ConfigError) as caught:
        parse(Outer, tree)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


LATER = {path: value for fields in _LATER_FIELDS for path, value in fields.items()}


def group_of(tree, path):
    *groups, name = path.split(".")
    for group in groups:
        tree = tree[group]
    return tree, name


@hypothesis_settings(max_examples=30, deadline=None)
@given(absent=st.sets(st.sampled_from(sorted(LATER))))
def test_migrated_config_keeps_earlier_behaviour(absent):
    config = parse_experiment(default.get_config().to_dict())
    old = saved_tree(config)
    wanted = copy.deepcopy(old)
    del old["version"], wanted["version"]
    for path in absent:
        group, name = group_of(old, path)
        del group[name]
        group, name = group_of(wanted, path)
        group[name] = LATER[path]
    assert load_saved_config(old) == parse_experiment(wanted)
    assert migrate(saved_tree(config)) == to_tree(config)


def test_runs_that_differ_in_seed_place_and_recomputation_have_one_configuration():
    def found(seed, folder, remat, rate):
        acoustic = {
            "checkpoint": f"{folder}/hubert",
            "remat": remat,
            "remat_saves": "nothing" if remat else "attention",
        }
        return configuration({"seed": seed, "model": {"acoustic": acoustic}, "optimizer": {"learning_rate": rate}})

    assert found(0, "a", True, 1e-3) == found(1, "b", False, 1e-3) != found(0, "a", True, 1e-4)


def test_migrate_creates_missing_groups():
    tree = saved_tree(parse_experiment(default.get_config().to_dict()))
    del tree["version"], tree["mesh"]
    with pytest.raises(ConfigError, match=r"config\.mesh\.data is missing"):
        load_saved_config(tree)
    assert migrate(tree)["mesh"] == {"tensor": 1, "dcn": 1}
    assert "mesh" not in migrate({"seed": 0}, Inner)


def test_saved_config_with_missing_field_or_later_version_raises():
    tree = saved_tree(parse_experiment(default.get_config().to_dict()))
    with pytest.raises(ConfigError, match=r"version must be <= \d+, got 99"):
        load_saved_config(tree | {"version": 99})
    with pytest.raises(ConfigError, match=r"version must be an integer"):
        load_saved_config(tree | {"version": "1"})
    del tree["training"]["epochs"]
    with pytest.raises(ConfigError, match=r"config\.training\.epochs is missing"):
        load_saved_config(tree)


def test_settings_constructed_in_python_are_validated():
    with pytest.raises(ConfigError, match=r"Inner\.size must be >= 1 and < 100, got 100"):
        Inner(100, "a")
    assert Outer(1, ["x"], (0.5, 1), True, None, Inner(1, "a")) == parse(
        Outer, GOOD | {"names": ["x"], "inner": {"size": 1, "mode": "a"}}
    )


def test_read_settings_raises_the_given_error_class(tmp_path):
    path = tmp_path / "inner.json"
    path.write_text('{"size": -3, "mode": "a"}')
    with pytest.raises(CheckpointError, match=rf"{path}\.size must be >= 1 and < 100, got -3"):
        read_settings(Inner, path, error=CheckpointError)
    path.write_text('{"size": 3, "mode": "a", "later": 1}')
    assert read_settings(Inner, path, error=CheckpointError, unknown="ignore") == Inner(3, "a")
    with pytest.raises(CheckpointError, match=r"later: no such field"):
        read_settings(Inner, path, error=CheckpointError)
    with pytest.raises(CheckpointError, match=r"mode is missing"):
        parse(Inner, {"size": 3}, "x", error=CheckpointError, missing="default")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b"{", "is not valid JSON"),
        (b'{"a": "\xff"}', "cannot be read"),
        (b"[1]", "must be a group of fields, got"),
        (b"1" * 5000, "is not valid JSON"),
    ],
    ids=["deep", "cut", "bytes", "list", "digits"],
)
def test_invalid_json_raises_one_line_error(tmp_path, content, message):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_settings(Inner, path, error=CheckpointError)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_config_reference_is_current():
    written = (Path(__file__).parents[1] / "docs" / "config.md").read_text()
    assert written == config_reference(), "run: python -m emojax config > docs/config.md"
    undocumented = [field.path for field in fields(ExperimentConfig) if not field.meaning]
    assert undocumented == []
