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


def test_a_file_that_exists_and_a_path_elsewhere_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.py").write_text("")
    for name in ("demo.py", "demo.py:mfb", "other/demo.py", str(tmp_path / "mfb.py"), "nothing", "configs/nothing.py"):
        assert find_config_file(name) == name


def test_a_config_is_loaded_by_name_with_its_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("mfb").to_dict() == mfb.get_config().to_dict()
    assert load_config("demo:lexical").to_dict() == demo.get_config("lexical").to_dict()
    with pytest.raises(ConfigError, match=r"^nothing: no such config file; the package has acoustic_emobank, .*mfb"):
        load_config("nothing")
