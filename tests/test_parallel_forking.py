"""Error in processes forked after JAX has started."""

import os
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from emojax.encoders import Encoder, load_encoder
from emojax.errors import EmojaxError
from emojax.inference import Predictor, Stream
from emojax.parallel import MeshConfig, check_not_forked, make_mesh

ENTRIES = {
    "make_mesh": lambda: make_mesh(MeshConfig(-1, 1)),
    "load_encoder": lambda: load_encoder(Path("nowhere")),
    "Encoder.encode": lambda: object.__new__(Encoder).encode([np.zeros(16_000, np.float32)]),
    "Predictor.predict": lambda: object.__new__(Predictor).predict("clip.wav"),
    "Stream": lambda: object.__new__(Stream)(np.zeros(160, np.float32)),
}


def answer_of_a_fork(entry) -> str:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of the fork itself
        child = os.fork()
    if child == 0:
        try:
            entry()
            answer = "no error"
        except EmojaxError as error:
            answer = str(error)
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return answer


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("name", ENTRIES)
def test_forked_process_raises_instead_of_hanging(name):
    jnp.zeros(1).block_until_ready()
    check_not_forked()
    answer = answer_of_a_fork(ENTRIES[name])
    assert answer.startswith("this process was forked after JAX had started"), answer
    assert "\n" not in answer
