"""Plots: what they say, and that odd names or logs do not break them."""

import json

import numpy as np
import pytest

from emojax.errors import EmojaxError
from emojax.evaluation import summarise
from emojax.reporting import write_learning_curves
from emojax.reporting.learning_curves import draw_learning_curves, read_curves
from emojax.reporting.plots import draw_attributes, draw_confusion, png_bytes
from tests.evaluation_examples import corpus, predictions, write_workdir


def texts(figure):
    axes = [text for one in figure.axes for text in (one.get_title(), one.get_xlabel(), one.get_ylabel())]
    return [figure.get_suptitle(), *axes]


def test_the_plot_of_attributes_names_corpus_scale_and_ccc():
    given = predictions(info=corpus(speech="synthesised"))
    summary = summarise(given, None, num_resamples=20)
    figure = draw_attributes(given, summary)
    said = texts(figure)
    assert said[0] == "toy/default/1.0.0, split test, synthetic speech"
    for axes, attribute in zip(figure.axes, ("activation", "valence", "dominance"), strict=True):
        assert f"CCC {summary['ccc'][attribute]['value']:.2f}" in axes.get_title()
        assert axes.get_xlabel() == f"rated {attribute} (corpus scale 1 to 7)"
        assert axes.get_xlim() == axes.get_ylim()
    assert "synthetic" not in draw_attributes(predictions(), summarise(predictions(), None, 20)).get_suptitle()


def test_each_panel_shows_the_attribute_of_its_title():
    given = predictions()
    figure = draw_attributes(given, summarise(given, None, num_resamples=20))
    for column, axes in enumerate(figure.axes):
        labelled = ~np.isnan(given.attribute_labels[:, column])
        points = np.stack([given.attribute_labels[labelled, column], given.attributes[labelled, column]], axis=1)
        np.testing.assert_allclose(axes.collections[0].get_offsets(), points)


def test_many_utterances_are_drawn_as_density_with_none_lost():
    given = predictions(n=2500, emotions=False)
    figure = draw_attributes(given, summarise(given, None, num_resamples=20))
    cells = figure.axes[0].collections[0].get_array()
    assert cells.sum() == 2500


def test_the_confusion_matrix_shows_every_count():
    summary = summarise(predictions(), None, num_resamples=20)
    shown = [int(text.get_text()) for text in draw_confusion(summary).axes[0].texts]
    assert shown == np.ravel(summary["confusion"]).tolist()


def test_there_is_no_plot_of_a_task_that_was_not_evaluated():
    neither = predictions(attributes=False, emotions=False)
    summary = summarise(neither, None, num_resamples=20)
    assert draw_attributes(neither, summary) is None
    assert draw_confusion(summary) is None


def test_constant_labels_and_predictions_and_odd_names_can_be_drawn():
    info = corpus(name="$x^{$/1.0.0", categories=("a$b", "$\\frac$", "c"))
    given = predictions(n=2, info=info)
    given.attributes[:], given.attribute_labels[:] = 4.0, 4.0
    given.attribute_labels[0] = 5.0
    summary = summarise(given, None, num_resamples=20)
    for figure in (draw_attributes(given, summary), draw_confusion(summary)):
        assert png_bytes(figure).startswith(b"\x89PNG")


def test_learning_curves_read_every_number_and_skip_what_is_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1, "epoch": 1, "train/loss": 0.5, "note": "x", "flag": true}', "[1]", '{"train/loss": 3}']
    lines += ['{"step": 2, "train/loss": NaN, "validation/uar": 0.25}', '{"step": 3, "train/lo']
    path.write_text("\n".join(lines))
    assert read_curves(path) == {"train/loss": ([1], [0.5]), "validation/uar": ([2], [0.25])}


def test_learning_curves_have_losses_and_validation_in_panels_and_leave_out_counts(tmp_path):
    names = ("train/loss", "train/loss/ccc_valence", "train/labels/valence", "seconds/total", "validation/ccc_valence")
    names += ("validation/loss",)  # of pre-training
    curves = {name: ([1, 2], [0.1, number]) for number, name in enumerate(names)}
    figure = draw_learning_curves(curves, "run", best_step=2)
    assert [axes.get_title() for axes in figure.axes] == ["training loss", "validation", "validation loss"]
    assert len(figure.axes[0].lines) == 3  # two losses and the best step
    assert draw_learning_curves({}, "run") is None


def test_equal_curves_share_a_label_and_losses_without_labels_are_left_out():
    curves = {"train/loss": ([1, 2], [2.0, 1.0]), "train/loss/emotion": ([1, 2], [2.0, 1.0])}
    curves["train/loss/ccc_valence"] = ([1, 2], [0.0, 0.0])
    lines = draw_learning_curves(curves, "run").axes[0].lines
    assert [line.get_label() for line in lines] == ["total = emotion"]


def test_learning_curves_of_a_workdir_are_written_beside_its_metrics(tmp_path):
    workdir = write_workdir(tmp_path / "run", evaluated=False, logged=True)
    info = {"name": "toy/default/1.0.0", "speech": "synthesised"}
    (workdir / "corpus.json").write_text(json.dumps({"info": info}))
    assert write_learning_curves(workdir) == workdir / "learning_curves.png"
    assert (workdir / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    (workdir / "metrics.jsonl").unlink()
    with pytest.raises(EmojaxError, match=r"metrics\.jsonl: cannot be read"):
        write_learning_curves(workdir)
