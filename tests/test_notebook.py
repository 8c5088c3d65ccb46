"""The notebook runs from top to bottom, and is stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs():
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_cells())


def test_the_cells_run_in_order_and_the_model_is_better_than_chance(tmp_path):
    sources = ["".join(cell["source"]) for cell in code_cells()]
    runner = (
        f"names = {{'__name__': '__main__'}}\nfor number, source in enumerate({sources!r}):\n"
        "    exec(compile(source, f'cell {number}', 'exec'), names)\n"
        "assert names['uar']['value'] > names['chance'] + 0.1, names['uar']\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg", "JAX_NUM_CPU_DEVICES": "1"}
    result = subprocess.run(
        [sys.executable, "-c", runner], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "UAR" in result.stdout
    for name in ("evaluation/test.csv", "README.md"):
        assert (tmp_path / "quickstart" / "run" / name).is_file()
