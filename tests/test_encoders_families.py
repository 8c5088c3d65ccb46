"""The registry of encoder families and their input adapters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from emojax.encoders import ComputeOptions
from emojax.encoders.families import MODULES, find_family
from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.pretrained import parameter_shapes
from emojax.encoders.tensor_table import invert
from emojax.encoders.waveform_inputs import WaveformInputs

SMALL = {"num_hidden_layers": 1, "n_layers": 1, "encoder_layers": 1}


@pytest.mark.parametrize("model_type", MODULES)
def test_a_family_fits_the_model_that_transformers_has_for_its_type(model_type):
    config = transformers.AutoConfig.for_model(model_type).to_dict() | SMALL
    family = find_family(config)
    theirs = getattr(transformers, family.architecture)
    assert family.model_type == model_type == theirs.config_class.model_type
    module = family.build_module(config, family.optional_names, ComputeOptions())
    shapes = parameter_shapes(module, family)
    empty = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    exported = {name: tensor.shape for name, tensor in invert(empty, family.tensor_table(config, False))}
    with torch.device("meta"):
        expected = theirs(theirs.config_class(**{key: config[key] for key in SMALL if key in config})).state_dict()
    names = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    assert exported.items() <= names.items()
    assert {name.split(".")[0] for name in names.keys() - exported.keys()} <= {"pooler", "decoder"}


def test_integer_waveforms_are_16_bit():
    sizes = read_hubert_config({"model_type": "hubert"}, mask_embedding=False)
    inputs = WaveformInputs.of(sizes, {"do_normalize": False})
    samples = jnp.array([[-(2**15), 0, 2**14, 7]], jnp.int16)
    np.testing.assert_array_equal(inputs(samples, jnp.array([3])), [[-1.0, 0.0, 0.5, 0.0]])
    np.testing.assert_array_equal(inputs(samples / 2**15, jnp.array([3])), [[-1.0, 0.0, 0.5, 0.0]])
    assert inputs.min_samples == 400
    assert inputs.resolution(sizes, 64) == {"max_tokens": None, "samples_per_frame": 320}


def test_an_unknown_type_has_no_family():
    assert find_family({"model_type": "t5"}) is None
    assert find_family({}) is None
