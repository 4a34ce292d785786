"""Labels beside points and at the ends of lines, placed so that they do not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.charts.vega_lite import Rows

LINE = 16  # height of a line of text, in pixels
PLACES = (("left", 10, 0), ("right", -10, 0), ("center", 0, -15), ("center", 0, 15), ("left", 9, -13), ("left", 9, 13))


def at_points(rows: Rows, width: float = 330, height: float = 300) -> Rows:
    """Rows with `x`, `y`, `label`, `align`, `dx` and `dy`: the label of each point and its free position.

    A greedy algorithm chooses one of a few positions. The plot has about `width` x `height` pixels. A row with `spare`
    is placed after the others. If there is room, `spare` is its label. Otherwise the row has no label.
    """
    if not rows:
        return []
    span = {}
    for axis in "xy":
        values = [row[name] for row in rows for name in (axis, f"{axis}_lo", f"{axis}_hi") if row.get(name) is not None]
        span[axis] = (min(values), max(values) - min(values) or 1.0)
    at = [
        (
            (row["x"] - span["x"][0]) / span["x"][1] * width,
            height - (row["y"] - span["y"][0]) / span["y"][1] * height,
        )
        for row in rows
    ]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in at]
    out = []
    for row, (x, y) in sorted(zip(rows, at, strict=True), key=lambda pair: ("spare" in pair[0], -pair[1][0])):
        label = str(row.get("spare", row["method"]))
        boxes = [_box(x, y, len(label) * 7.6, place) for place in PLACES]
        spoilt = [sum(_overlap(box, other) for other in taken) + max(0, box[2] - width - 20) * 20 for box in boxes]
        best = min(range(len(PLACES)), key=lambda i: spoilt[i])
        if "spare" in row and spoilt[best] > 0:
            label = ""
        else:
            taken.append(boxes[best])
        align, dx, dy = PLACES[best]
        out.append({**row, "label": label, "align": align, "dx": dx, "dy": dy})
    return out


def _box(x: float, y: float, wide: float, place: tuple[str, int, int]) -> tuple[float, float, float, float]:
    align, dx, dy = place
    left = x + dx - {"left": 0.0, "center": wide / 2, "right": wide}[align]
    return (left, y + dy - 8, left + wide, y + dy + 8)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def at_ends(rows: Sequence[Mapping[str, Any]], low: float, high: float, height: float) -> Rows:
    """A label for each line (`series`), near the height of its last point, without overlap.

    The axis goes from `low` to `high` and is `height` pixels long.
    """
    last = {row["series"]: row for row in sorted(rows, key=lambda row: row["x"])}
    placed = sorted(last.values(), key=lambda row: row["y"])
    gap = (high - low) * min(LINE / height, 1 / max(len(placed) - 1, 1))
    at = [row["y"] for row in placed]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + gap)
    for i in range(len(at) - 1, -1, -1):
        at[i] = min(at[i], at[i + 1] - gap if i + 1 < len(at) else high)
    return [
        {"method": row.get("method", ""), "label": row.get("label") or row["method"], "colour": row["colour"], "y": y}
        for row, y in zip(placed, at, strict=True)
    ]
