"""What differs between two nested results by more than rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

RELATIVE, ABSOLUTE = 2e-3, 1e-4  # of figures that are no whole numbers: processors round differently


def differences(name: str, known: Any, found: Any) -> Iterator[str]:
    """What differs, a line each: whole numbers and words at all, other numbers by more than the tolerance."""
    if isinstance(known, dict) and isinstance(found, dict):
        for key in {**known, **found}:
            yield from differences(f"{name}.{key}", known.get(key), found.get(key))
    elif isinstance(known, (list, tuple)) and isinstance(found, (list, tuple)) and len(known) == len(found):
        for i, (one, other) in enumerate(zip(known, found, strict=True)):
            yield from differences(f"{name}.{i}", one, other)
    elif isinstance(known, float) and isinstance(found, float):
        both_undefined = math.isnan(known) and math.isnan(found)
        if not both_undefined and not math.isclose(known, found, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            yield f"{name}: {found}, known {known}"
    elif known != found:
        yield f"{name}: {found}, known {known}"
