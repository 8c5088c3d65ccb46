"""The wheel has every module, config and data file, and its commands run outside a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"emojax": "emojax", "tfds_builders": "tfds_builders", "configs": "emojax/configs"}
"""Folder of the repository -> folder of the wheel."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the files of the wheel, as pip installs them."""
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*"):
        if path.is_file() and path.suffix in (".py", ".toml", ".md", ".txt", ""):
            shutil.copy(path, source)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(wheels)!r})"
    built = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.fixture
def command(site, tmp_path):
    """Runs an entry point of the wheel in an empty folder."""

    def run(name, *arguments):
        code = (
            "import sys; from importlib.metadata import entry_points; "
            f"(point,) = entry_points(group='console_scripts', name={name!r}); "
            f"sys.argv = [{name!r}, *{list(map(str, arguments))!r}]; point.load()()"
        )
        environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", "JAX_NUM_CPU_DEVICES": "1"}
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment | {"TFDS_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_every_module_config_and_data_file_is_in_the_wheel(site):
    for folder, target in FOLDERS.items():
        files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*") if path.is_file()]
        expected = {path for path in files if "__pycache__" not in path.parts}
        found = {path.relative_to(site / target) for path in (site / target).rglob("*") if path.is_file()}
        assert len(expected) > 25
        assert not expected - found


def test_the_wheel_installs_two_packages_alone(site):
    names = {path.name for path in site.iterdir() if path.suffix != ".dist-info"}
    assert names == {"emojax", "tfds_builders"}


def test_help_is_printed_with_the_name_of_the_command(command):
    result = command("emojax-launch", "--help")
    assert "emojax-launch --mode=evaluate --workdir=DIR" in result.stdout
    assert "--config: Config file" in result.stdout
    assert "python launch.py" not in result.stdout
    result = command("emojax", "--help")
    assert (result.returncode, result.stdout.split()[:2]) == (0, ["usage:", "emojax"])


def test_fields_and_corpora_are_listed(command):
    result = command("emojax", "config", "optimizer.clip_norm")
    assert "optimizer.clip_norm: a number, >= 0; default 1.0" in result.stdout, result.stderr
    result = command("emojax-build-corpus", "--list")
    assert "emodb: 535 German recordings" in result.stdout, result.stderr


@pytest.mark.parametrize("name", ["mfb_emodb", "configs/mfb_emodb.py", "own.py"])
def test_a_config_of_the_package_is_found_by_name_and_imported_by_other_configs(command, tmp_path, name):
    (tmp_path / "own.py").write_text(
        "from configs import mfb_emodb\n\ndef get_config():\n    return mfb_emodb.get_config()\n"
    )
    result = command("emojax-launch", f"--config={name}", "--config.seed=1", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("error: corpus 'emodb' is not in"), result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_config_of_the_user_precedes_that_of_the_package(command, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mfb.py").write_text("raise ValueError('the file of the user')\n")
    result = command("emojax-launch", "--config=configs/mfb.py", f"--workdir={tmp_path / 'run'}")
    assert (result.returncode, "the file of the user" in result.stderr) == (2, True), result.stderr
    result = command("emojax-launch", "--config=configs/nothing.py", f"--workdir={tmp_path / 'run'}")
    assert (result.returncode, "configs/nothing.py" in result.stderr) == (2, True), result.stderr
