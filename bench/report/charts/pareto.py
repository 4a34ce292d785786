"""The Pareto front of methods."""

from __future__ import annotations

import pandas as pd


def front(points: pd.DataFrame, x: str, y: str) -> list[str]:
    """The methods on the Pareto front, by rising `x`. Higher is better for both `x` and `y`."""
    each = list(zip(points["method"], points[x], points[y], strict=True))
    best = [
        (own_x, name)
        for name, own_x, own_y in each
        if not any(a >= own_x and b >= own_y and (a, b) != (own_x, own_y) for _, a, b in each)
    ]
    return [str(name) for _, name in sorted(best, key=lambda pair: pair[0])]
