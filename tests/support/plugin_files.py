"""Plug-in files as a user would write them."""

from pathlib import Path

METHOD = """
from methods import METHODS
from methods.mimmu import MimMu

@METHODS.register("mine")
class Mine(MimMu):
    about, source, fidelity = "moves", "a test", "control"
"""


def save(folder: Path, text: str, name: str = "mine.py") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name
