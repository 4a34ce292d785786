"""One colour and one shape for each method, the same in every table, in every chart and on every board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from methods import METHODS, REFERENCES

# the colours of Okabe & Ito suit people with any colour vision; first for a light page, then for a dark page
PALETTE = (
    ("#0072b2", "#5aaeea"),
    ("#c8510a", "#f5914a"),
    ("#00805d", "#33c79d"),
    ("#a9447f", "#e59ac4"),
    ("#8f6a00", "#e3b93c"),
    ("#3a9bd1", "#a8dcf7"),
    ("#5f4bb6", "#b3a5f5"),
    ("#7a4a2b", "#cfa07d"),
)
GREY = ("#7d838c", "#969ca6")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")


@dataclass(frozen=True)
class Look:
    """The colour and the shape of a method in charts.

    Args:
        method: name of the method or of a variant of a sweep.
        variable: the CSS variable that holds the colour.
        light, dark: values of the variable on a light and on a dark page.
        shape: shape of the points, a name of Vega-Lite.
        setting: the settings of a variant of a sweep; "" for the method itself.
    """

    method: str
    variable: str
    light: str
    dark: str
    shape: str
    setting: str = ""

    @property
    def css(self) -> str:
        """The colour for a style sheet or an SVG attribute. It follows the theme of the page."""
        return f"var({self.variable})"


def looks(methods: Sequence[str], variants: Mapping[str, str] | None = None) -> dict[str, Look]:
    """The look of each of `methods`. It follows from the method's index among all registered methods, so boards agree.

    Args:
        methods: names of methods and of variants.
        variants: variant of a sweep -> its method. A variant has its method's colour and, if possible, its own shape.
    """
    of = variants or {}
    known = [name for name in METHODS.names() if name not in REFERENCES]
    plain = list(dict.fromkeys(of.get(name, name) for name in methods))
    order = [*known, *(name for name in plain if name not in known and name not in REFERENCES)]
    out: dict[str, Look] = {}
    for name in methods:
        method = of.get(name, name)
        place = 0 if method in REFERENCES else order.index(method)
        light, dark = GREY if method in REFERENCES else PALETTE[place % len(PALETTE)]
        number = "control" if method in REFERENCES else str(place)
        turn = place + place // len(PALETTE)
        setting = name.removeprefix(method).strip() if name != method else ""
        turn += 1 + sum(of.get(other) == method != other for other in out) if setting else 0
        shape = "circle" if method in REFERENCES else SHAPES[turn % len(SHAPES)]
        out[name] = Look(name, f"--m{number}", light, dark, shape, setting)
    return out
