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
    """The python block of `document` that comes after the file's `name`, saved as `name`."""
    after = (DOCS / document).read_text().partition(f"`{name}`")[2]
    code = re.findall(r"```python\n(.*?)```", after, re.DOTALL)[0]
    file = Path(_folder.name) / name
    file.write_text(code)
    return file
