"""The notebooks in `examples/` run, from the first cell to the last, in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORTER = {  # what the notebook says -> what is enough for its way
    "range(20)": "range(2)",
    '"num_inference_steps": "5"': '"num_inference_steps": "1"',
}


@pytest.mark.slow
def test_a_model_of_a_training_script_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "evaluate_your_model.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # no figure of another machine
    for written, short in SHORTER.items():
        (cell,) = (cell for cell in notebook.cells if written in cell.source)
        cell.source = cell.source.replace(written, short)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = notebook.cells[-1].outputs[-1]["data"]["text/plain"]
    rows = {line.split()[1]: line for line in shown.splitlines()[1:] if line.split()[0].isdecimal()}
    assert {"pretrained", "wrecked", "model"} <= rows.keys()
    assert "U-Net: 35 of 326 tensors" in shown
    assert (tmp_path / "leaderboards").is_dir()
