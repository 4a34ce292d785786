"""Control: a model trained from scratch without the concept. It forgets best, and it costs most."""

from __future__ import annotations

from methods.base import Given


class Oracle(Given):
    """Its weights, those of the text encoder included, come from a file of the world."""

    about = "control: retrained without the concept: what a method could at best attain"
    source = "the backbone's own recipe, on all its pictures but those of the concept"
    fidelity = "control"
    compensation = "trained anew without it"
