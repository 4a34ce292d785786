"""What comes back of a forgotten concept while the unlearned model is trained further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench import clusters, statistics

HEAD = ("method", "task", "of", "probe", "data", "how", "pictures", "seed")
RELEARNS = "concept"  # the `data` that shows what was forgotten; all others are harmless


def frame(results: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each point of each finished fine-tuning of an unlearned model.

    `of` is the task that unlearned, `probe` how the model was trained further, for people; `steps` how many steps of
    that were done, from 0 up; `accuracy` on the forgotten concept, in %, on `n` images.
    """
    rows = []
    for result in results:
        if (probe := result.get("probe")) is None:
            continue
        for point in result.get("curve") or ():
            ua = point["scores"]["ua"]
            head = (result["method"], result["task"], probe["of"], result["band"], probe["data"], probe["how"])
            done = (point["part"] * probe["steps"], 100 - 100 * ua["value"], ua["n"])
            rows.append((*head, probe["pictures"], result["seed"], *done))
    return pd.DataFrame(rows, columns=[*HEAD, "steps", "accuracy", "n"])


def means(points: pd.DataFrame) -> pd.DataFrame:
    """From `frame` to one row for each method, fine-tuning and number of steps: `accuracy` in % with _lo and _hi.

    Intervals are over what was unlearned (`of`).
    """
    by = ["method", "probe", "data", "how", "pictures", "steps"]
    rows = []
    for place, group in points.groupby(by, sort=False):
        found = statistics.of_cells(clusters.keyed(group.groupby(["of", "seed"])[["accuracy"]].mean()), 0, 100)
        rows.append((*place, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=[*by, "accuracy", "accuracy_lo", "accuracy_hi"])
