"""Config files: they train and evaluate on a miniature corpus with miniature encoders."""

import functools
import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from emojax.audio import load_sounds
from emojax.config import parse_experiment
from emojax.evaluation import PredictStep
from emojax.extraction import parse_extraction
from emojax.parallel import make_mesh
from emojax.pretraining import parse_pretraining
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.training.data import open_data, student_inputs, teacher_splits, training_stream
from emojax.training.experiment import build_experiment
from emojax.training.labels import check_labels
from emojax.training.optimizer import make_optimizer
from emojax.workdir import keep_encoders
from tests import speech_checkpoints, text_checkpoints

CONFIGS = Path(__file__).parents[1] / "configs"
NO_SYSTEMS = ("default", "extract", "extract_teacher", "published", "published_text")
NO_SYSTEMS += ("pretrain_hubert", "pretrain_hubert_tiny", "transcribe", "annotate", "model_tests", "robustness")
SYSTEMS = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem not in NO_SYSTEMS)
SYSTEMS += ["demo:lexical", "demo:acoustic", "demo:fusion", "raters_emobank:acoustic,both"]
SPEECH = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}
TEXT = {"roberta": "RobertaModel", "bert": "BertModel", "minilm": "BertModel"}


def kind_of(checkpoint):
    """Kind of the miniature in place of a published checkpoint."""
    name = checkpoint.lower()
    return next((kind for kind in (*SPEECH, *TEXT) if kind in name), "hubert")  # also for a package


def miniature_config(system, data_dirs, checkpoint):
    """Config of a system with the fewest and smallest layers on a miniature corpus.

    Args:
      system: name of a module of `configs`, with `:ROW` for an argument.
      data_dirs: `data_dir` of each miniature corpus by its name.
      checkpoint: folder of the miniature of a kind of checkpoint.
    """
    module, _, row = system.partition(":")
    config = importlib.import_module(f"configs.{module}").get_config(*filter(None, [row]))
    corpus = "mini_corpus"
    if config.model.get("rating_bins"):
        corpus, config.model.rating_bins = "rated_corpus", 7
    config.corpus.update({"name": corpus, "data_dir": str(data_dirs[corpus])})
    config.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": 8})
    for modality in config.model.modalities:
        settings = config.model[modality]
        settings.network.update({"gru_size": 4, "embedding_size": min(settings.network.embedding_size, 4)})
        settings.network.conv_channels = min(settings.network.conv_channels, 4)
        settings.network.gru_layers = min(settings.network.gru_layers, 1)  # one of each layer: it is the compilation
        settings.network.block_dilations = settings.network.block_dilations[:2]
        if modality != "log_mel":
            settings.checkpoint = checkpoint(kind_of(settings.checkpoint))
            settings.layers, settings.keep_layers = settings.layers[:2], min(settings.keep_layers, 1)
            settings.store, settings.make_store = "", False
    config.model.fusion.update({"size": 4, "attention_heads": 2})
    config.training.update({"epochs": 1, "evaluate_every_epochs": 1})
    config.evaluation.bootstrap_resamples = 10
    return config


def choices(system):
    """Settings of a system that select code: name and value; of a number that is no size, whether it is 0."""

    def flat(branch, path):
        for name, value in branch.items():
            if isinstance(value, dict):
                yield from flat(value, f"{path}{name}.")
            else:
                yield f"{path}{name}", repr(bool(value) if isinstance(value, float) else value)

    tree = miniature_config(system, {"mini_corpus": "", "rated_corpus": ""}, str).to_dict()
    used = tree["model"]["modalities"]
    for name in {"log_mel", "acoustic", "lexical"}.difference(used):
        del tree["model"][name]
    if len(used) == 1:
        del tree["model"]["fusion"]
    del tree["seed"], tree["optimizer"]["warmup_steps"], tree["training"]["patience"]
    return frozenset(flat(tree, ""))


def covering(systems):
    """Systems that together have every choice of all: each adds the most to those before it."""
    found, missing = [], {system: set(choices(system)) for system in systems}
    while any(missing.values()):
        best = max(systems, key=lambda system: len(missing[system]))
        found.append(best)
        added = set(missing[best])
        for each in missing.values():
            each -= added
    return found


TRAINED = covering(SYSTEMS)
"""Systems that are trained. The step of the others, whose choices these have too, is traced."""


