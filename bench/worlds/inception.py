"""The standard features for FID: the 2048 features of Inception's last pooling layer, computed by torch-fidelity."""

from __future__ import annotations

from pathlib import Path

NAME = "inception-v3-compat"  # torch-fidelity's name; FID was published with these TensorFlow weights
FILE = "weights-inception-2015-12-05-6726825d.pth"  # the name contains the first digits of the SHA-256
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
HINT = f"; download {URL} and put it into the data folder as inception/{FILE}"


def weights(data: Path | None) -> str | None:
    """The path of the weights in the data folder's subfolder `inception`.

    Returns None if the file is missing or `data` is None. torch-fidelity then downloads the weights.
    """
    file = data / "inception" / FILE if data else None
    return str(file) if file and file.is_file() else None
