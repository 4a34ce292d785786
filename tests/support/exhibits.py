"""Evidence made by hand for tests of metrics: four concepts, one of them forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from metrics import Evidence, HeadNouns, Probe, PromptProbes

ROLES = {"forget": ("a",), "in_domain": ("b", "c"), "out_of_domain": ("d",)}
ALL = ("a", "b", "c", "d")
PER_IMAGE = ("features", "penultimate", "latents", "alignment")  # tensors with one row for each image


def evidence(judged: dict[str, str]) -> Evidence:
    """Evidence from "concept -> what was seen in each of its images, one letter each"; nothing optional."""
    asked = "".join(concept * len(seen) for concept, seen in judged.items())
    counts = dict.fromkeys(judged, len(judged["a"]))
    return Evidence(**ROLES, requested=tuple(asked), predicted=tuple("".join(judged.values())), counts=counts)


def whole(judged: dict[str, str], seed: int = 0) -> Evidence:
    """Evidence that every metric can be computed from, the rest of it random."""
    base, generator = evidence(judged), torch.Generator().manual_seed(seed)
    n = len(base.requested)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    def look() -> dict[str, torch.Tensor]:
        return {
            "features": noise(n, 3),
            "penultimate": noise(n, 5),
            "latents": noise(n, 4, 2, 2),
            "alignment": noise(n).tanh(),
        }

    reference = {c: noise(8, 3) for c in ALL}
    pretrained = dataclasses.replace(base, **look())
    return dataclasses.replace(
        base,
        **look(),
        reference=reference,
        domain_reference=reference,
        domains={"a": ("a", "b", "c")},
        labels=frozenset(ALL),
        nearest=("c",),
        extractor="x",
        pretrained=pretrained,
        headnoun=nouns(base),
        probe=Probe(("a",) * len(judged["a"]), noise(len(judged["a"]), 3).square(), torch.tensor([5.0, 1.0, -3.0])),
        prompt_probes=words(noise(4, len(judged["a"]), 3).square()),
    )


def words(gaps: torch.Tensor) -> PromptProbes:
    """Distances under no prompt, the word, the rest and the neighbour's word, (4, M, 3), of images of "a".

    Each image was looked at under two of three levels.
    """
    m = gaps.shape[1]
    looked = torch.stack([torch.arange(3) != i % 3 for i in range(m)])
    others, has = dict(zip(("word", "rest", "near"), gaps[1:], strict=True)), {"rest": ("a",), "near": ("a",)}
    return PromptProbes(("a",) * m, gaps[0], looked, torch.tensor([5.0, 1.0, -3.0]), others, has)


def nouns(given: Evidence) -> HeadNouns:
    """Head nouns that gave just what the prompts of "a" gave."""
    rows = [i for i, concept in enumerate(given.requested) if concept == "a"]
    return HeadNouns(
        requested=("a",) * len(rows), predicted=tuple(given.predicted[i] for i in rows), named={"a": ("a", "b")}
    )


def take(given: Evidence, order: Sequence[int]) -> Evidence:
    """The same evidence of the images at `order`, in that order."""
    order = list(order)
    asked, judged = (tuple(row[i] for i in order) for row in (given.requested, given.predicted))
    place = {row: i for i, row in enumerate(i for i, concept in enumerate(given.requested) if concept == "a")}
    probed = [place[i] for i in order if i in place]  # rows of the probe, which has the images of "a" alone
    spoken = given.prompt_probes and dataclasses.replace(
        given.prompt_probes,
        requested=("a",) * len(probed),
        null=given.prompt_probes.null[probed],
        looked=given.prompt_probes.looked[probed],
        others={name: gaps[probed] for name, gaps in given.prompt_probes.others.items()},
    )
    return dataclasses.replace(
        given,
        requested=asked,
        predicted=judged,
        **{name: getattr(given, name)[order] for name in PER_IMAGE},
        pretrained=take(given.pretrained, order) if given.pretrained else None,
        headnoun=nouns(dataclasses.replace(given, requested=asked, predicted=judged)) if given.headnoun else None,
        probe=Probe(("a",) * len(probed), given.probe.gaps[probed], given.probe.logsnr) if given.probe else None,
        prompt_probes=spoken,
    )
