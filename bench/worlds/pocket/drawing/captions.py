"""What is said of a picture: templates in three disjoint groups, and the words that fill them.

TRAIN is what the diffusion model learned from, FORGET what a method is given to forget with, EVALUATE what it is
judged by. No template stands in two groups, so a method that only unlearns a sentence is found out; every word
occurs in TRAIN, so that the model understands all three.
"""

from __future__ import annotations

import random
from math import lcm

from bench.worlds.pocket.drawing.species import DOMAIN_OF, SPECIES, find
from bench.worlds.pocket.drawing.styles import find_style

STYLE_NOUNS = {
    "photo": "photo",
    "sketch": "sketch",
    "mosaic": "mosaic",
    "watercolour": "watercolour",
    "neon": "neon sign",
    "blueprint": "blueprint",
}

# {a_style}: "a neon sign"; {style}: "neon sign"; likewise for {subject}
TRAIN = (
    "{a_style} of {a_subject}",
    "{a_style} of the {subject}",
    "the {style} of {a_subject}",
    "{style} of {a_subject}",
    "{a_style} of one {subject}",
    "this is {a_style} of {a_subject}",
    "a nice {style} of {a_subject}",
    "a good {style} of the {subject}",
    "one {style} showing {a_subject}",
    "{a_subject} in {a_style}",
    "{subject}, {style}",
    "here is the {subject} in a nice {style}",
)
FORGET = (
    "{a_style} showing {a_subject}",
    "a good {style} of {a_subject}",
    "one {style} of the {subject}",
    "the {subject} in {a_style}",
    "here is {a_style} of {a_subject}",
)
EVALUATE = (
    "{a_style} showing the {subject}",
    "a nice {style} of the {subject}",
    "one {style} of {a_subject}",
    "this is a good {style} of {a_subject}",
)
# What a style is asked for with: one of each pair of twins and one species without, by turns of the three domains. The
# other half of the species is left to forget without a prompt about a style that names it.
SUBJECTS = (
    "labrador retriever", "tea rose", "grey jay",
    "cardigan corgi", "iceland poppy", "gold finch",
    "alaskan malamute", "chamomile", "hornbill",
    "poodle", "cornflower", "barn owl",
)  # fmt: skip
# Said of plain pictures only: a species, a head noun or a domain with no style.
BARE = ("{subject}", "{a_subject}", "the {subject}", "one {subject}")
# Said of a picture of anything.
STYLE_ALONE = ("{a_style}", "{style}", "a nice {style}", "this is {a_style}")


def with_article(words: str) -> str:
    """`words` behind "a" or "an"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def fill(template: str, subject: str = "", style: str = "photo") -> str:
    """`template` about `subject`, any noun ("retriever", "dog", "blue jay"), in `style`, one of STYLES."""
    noun = STYLE_NOUNS[style]
    return template.format(
        style=noun,
        a_style=with_article(noun),
        subject=subject,
        a_subject=with_article(subject) if subject else "",
    )


def caption(template: str, species: str, style: str = "photo") -> str:
    """`template` about a known species in a known style; ValueError names the nearest known ones otherwise."""
    return fill(template, find(species).name, find_style(style))


def of_species(templates: tuple[str, ...], noun: str, styles: tuple[str, ...]) -> tuple[str, ...]:
    """`templates` about any noun, each also in its turn in one of `styles`, until all would come again."""
    count = lcm(len(templates), len(styles))
    return tuple(fill(templates[i % len(templates)], noun, styles[i % len(styles)]) for i in range(count))


def of_style(templates: tuple[str, ...], style: str) -> tuple[str, ...]:
    """`templates` in a known style, about each of SUBJECTS in its turn, until all would come again."""
    count, style = lcm(len(templates), len(SUBJECTS)), find_style(style)
    return tuple(caption(templates[i % len(templates)], SUBJECTS[i % len(SUBJECTS)], style) for i in range(count))


def training_caption(species: str, style: str, rng: random.Random) -> str:
    """A caption for a training picture: mostly species and style, sometimes less, and 1 in 10 times nothing.

    The empty caption is the null prompt of classifier-free guidance.
    """
    row = SPECIES[species]
    kind = rng.random()
    if kind < 0.10:
        return ""
    if kind < 0.16:
        return fill(rng.choice(STYLE_ALONE), style=style)
    subject = row.name
    if kind < 0.24:
        subject = row.noun
    elif kind < 0.31:
        subject = DOMAIN_OF[species]
    if style == "photo" and rng.random() < 0.25:
        return fill(rng.choice(BARE), subject)
    return fill(rng.choice(TRAIN), subject, style)


def every_word() -> list[str]:
    """Texts that hold each word the world uses, for the tokenizer's training."""
    subjects = [w for row in SPECIES.values() for w in (row.name, row.noun)] + sorted(set(DOMAIN_OF.values()))
    return [fill(t, s, style) for s in subjects for style in STYLE_NOUNS for t in (*TRAIN, *FORGET, *EVALUATE, *BARE)]
