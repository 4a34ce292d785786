"""Twenty real photographs, each of one ImageNet class, as the package foolbox ships them: a bullmastiff among them.

They are named imagenet_00_243.jpg, the last number being the class. The package itself isn't imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

BULLMASTIFF, DALMATIAN = 243, 251  # Stanford Dogs has the first alone


def photographs() -> list[tuple[Path, int]]:
    """(file, ImageNet-1k class), in order; skips the test where foolbox isn't installed."""
    spec = find_spec("foolbox")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("foolbox isn't installed, whose photographs this test takes: pip install -e '.[test]'")
    files = sorted((Path(spec.submodule_search_locations[0]) / "data").glob("imagenet_*.jpg"))
    assert len(files) == 20
    return [(file, int(file.stem.rpartition("_")[2])) for file in files]
