"""The plugin files that docs/ shows, as a reader would save them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).parents[2] / "docs"
_folder = TemporaryDirectory(prefix="lethe-guide-")  # gone with the process


@cache
def plugin(document: str, name: str) -> Path:
    """The one python block of `document`, saved as `name`."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)
    file = Path(_folder.name) / name
    file.write_text(code)
    return file
