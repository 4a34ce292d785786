"""One setting of a process that can change what is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Grade = Literal["fails", "warns", "silent"]


@dataclass(frozen=True)
class Switch:
    """One setting.

    Args:
        name: what a message calls it.
        get: () -> its value. Two values are compared with ==.
        put: sets a value that `get` returned.
        grade: what it means if a method leaves it changed. It "fails" the cell, if it could change the figures of
            another cell or of a user's own code. It "warns" in the cell's row. Or it is put back without a word.
        imports: whether libraries change it when they are imported. A change is then put back without a word if the
            block imported a module.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], Any]
    grade: Grade = "fails"
    imports: bool = False
