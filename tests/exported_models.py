"""Workdirs of untrained models, made without training, and recordings, for tests of exports."""

import dataclasses

import jax
import soundfile

from emojax.config import parse_experiment
from emojax.models import build_model, example_batch
from emojax.parallel import MeshConfig, make_mesh
from emojax.types import CorpusInfo
from emojax.workdir import ENCODERS, load_encoders, unknown_labels, write_config, write_corpus_metadata, write_quantised
from emojax.workdir.encoders import keep_encoder
from tests.test_inference_stream import speech

INFO = CorpusInfo("toy/1.0.0", (1.0, 5.0), ("anger", "joy"), "recorded", "rated", "CC-BY-4.0", "Nobody 2026")


def write_workdir(folder, tree, categories=INFO.categories):
    """A workdir of random weights, in 8 bits; `tree` is a config."""
    tree.corpus.name = "toy"
    config = parse_experiment(tree.to_dict())
    folder.mkdir(parents=True)
    for name in config.model.encoder_modalities:
        kind = {"acoustic": "speech", "lexical": "text"}[name]
        keep_encoder(folder / ENCODERS / name, getattr(config.model, name).checkpoint, "", kind, weights=False)
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.local_devices()[:1])
    model = build_model(config.model, len(categories), load_encoders(folder, config.model, mesh, ()))
    batch = example_batch(model, config.model.encoder_modalities, config.data.max_tokens)
    variables = jax.jit(lambda: model.init(jax.random.key(0), batch, train=False))()
    kept = {name: variables[name] for name in ("params", "statistics") if name in variables}
    write_config(folder, config)
    write_corpus_metadata(folder, unknown_labels(dataclasses.replace(INFO, categories=categories)))
    write_quantised(kept, folder)
    return folder


def write_clips(folder):
    """A folder of recordings."""
    folder.mkdir(parents=True)
    for number, samples in enumerate((24_000, 9_000)):
        soundfile.write(folder / f"{number}.wav", speech(samples, number), 16_000, subtype="PCM_16")
    return folder
