"""A first draft of a file of concepts: neighbours that the text encoder finds close, and words that are far away."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.core.text.alike import same_letters
from bench.worlds.own.words import WordList

Closeness = Callable[[str, str], float]  # two words -> a similarity, at most 1


@dataclass(frozen=True)
class Suggestion:
    """What to keep besides the concepts to forget.

    Args:
        forget: the concepts.
        near: the list that most resembles them.
        neighbours: words of this list, the closest first, with their closeness to the nearest of `forget`.
        other: another list, for concepts of another domain; None if there is none.
        far: words of `other`.
    """

    forget: tuple[str, ...]
    near: WordList
    neighbours: tuple[tuple[str, float], ...]
    other: WordList | None
    far: tuple[str, ...]


def suggest(
    forget: Sequence[str], lists: Sequence[WordList], closeness: Closeness, keep: int, others: int
) -> Suggestion:
    """Suggest what to keep.

    Args:
        forget: concepts to forget.
        lists: the lists of words, at least one.
        closeness: similarity of two words.
        keep: number of neighbours.
        others: number of words of another domain.

    The list is the one whose `keep` closest words are closest on average. A word that says the same as a concept, more
    exactly or less exactly, is left out: "Vincent van Gogh" for "Van Gogh". The words of the other domain are spread
    evenly over its list, from the words that are least close to the concepts.
    """
    ranked = {}
    for each in lists:
        scored = {word: max(closeness(word, c) for c in forget) for word in each.words if not _says(word, forget)}
        ranked[each.kind] = sorted(scored.items(), key=lambda pair: (-pair[1], pair[0]))
    near = max(lists, key=lambda each: _mean([close for _, close in ranked[each.kind][:keep]]))
    rest = [each for each in lists if each.kind != near.kind]
    other = min(rest, key=lambda each: _mean([close for _, close in ranked[each.kind][:keep]])) if rest else None
    far: tuple[str, ...] = ()
    if other is not None:
        least = [word for word, _ in ranked[other.kind][len(ranked[other.kind]) // 2 :]]
        step = max(1, len(least) // others)
        far = tuple(least[::step][:others])
    return Suggestion(tuple(forget), near, tuple(ranked[near.kind][:keep]), other, far)


def text(found: Suggestion, backbone: str, name: str) -> str:
    """The file of concepts for a suggestion, with comments.

    Args:
        found: the suggestion.
        backbone: the backbone, as `--backbone` names it.
        name: the name of the file, for the command in its first lines.
    """
    near = ", ".join(f"{word} {close:.3f}" for word, close in found.neighbours)
    members = [*found.forget, *(word for word, _ in found.neighbours)]
    lines = [
        "# Concepts for Lethe: what to forget, and what must stay. Edit the lists, then run:",
        f"#     python run_bench.py --concepts {name} --methods mimmu salun --suite finegrained",
        "# docs/your-own-concepts.md describes every entry.",
        "",
        f"backbone: {_quoted(backbone)}  # --backbone on the command line wins over it",
        "",
        "# Domain: its concepts. The concepts of a domain are each other's neighbours: they count for NRA and TWIN.",
        "# Suggested by the closeness of the backbone's text encoder. Keep those that look alike, drop the others:",
        f"#     {near}",
        "domains:",
        f"  {_quoted(found.near.kind)}: {_list(members)}",
    ]
    if found.other is not None and found.far:
        lines += ["  # Concepts of another domain count for ORA.", f"  {_quoted(found.other.kind)}: {_list(found.far)}"]
    lines += ["", "# Each alone (finegrained), all at once (multi), one after another (sequential).",
              f"forget: {_list(found.forget)}", ""]  # fmt: skip
    if found.near.prompts:
        lines += ["# How prompts ask for a concept. Methods learn from `forget`; `evaluate` measures.", "prompts:"]
        lines.append(f"  {_quoted(found.near.kind)}:")
        for split, templates in found.near.prompts.items():
            lines += [f"    {split}:", *(f"      - {json.dumps(template)}" for template in templates)]
        lines.append("")
    lines += [
        "# Folders of real pictures, for FID and KID. Without them images of the untouched model stand for them.",
        "# references:",
        f"#   {_quoted(found.forget[0])}: pictures/of-it",
        "",
        "# Who judges: open_clip (zero-shot), or {open_clip: MODEL/WEIGHTS}, {transformers: FOLDER}, {timm: NAME},",
        "# {python: judge.py}.",
        "judge: open_clip",
    ]
    return "\n".join(lines) + "\n"


def _says(word: str, concepts: Sequence[str]) -> bool:
    """Whether a word has all words of one of the concepts, or only words of it."""
    words = {*same_letters(word).split()}
    return any(words <= own or own <= words for own in ({*same_letters(c).split()} for c in concepts))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else -1.0


def _quoted(text: str) -> str:
    """A text as YAML has it; JSON's strings are YAML's too. Plain words need no quotes."""
    plain = text.replace(" ", "").replace("-", "").isalpha() and text.isascii() and text == text.strip("-")
    taken = text.lower() in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return text if plain and not taken else json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"
