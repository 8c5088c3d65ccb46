"""Shared by all tests: shapes are checked at run time, and JAX sees eight virtual CPU devices."""

import atexit
import gc
import importlib.util
import mmap
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Arrays are tiny: threads of PyTorch, which tests compare with, and of NumPy's BLAS would only wait for each other, and
# they wait by spinning.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
# Most of the time is compilation of programs that then run for milliseconds: without the fusion emitters, and as one
# LLVM module instead of 32, it takes a third of the time.
FASTER_COMPILATION = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}


def known_to_xla(flags):
    """Those flags that the installed XLA has: it ends the process at an unknown one."""
    library = Path(importlib.util.find_spec("jaxlib").submodule_search_locations[0]) / "libjax_common.so"
    if not library.is_file():
        return []
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [flag for flag in flags if content.find(b"\0" + flag.encode() + b"\0") >= 0]


if "EMOJAX_TESTS_CACHE" not in os.environ:  # else a process of this run, which has inherited the flags
    faster = [f"--{flag}={FASTER_COMPILATION[flag]}" for flag in known_to_xla(FASTER_COMPILATION)]
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *faster]).strip()
# Many tests compile the same programs: one cache for all processes of a run, gone when it ends.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="emojax-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# What is kept in the user's cache folder stays within the run too; fonts and the hub's files are found where they were.
if "EMOJAX_TESTS_CACHE" not in os.environ:
    cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(cache, "matplotlib"))
    os.environ.setdefault("HF_HOME", os.path.join(cache, "huggingface"))
    os.environ["EMOJAX_TESTS_CACHE"] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="emojax-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import jax
import pytest
from jaxtyping import install_import_hook

from tests.uncompressed_cache import patch_compression

patch_compression()

# Pure functions of arrays. `emojax.types` stays out: its pytrees are rebuilt by JAX with leaves that are no arrays.
install_import_hook(
    [f"emojax.{part}" for part in ("audio", "encoders", "metrics", "models", "losses")], "beartype.beartype"
)


def pytest_collection_modifyitems(items):
    """The longest tests come first, so that at the end no worker waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session):
    """Garbage collection passes over what was imported, and is rarer: it took six percent of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(scope="session")
def mini_data_dir(tmp_path_factory):
    """A data_dir that holds `mini_corpus`: rated and categorised tones."""
    from tests import mini_corpus

    data_dir = tmp_path_factory.mktemp("corpora")
    mini_corpus.build(data_dir)
    return data_dir


@pytest.fixture(scope="session")
def rated_data_dir(tmp_path_factory):
    """A data_dir that holds `rated_corpus`: tones with histograms of seven-point ratings."""
    from tests import rated_corpus

    data_dir = tmp_path_factory.mktemp("rated")
    rated_corpus.build(data_dir)
    return data_dir


@pytest.fixture
def one_device(monkeypatch):
    """Training in this process uses one device: for tests of something else than sharding, which compile faster so."""
    devices = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: devices)


@pytest.fixture(scope="module")
def one_device_in_module():
    """`one_device` for a whole module and its fixtures; `jax.local_devices()` still gives all devices."""
    devices = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: devices)
        yield


def patch_extraction(patch):
    from emojax.encoders.waveform_inputs import WaveformInputs
    from emojax.extraction import encoder_states
    from emojax.parallel import MeshConfig, make_mesh

    mesh = make_mesh(MeshConfig(), jax.local_devices()[:1])
    patch.setattr(encoder_states, "_local_mesh", lambda: mesh)
    patch.setattr(WaveformInputs, "shortest_bucket", 36_000)  # samples: more than the longest clip of `mini_corpus` has


@pytest.fixture
def one_shape(monkeypatch):
    """Hidden states of all clips are extracted in one shape on one device: one program in place of four."""
    patch_extraction(monkeypatch)


@pytest.fixture(scope="module")
def one_shape_in_module():
    """`one_shape` for a whole module and its fixtures."""
    with pytest.MonkeyPatch.context() as patch:
        patch_extraction(patch)
        yield


DRAWN = ("test_evaluation", "test_report")
"""How modules begin that draw figures, of undefined scores and odd names too. Started processes draw, forks do not."""


@pytest.fixture(scope="module", autouse=True)
def blank_figures(request):
    """Figures are made and saved as a blank PNG file."""
    if request.module.__name__.rpartition(".")[2].startswith(DRAWN):
        yield
        return
    from tests.blank_figures import patch_figures

    with pytest.MonkeyPatch.context() as patch:
        patch_figures(patch)
        yield


@pytest.fixture(scope="session")
def commands():
    """Starts and runs commands of `launch.py` in processes that need not import everything anew."""
    from tests.command_server import CommandServer

    server = CommandServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders of a miniature HuBERT and a miniature BERT, by modality; tests read them and never change them."""
    from tests import speech_checkpoints, text_checkpoints

    hubert, bert = tmp_path_factory.mktemp("hubert"), tmp_path_factory.mktemp("bert")
    model = speech_checkpoints.make_model("Hubert", **speech_checkpoints.LARGE, **speech_checkpoints.FRAMES_OF_20_MS)
    speech_checkpoints.write_checkpoint(hubert, model, normalize=True)
    text_checkpoints.write_checkpoint(bert, text_checkpoints.make_model("BertModel"))
    return {"acoustic": hubert, "lexical": bert}
