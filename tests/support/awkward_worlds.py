"""Variants of the tiny world that are awkward in one way each: a file for `--plugin`, or worlds for tests.

As a plug-in it registers the worlds that the command line names, for example `--plugin
tests/support/awkward_worlds.py --world tw-style`: a file with one faulty world is refused as a whole. It builds the
tiny pipeline once, in the folder for temporary files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from bench import worlds
from bench.worlds import World
from bench.worlds.base import Judge, Split
from bench.worlds.pocket.drawing import captions

TESTS = str(Path(__file__).resolve().parents[1])
if TESTS not in sys.path:  # as a plug-in
    sys.path.insert(0, TESTS)

from support import tiny  # noqa: E402
from support.tiny import STYLES, Tiny, variant  # noqa: E402

DOGS, FLOWERS = tiny.CONCEPTS["dog"], tiny.CONCEPTS["flower"]
LONG = "very " * 30  # more tokens than the tiny tokenizer's limit of 20


def plain(base: Tiny, name: str) -> Tiny:
    """The tiny world under another name, without its view of all styles."""
    return variant(base, name=name, all_styles_view=lambda: None)


def renamed(
    base: Tiny,
    name: str,
    mapping: Mapping[str, str] | None = None,
    domains: Mapping[str, tuple[str, ...]] | None = None,
) -> Tiny:
    """The tiny world with other names for some concepts, and without superclass prompts, head nouns and CLIP.

    Args:
        base: the tiny world.
        name: the new name of the world.
        mapping: new name of a concept -> its name in `base`.
        domains: the domains, with the new names. None: those of `base`.
    """
    mapping = mapping or {}
    new_names = {old: new for new, old in mapping.items()}
    named = {domain: tuple(new_names.get(c, c) for c in members) for domain, members in base.domains.items()}

    def old(concept: str) -> str:
        return mapping.get(concept, concept)

    def prompts(split: Split, concept: str) -> tuple[str, ...]:
        templates = captions.FORGET if split == "forget" else captions.EVALUATE
        if concept in STYLES and concept not in mapping:
            return captions.of_style(templates, concept)
        return captions.of_species(templates, concept, STYLES[:1])

    def judge(which: str, device: torch.device) -> Judge:
        known = base.judge(which, device)
        return Judge(tuple(new_names.get(label, label) for label in known.labels), known.module, known.head)

    return variant(
        plain(base, name),
        domains=domains or named,
        prompts=prompts,
        reference=lambda concept, count: base.reference(old(concept), count),
        judge=judge,
        judge_of=lambda concept: "style" if concept in STYLES else "species",
        headnoun=lambda concept: None,
        closeness=lambda a, b: base.closeness(old(a), old(b)),
        superclass_prompts=lambda concept, split="forget": (),
        clip=lambda device: None,
    )


def judged(base: Tiny, name: str, change: Callable[[Judge], Judge]) -> Tiny:
    """The tiny world with judges that `change` returns."""
    return variant(plain(base, name), judge=lambda which, device: change(base.judge(which, device)))


WORLDS: dict[str, Callable[[Tiny], Tiny]] = {
    "tw": lambda base: plain(base, "tw"),
    "tw-long2": lambda base: renamed(
        base, "tw-long2", {f"{LONG}golden dog": "golden retriever", f"{LONG}labrador dog": "labrador retriever"}
    ),
    "tw-uni2": lambda base: renamed(
        base,
        "tw-uni2",
        {
            "熊猫": "golden retriever",
            "狮子": "labrador retriever",
            "AC/DC": "pembroke corgi",
            "fox, [red]<b>&|": "red rose",
        },
    ),
    "tw-offset": lambda base: judged(base, "tw-offset", lambda j: Judge(("background", *j.labels), j.module, j.head)),
    "tw-markup": lambda base: renamed(base, "tw-markup", {"wolf [/grey]": "golden retriever"}),
    "tw-onedomain": lambda base: renamed(base, "tw-onedomain", domains={"dog": DOGS}),
    "tw-dup": lambda base: renamed(base, "tw-dup", domains={"dog": DOGS, "pets": DOGS[:3]}),
    "tw-dup2": lambda base: renamed(base, "tw-dup2", domains={"dog": (*DOGS, DOGS[0]), "flower": FLOWERS}),
    "tw-style": lambda base: renamed(base, "tw-style", {"sketch": "golden retriever"}),
    "tw-nolabel": lambda base: judged(
        base, "tw-nolabel", lambda j: Judge(j.labels[1:], torch.nn.Sequential(j.module), j.head)
    ),
    "tw-swapped": lambda base: judged(base, "tw-swapped", lambda j: Judge(tuple(reversed(j.labels)), j.module, j.head)),
}


def built() -> Tiny:
    """The tiny world on a pipeline in the folder for temporary files, which the first call builds."""
    folder = Path(tempfile.gettempdir()) / "lethe-tiny-pipeline"
    if not (folder / "pipeline" / "model_index.json").exists():
        tiny.build_pipeline(folder)
    return Tiny(folder / "pipeline")


def register(base: World, *names: str) -> None:
    """Register the worlds of `WORLDS` called `names`, made from the tiny world."""
    assert isinstance(base, Tiny)
    for name in names:
        worlds.WORLDS.add(name, WORLDS[name](base))


if __name__.startswith("lethe_plugin"):
    register(built(), *(name for name in WORLDS if name in sys.argv))
