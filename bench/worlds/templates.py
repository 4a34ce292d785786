"""Sentences with a place for a name, and the article that the name takes."""

from __future__ import annotations

import re

VOWELS = "aeiou"
SOUNDS_LIKE_A_CONSONANT = ("Eu", "eu", "uni", "Uni")  # "a European shag", "a unicorn"


def fill(template: str, name: str, place: str = "{}") -> str:
    """`template` with `name` at each `place`. An indefinite article before the place becomes "a" or "an".

    >>> fill("a photo of a {}", "orange"), fill("A {concept}, and one {concept}", "unicorn", "{concept}")
    ('a photo of an orange', 'A unicorn, and one unicorn')
    """
    an = name[:1].lower() in VOWELS and not name.startswith(SOUNDS_LIKE_A_CONSONANT)

    def filled(found: re.Match[str]) -> str:
        article = found.group(1)
        return (f"{article[0]}{'n' * an} " if article else "") + name

    return re.sub(rf"(\b[aA]n? )?{re.escape(place)}", filled, template)
