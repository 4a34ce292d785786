"""The usual features for FID: Inception's last pooling layer, 2048 wide, as torch-fidelity computes it."""

from __future__ import annotations

from pathlib import Path

NAME = "inception-v3-compat"  # torch-fidelity's: the weights of the TensorFlow release that FID was published with
FILE = "weights-inception-2015-12-05-6726825d.pth"  # whose name carries the first digits of its sha256
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
HINT = f"; download {URL} and put it into the data folder as inception/{FILE}"


def weights(data: Path | None) -> str | None:
    """The file of the weights in the data folder's `inception`. None if it is missing: torch-fidelity downloads it."""
    file = data / "inception" / FILE if data else None
    return str(file) if file and file.is_file() else None
