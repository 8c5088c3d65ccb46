"""What is imported with a package: prediction imports no plotting or data pipeline, commands answer without JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(code):
    """Top-level names of the modules that a new process has imported after running `code`."""
    code = f"{code}\nimport sys; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


def test_prediction_imports_no_library_of_training_or_reporting():
    names = imported("import emojax; from emojax import Prediction, Predictor, Stream, load")
    assert {"jax", "flax"} <= names
    heavy = {"matplotlib", "grain", "tensorflow_datasets", "tensorflow", "pandas", "transformers", "torch", "sklearn"}
    heavy |= {"orbax", "optax", "tensorboardX", "huggingface_hub", "array_record", "soundfile", "av", "ml_collections"}
    assert not heavy & names


@pytest.mark.parametrize(
    "module", ["emojax", "emojax.__main__", "emojax.serve.__main__", "emojax.launcher", "tfds_builders.__main__"]
)
def test_commands_and_the_package_import_no_heavy_library(module):
    heavy = {"jax", "flax", "numpy", "absl", "ml_collections", "tensorflow_datasets", "matplotlib"}
    assert not heavy & imported(f"import {module}")


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("evaluation", {"reporting", "training", "inference"}),
        ("inference", {"reporting", "training", "model_tests", "robustness", "annotation"}),
        ("annotation", {"reporting", "training", "model_tests", "robustness", "launcher"}),
        ("serve", {"reporting", "training", "annotation", "model_tests", "robustness", "launcher"}),
        ("reporting", {"training", "inference", "launcher", "model_tests", "robustness"}),
        ("model_tests", {"training", "launcher", "robustness"}),
        ("robustness", {"training", "launcher"}),
        ("export", {"training", "launcher", "model_tests", "robustness"}),
    ],
)
def test_results_are_imported_by_what_is_above_them_alone(package, above):
    found = set()
    for path in (ROOT / "emojax" / package).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {name.split(".")[1] for name in names if name.startswith("emojax.")}
    assert not above & found
