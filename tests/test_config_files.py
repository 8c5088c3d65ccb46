"""Which file `--config` and `load_config` mean."""

from pathlib import Path

import pytest

from configs import demo, mfb
from emojax.errors import ConfigError
from emojax.launcher.config_files import find_config_file, load_config

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("name", ["demo", "demo.py", "configs/demo.py"])
def test_a_name_means_the_bundled_config_where_there_is_no_such_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config_file(name) == str(CONFIGS / "demo.py")
    assert find_config_file(f"{name}:mfb") == f"{CONFIGS / 'demo.py'}:mfb"


def test_an_existing_file_is_used_before_a_bundled_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.py").write_text("")
    for name in ("demo.py", "demo.py:mfb", str(tmp_path / "demo.py")):
        assert find_config_file(name) == name


@pytest.mark.parametrize("name", ["other/demo.py", "/nowhere/mfb.py", "nothing", "configs/nothing.py", ""])
def test_absent_config_raises_with_the_bundled_ones(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r": no such config file; the package has acoustic_emobank, .*mfb"):
        find_config_file(name)


def test_a_config_is_loaded_by_name_with_its_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("mfb").to_dict() == mfb.get_config().to_dict()
    assert load_config("demo:lexical").to_dict() == demo.get_config("lexical").to_dict()
    with pytest.raises(ConfigError, match=r"^nothing: no such config file; the package has acoustic_emobank, .*mfb"):
        load_config("nothing")