@pytest.fixture(scope="module")
def miniature(tmp_path_factory, mini_data_dir, rated_data_dir):
    """Makes a whole config of a system, with folders of miniature corpora and checkpoints."""

    @functools.cache
    def folder(kind):
        made = tmp_path_factory.mktemp(kind)
        if kind in SPEECH:
            settings = speech_checkpoints.LARGE | speech_checkpoints.FRAMES_OF_20_MS
            model = speech_checkpoints.make_model(SPEECH[kind], num_hidden_layers=1, **settings)
            speech_checkpoints.write_checkpoint(made, model, normalize=True)
        else:
            text_checkpoints.write_checkpoint(made, text_checkpoints.make_model(TEXT[kind], num_hidden_layers=1))
        return str(made)

    data_dirs = {"mini_corpus": mini_data_dir, "rated_corpus": rated_data_dir}
    return lambda system: parse_experiment(miniature_config(system, data_dirs, folder).to_dict())


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("system", TRAINED)
def test_config_trains_and_evaluates(system, miniature, tmp_path):
    config = miniature(system)
    train_workdir(config, tmp_path / "run")
    summary = evaluate_workdir(tmp_path / "run")["test"]
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([value for line in logged for name, value in line.items() if name.endswith("loss")]).all()
    wanted = {"ccc": sum(config.objective.attribute_weights) > 0, "uar": config.objective.emotion_weight > 0}
    assert {name for name, flag in wanted.items() if flag} <= set(summary)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("system", [system for system in SYSTEMS if system not in TRAINED])
def test_config_has_a_step_that_keeps_shapes(system, miniature, tmp_path):
    data = open_data(miniature(system))
    config = data.config
    check_labels(config, data.corpus, data.training, data.validation)
    keep_encoders(tmp_path, config.model)
    student = student_inputs(data, tmp_path)[config.corpus.train_split]
    splits = teacher_splits(data, student)
    experiment = build_experiment(config, data.metadata, tmp_path, make_mesh(config.mesh), splits)
    stream = training_stream(data, experiment, student)
    optimizer = make_optimizer(config.optimizer, stream.num_batches, config.model.encoder_modalities)
    state = experiment.init_state(optimizer, abstract=True)
    sounds = [load_sounds(config.augment, config.seed)] if config.augment.on else []
    batch = stream.load(0)
    following, metrics = jax.eval_shape(experiment.jitted_step(optimizer, state), state, batch, *sounds)
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), each) for each in (state, following)]
    assert kinds[0] == kinds[1]
    assert metrics["loss"].shape == ()
    forward = PredictStep(experiment.model, experiment.mesh).forward
    assert jax.eval_shape(forward, state.eval_variables, batch).attributes.shape == (8, 3)


def test_ablation_rows_have_different_configs():
    from configs import student_ablation

    taught = {"labels": False, "half": False, "noisy_labels": False}
    seen = []
    for row in student_ablation.ROWS:
        config = student_ablation.get_config(row)
        if taught.get(row, True):
            config.teacher.cache = "somewhere"
        seen.append(parse_experiment(config.to_dict()))
        assert seen[-1].distillation.on is taught.get(row, True)
    assert all(one != other for number, one in enumerate(seen) for other in seen[:number])
    with pytest.raises(ValueError, match="row must be labels, embedding"):
        student_ablation.get_config("nothing")


def test_demo_student_has_the_network_of_the_acoustic_system():
    from configs import demo

    alone, taught = demo.get_config("acoustic"), demo.get_config("student")
    assert taught.distillation.attribute_weight > alone.distillation.attribute_weight == 0
    assert taught.model == alone.model
    assert taught.training == alone.training
    with pytest.raises(ValueError, match="system must be mfb, acoustic"):
        demo.get_config("nothing")


@pytest.mark.parametrize("system", SYSTEMS)
def test_config_docstring_has_its_command(system):
    name = system.partition(":")[0]
    assert f"--config=configs/{name}.py" in importlib.import_module(f"configs.{name}").__doc__


def test_extraction_config_requires_only_a_checkpoint():
    config = importlib.import_module("configs.extract").get_config()
    config.encoder.checkpoint = "somewhere"
    parse_extraction(config.to_dict())


@pytest.mark.parametrize("name", ["pretrain_hubert", "pretrain_hubert_tiny"])
def test_pretraining_configs_are_complete(name):
    parse_pretraining(importlib.import_module(f"configs.{name}").get_config().to_dict())
