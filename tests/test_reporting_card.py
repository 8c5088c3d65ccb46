"""Model card of a workdir: metadata of the Hub, scores, and edited cards that stay."""

import dataclasses

import numpy as np
import pytest
import yaml

from configs import default, finetune_hubert
from emojax.config import parse_experiment
from emojax.errors import CheckpointError
from emojax.reporting import evaluation_directory
from emojax.reporting.card import CARD, write_card
from emojax.reporting.results import read_run
from emojax.workdir import CorpusMetadata, TrainedModel, unknown_labels
from tests.evaluation_examples import corpus, write_scores, write_workdir


def trained_model(workdir, info=None, config=None, metadata=None):
    config = config or default.get_config()
    config.objective.emotion_weight = 0.5
    info = info or corpus()
    return TrainedModel(
        workdir=workdir,
        config=parse_experiment(config.to_dict()),
        metadata=metadata or CorpusMetadata(info, np.full((200, 3), 4.0), np.zeros(5, np.int64)),
        model=None,
        variables={"params": {"kernel": np.zeros((123, 10)), "bias": np.zeros(10)}},
        step=70,
        online=("acoustic",),
    )


def parts_of(path):
    """Front matter and body of a card."""
    _, front, body = path.read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_has_licence_tags_and_the_scores_of_every_split(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    write_scores(evaluation_directory(workdir, "other/2.0.0"), info=corpus("other/2.0.0"), split="test2", seed=5)
    front, _ = parts_of(write_card(trained_model(workdir)))
    assert (front["license"], front["library_name"]) == ("cc0-1.0", "emojax")
    assert {"speech-emotion-recognition", "valence"} <= set(front["tags"])
    assert front["metrics"] == ["ccc", "recall", "f1"]
    (model,) = front["model-index"]
    results = read_run(workdir).results
    for found, expected in zip(model["results"], results, strict=True):
        assert found["dataset"] == {"name": expected.corpus, "type": expected.corpus, "split": expected.split}
        named = {metric["name"]: metric["value"] for metric in found["metrics"]}
        assert named["CCC valence"] == pytest.approx(expected.scores["ccc_valence"].value, abs=1e-4)
        assert named["UAR"] == pytest.approx(expected.scores["uar"].value, abs=1e-4)


def test_the_text_has_inputs_scale_order_size_data_scores_with_intervals_and_limits(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    _, body = parts_of(write_card(trained_model(workdir)))
    for expected in (
        "log-mel filterbank energies",
        "activation, valence, dominance, on the scale 1 to 7",
        "Categories, in this order: anger, neutral, sadness",
        "1,240 parameters; checkpoint of step 70",
        "toy/default/1.0.0; recorded speech; attributes are ratings by people",
        "95 % bootstrap over 6 speakers",
        "baseline: mean or majority",
        "Some splits have few speakers (6)",
        'emojax.load("PATH/TO/THIS/FOLDER")',
    ):
        assert expected in body
    score = read_run(workdir).results[0].scores["ccc_activation"]
    row = next(line for line in body.splitlines() if line.startswith("| this model"))
    assert f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]".replace("0.", ".") in row


def test_synthetic_speech_derived_labels_and_other_licences_are_stated(tmp_path):
    info = dataclasses.replace(
        corpus(speech="synthesised", attribute_source="derived"), licence="Licence of X; not to be passed on"
    )
    front, body = parts_of(write_card(trained_model(write_workdir(tmp_path / "run", info=info), info)))
    assert (front["license"], front["license_name"]) == ("other", "Licence of X; not to be passed on")
    assert "synthetic speech; attributes are derived from other data" in body
    assert "no evidence about natural speech" in body


def test_an_imported_model_states_its_encoder_and_that_its_labels_are_unknown(tmp_path):
    config = finetune_hubert.get_config()
    workdir = write_workdir(tmp_path / "run", evaluated=False)
    front, body = parts_of(write_card(trained_model(workdir, config=config, metadata=unknown_labels(corpus()))))
    assert "model-index" not in front
    assert f"hidden states of the speech encoder `{config.model.acoustic.checkpoint}`" in body
    assert "published elsewhere and converted" in body
    assert "Not evaluated." in body


def test_a_later_evaluation_updates_the_card_unless_it_was_edited(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    card = write_card(trained_model(workdir))
    before = card.read_text()
    write_scores(workdir / "evaluation", split="dev", seed=3)
    assert write_card(trained_model(workdir)) == card
    assert card.read_text() != before
    assert "split dev" in card.read_text()
    edited = card.read_text().replace("## Limits", "## Limits and remarks")
    for text in (edited, "# My model\n", edited + "A remark.\n", ""):
        card.write_text(text)
        assert write_card(trained_model(workdir)) is None
        assert card.read_text() == text


def test_names_from_files_of_others_become_no_markup(tmp_path):
    info = corpus('evil/<script>alert(1)</script>"\n---\n| [x](javascript:y) `')
    workdir = write_workdir(tmp_path / "run", info=info)
    front, body = parts_of(write_card(trained_model(workdir, info)))
    assert "evil/<script>" in front["model-index"][0]["results"][0]["dataset"]["name"]
    assert "<script>" not in body.replace("\\<", "")
    assert "\n---\n" not in body
    assert "[x](" not in body


def test_a_card_is_not_written_through_a_link(tmp_path):
    workdir = write_workdir(tmp_path / "run")
    (tmp_path / "outside").write_text("")
    (workdir / CARD).symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="must be inside the workdir"):
        write_card(trained_model(workdir))
