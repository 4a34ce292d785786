"""The prompts of the natural world: one set of sentences to learn from, and another set for the evaluation."""

from __future__ import annotations

from bench.worlds.base import Split
from bench.worlds.natural.judges.choice import KINDS
from bench.worlds.natural.photographs.reader import LABELS
from bench.worlds.templates import fill

FORGET = (
    "a photograph showing a {}",
    "a close-up photo of a {}",
    "a bright photo of one {}",
    "a {} in its surroundings",
)
EVALUATE = (
    "a photo of a {}",
    "a good picture of a {}",
    "a cropped photo of the {}",
    "an outdoor image of a {}",
    "a {}, seen from the front",
)
TEMPLATES: dict[str, tuple[str, ...]] = {"forget": FORGET, "evaluate": EVALUATE}
DOMAIN_OF = {name: domain for domain, names in LABELS.items() for name in names}


def phrase(concept: str) -> str:
    """The concept with its kind after it: "beagle dog", "Blue Jay bird". The kind tells a "Cardinal" from a cleric.

    A name that ends in its kind stays as it is: "Maltese dog", "balloon flower".
    """
    kind = KINDS[DOMAIN_OF[concept]]
    return concept if concept.split()[-1] == kind else f"{concept} {kind}"


def prompts(split: Split, concept: str) -> tuple[str, ...]:
    """Sentences that ask for `concept`. Raises KeyError for a concept of no domain."""
    return tuple(fill(template, phrase(concept)) for template in TEMPLATES[split])


def superclass_prompts(concept: str, split: Split = "forget") -> tuple[str, ...]:
    """The same sentences with the kind in place of the concept: "a photograph showing a dog"."""
    return tuple(fill(template, KINDS[DOMAIN_OF[concept]]) for template in TEMPLATES[split])
