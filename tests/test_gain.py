"""`python -m emojax gain`: two systems from their workdirs."""

import json

import numpy as np
import pytest

from emojax.__main__ import main
from emojax.evaluation import summarise
from tests.evaluation_examples import predictions, train_labels, write_workdir


def evaluated(path, seed, noise, **arguments):
    """A workdir with predictions of its own on the same utterances."""
    made = predictions(**arguments)
    random = np.random.default_rng(seed)
    made.attributes[:] = made.attributes + random.normal(0, noise, made.attributes.shape)
    folder = write_workdir(path, seed=seed, evaluated=False) / "evaluation"
    folder.mkdir()
    made.write_csv(folder / "test.csv")
    (folder / "test.json").write_text(json.dumps(summarise(made, train_labels(), num_resamples=20)))
    return str(path)


def test_gain_of_seeds_over_seeds_is_printed_as_a_table_and_as_json(tmp_path, capsys):
    weak = [evaluated(tmp_path / f"weak_seed{seed}", seed, 1.0) for seed in (0, 1)]
    strong = [evaluated(tmp_path / f"strong_seed{seed}", seed, 0.1) for seed in (2, 3)]
    assert main(["gain", *strong, "--over", *weak, "--resamples", "100"]) == 0
    text = capsys.readouterr().out
    assert "60 utterances; 95 % over 6 speakers, paired" in text
    assert "activation" in text
    assert main(["gain", *strong, "--over", *weak, "--json"]) == 0
    gain = json.loads(capsys.readouterr().out)["ccc"]["activation"]
    assert gain["low"] > 0
    assert gain["after"] - gain["before"] == pytest.approx(gain["gain"])


def test_systems_that_cannot_be_compared_are_an_error_of_one_line(tmp_path, capsys):
    one = evaluated(tmp_path / "one", 0, 0.1)
    other = evaluated(tmp_path / "other", 0, 0.1, n=50)
    assert main(["gain", one, "--over", other]) == 1
    assert "was evaluated on other utterances than" in capsys.readouterr().err
    assert main(["gain", one, "--over", one, "--split", "dev"]) == 1
    assert "was not evaluated on 'dev'" in capsys.readouterr().err
    categories = evaluated(tmp_path / "categories", 0, 0.1, attributes=False)
    assert main(["gain", categories, "--over", categories]) == 1
    assert "predicts no attribute" in capsys.readouterr().err
    assert main(["gain", one, "--over", one, "--resamples", "0"]) == 1
    assert "--resamples must be >= 1, got 0" in capsys.readouterr().err


def test_undefined_gains_are_null_in_json(tmp_path, capsys):
    made = predictions()
    made.attributes[:, 2] = np.nan  # trained on the others alone
    folder = write_workdir(tmp_path / "two", evaluated=False) / "evaluation"
    folder.mkdir()
    made.write_csv(folder / "test.csv")
    (folder / "test.json").write_text(json.dumps(summarise(made, train_labels(), num_resamples=20)))
    assert main(["gain", str(tmp_path / "two"), "--over", str(tmp_path / "two"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["ccc"]
    assert found["dominance"]["gain"] is None
    assert found["activation"]["gain"] == 0
