"""How a column of figures is shown: in a terminal, in Markdown, on the HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A column of figures, of a metric, of a cost, or of a figure that is computed from several cells.

    Args:
        name: name of the column in a board's table. NAME_lo and NAME_hi are the ends of its interval, if it has one.
        about: what the figure is, in one line.
        unit: unit of the figures in the table ("%", "s", "bytes", ...), or "" for a plain number.
        better: whether higher or lower figures are better.
        digits: number of decimals that are shown.
        headline: whether the column is shown at first. The other columns are shown on request.

    Example:
        >>> Column("ua", "unlearning accuracy", "%", "higher").arrow
        '↑'
    """

    name: str
    about: str
    unit: str
    better: Literal["higher", "lower"]
    digits: int = 1
    headline: bool = True

    @property
    def arrow(self) -> str:
        """The direction in which figures get better: an arrow up or down."""
        return "↑" if self.better == "higher" else "↓"
