"""Checks the names of metrics. A metric's columns must not have the name of another column in a board's tables."""

from __future__ import annotations

import re
from collections.abc import Iterable

from metrics import COSTS

ENDS = ("_lo", "_hi", "_n")  # endings of column names: the ends of an interval, and the number of images
DROP, MATCHED = "_drop", "@ua90"  # endings for a retention metric: its drop, and its value at UA 90 %
BOARD = (
    "method", "fidelity", "way", "status", "rank", "fid_extractor", "judge", "compensation", "cells", "protocol",
    "fingerprint", "degenerate", "changed", "untouched", *(cost.name for cost in COSTS),
)  # fmt: skip
CELLS = (
    "method", "task", "band", "seed", "status", "k", "way", "chain", "step", "request", "probe", "of", "variant_of",
    "variant", "compensation", "degenerate", "changed", "reason", "warnings", "traceback", "config", "fingerprint",
    *(cost.name for cost in COSTS),
)  # fmt: skip
CONCEPTS = (
    "method", "task", "band", "seed", "concept", "role", "since", "distances", "judge", "judged_by", "accuracy", "n",
    "before", "drop", "untouched", "undrawn",
)  # fmt: skip
CURVE = ("method", "task", "band", "seed", "part")
FIXED = {
    name: f"the column {name!r} of the table of {table}"
    for table, names in (("checkpoints", CURVE), ("concepts", CONCEPTS), ("cells", CELLS), ("methods", BOARD))
    for name in names
}
# pattern of the columns that only some suites and worlds have -> description of these columns
DERIVED = {
    r"h|(ua|nra|ora|h)_k\d+": "a column for H or for a number of concepts that are forgotten at once",
    r"final_\w+|worst_return|drift_per_request|seconds_all": "a column for sequences of requests",
    r"back_\w+|relearn_\w+": "a column for models that are trained further",
    r"ripple|ripple_\w+": "a column for the loss by distance",
    r"distance_\w+": "a column for the distance of a concept",
    r"judge_\w+": "a column for the accuracy of a judge",
}
WORDS = {"all": "the word for all metrics", "cost": "the word for what a method costs"}  # words of --metrics


def family(name: str) -> set[str]:
    """The names of all columns that a metric of this name can have."""
    return {name + more + end for more in ("", DROP, MATCHED) for end in ("", *ENDS)}


def collision(name: str, others: Iterable[str]) -> str:
    """A description of the column or word that a metric called `name` would collide with. "" if there is no collision.

    Upper and lower case count as the same, since tables show the names of metrics in capitals.

    Args:
        name: name of the metric.
        others: names of the other metrics.
    """
    name = name.casefold()
    if name in WORDS:
        return f"{WORDS[name]} in --metrics"
    if taken := sorted(family(name) & set(FIXED)):
        return FIXED[taken[0]]
    for stem in (name, *(name.removesuffix(end) for end in ENDS if name.endswith(end))):
        if stem in FIXED:
            return FIXED[stem]
        for pattern, about in DERIVED.items():
            if re.fullmatch(pattern, stem):
                return f"{about} ({stem!r})"
    for other in others:
        if family(name) & family(other.casefold()):
            return f"a column of the metric {other!r}"
    return ""
