"""Names that look alike to a reader."""

from __future__ import annotations

import unicodedata


def same_letters(name: str) -> str:
    """What two names have in common that look alike: a key for comparisons.

    Differences in case, in Unicode's forms (NFKC), in white space and in invisible characters are removed.
    """
    visible = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible.casefold()).split())
