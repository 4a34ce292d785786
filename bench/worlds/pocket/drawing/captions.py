"""The captions of images: templates in three disjoint groups, and the words that fill the templates.

The diffusion model was trained on the TRAIN templates. A method gets the FORGET templates, and the evaluation uses the
EVALUATE templates. The groups do not share templates, so the evaluation detects a method that only unlearns a
sentence. Every word of the templates occurs in TRAIN, so the model understands the prompts of all three groups.
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

# {a_style} is filled with "a neon sign", and {style} with "neon sign". {a_subject} and {subject} work in the same way.
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
# The species that the prompts of a style name. They are one species of each pair of twins, and one species without a
# twin from each domain. The three domains take turns. The prompts of the styles never name the other half of the
# species. A task can forget a species of that half without a style prompt that names this species.
SUBJECTS = (
    "labrador retriever", "tea rose", "grey jay",
    "cardigan corgi", "iceland poppy", "gold finch",
    "alaskan malamute", "chamomile", "hornbill",
    "poodle", "cornflower", "barn owl",
)  # fmt: skip
# Training captions that only plain images get: a species, a head noun or a domain without a style.
BARE = ("{subject}", "{a_subject}", "the {subject}", "one {subject}")
# Training captions that name only the style. An image of any species can get them.
STYLE_ALONE = ("{a_style}", "{style}", "a nice {style}", "this is {a_style}")


def with_article(words: str) -> str:
    """`words` after the article "a" or "an"."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def fill(template: str, subject: str = "", style: str = "photo") -> str:
    """Fill `template` with `subject`, any noun ("retriever", "dog", "blue jay"), and with `style`, one of STYLES."""
    noun = STYLE_NOUNS[style]
    return template.format(
        style=noun,
        a_style=with_article(noun),
        subject=subject,
        a_subject=with_article(subject) if subject else "",
    )


def caption(template: str, species: str, style: str = "photo") -> str:
    """Fill `template` with a species and a style.

    Raises ValueError for an unknown name. The error lists the nearest known names.
    """
    return fill(template, find(species).name, find_style(style))


def of_species(templates: tuple[str, ...], noun: str, styles: tuple[str, ...]) -> tuple[str, ...]:
    """Prompts about `noun`, which is any noun. The templates and the styles both take turns.

    The number of prompts is the least common multiple of the numbers of templates and styles.
    """
    count = lcm(len(templates), len(styles))
    return tuple(fill(templates[i % len(templates)], noun, styles[i % len(styles)]) for i in range(count))


def of_style(templates: tuple[str, ...], style: str) -> tuple[str, ...]:
    """Prompts in `style`. The templates and the species of SUBJECTS both take turns.

    The number of prompts is the least common multiple of the numbers of templates and species. Raises ValueError for an
    unknown style.
    """
    count, style = lcm(len(templates), len(SUBJECTS)), find_style(style)
    return tuple(caption(templates[i % len(templates)], SUBJECTS[i % len(SUBJECTS)], style) for i in range(count))


def training_caption(species: str, style: str, rng: random.Random) -> str:
    """A random caption for a training image. Most captions name the species and the style, and some captions name less.

    10 % of the captions are empty. The empty caption is the null prompt of classifier-free guidance.
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
    """Texts for the training of the tokenizer. They contain every word of the pocket world's captions."""
    subjects = [w for row in SPECIES.values() for w in (row.name, row.noun)] + sorted(set(DOMAIN_OF.values()))
    return [fill(t, s, style) for s in subjects for style in STYLE_NOUNS for t in (*TRAIN, *FORGET, *EVALUATE, *BARE)]
