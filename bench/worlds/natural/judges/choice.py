"""The judges: each domain has a classifier, and the command line names it by a word or a file.

--judge resnet50.a1_in1k                         for dogs: an ImageNet classifier of timm
--judge local-dir:FOLDER                         for dogs: an ImageNet classifier in a folder that timm saved
--judge efficientnet_lite0                       for dogs: an ImageNet classifier from a Python package
--judge open_clip:ViT-B-32/laion2b_s34b_b79k     for all domains: a zero-shot classifier with text prompts
--judge birds=path/to/judge.safetensors          a judge file of `python -m bench.worlds.natural.judges.train`
--judge dogs=trained                             the judge file at the default path of that command
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bench.core.registry import nearest
from bench.worlds.base import Judge, WorldUnavailable
from bench.worlds.judging import zero_shot
from bench.worlds.natural.judges import imagenet, judge_file
from bench.worlds.natural.photographs.dogs import BREEDS
from bench.worlds.natural.photographs.reader import DOMAINS, LABELS

KINDS = {"dogs": "dog", "flowers": "flower", "birds": "bird"}  # domain -> the kind of its concepts, in the singular
OPEN_CLIP = "open_clip:"
SENTENCES = (  # the prompts of a zero-shot judge
    "a photo of a {name}, a type of {kind}.",
    "a close-up photo of a {name}, a type of {kind}.",
    "a good photo of the {name}, a type of {kind}.",
)
TRAINED = "trained"
# Its top-1 accuracy on ImageNet's validation set at 224 px is 85.8 % in its paper (Liu et al., CVPR 2022, table 1).
# ResNet-50, which papers on unlearning often use, has an accuracy of 76 to 80 %. The weights have 350 MB.
IMAGENET = "convnext_base.fb_in22k_ft_in1k"
ALTERNATIVE = "open_clip:ViT-L-14/datacomp_xl_s13b_b90k"


def labels(domain: str) -> tuple[str, ...]:
    """The concepts of `domain`, in the order of its judges' logits. Raises ValueError for an unknown domain."""
    if domain not in LABELS:
        raise ValueError(f"unknown domain {domain!r}: {nearest(domain, LABELS)}")
    return LABELS[domain]


def default(domain: str) -> str:
    """The default judge of `domain`: an ImageNet classifier for dogs, a trained judge for the other domains.

    Raises ValueError for an unknown domain.
    """
    labels(domain)
    return IMAGENET if domain == "dogs" else TRAINED


def choose(texts: Sequence[str]) -> dict[str, str]:
    """domain -> judge, for `texts` from the command line. Each text is "[DOMAIN=]SPEC".

    A SPEC without a domain applies to every domain that the judge can serve, except the domains that another text
    names. The remaining domains keep their default. Raises ValueError for an unknown domain, for a domain with two
    judges, and for a judge that can't serve its domain.
    """
    named: dict[str, str] = {}
    bare: dict[str, str] = {}
    for text in texts:
        before, equals, after = text.partition("=")
        named_domain = bool(equals) and before.isidentifier()  # a path can also contain "="
        spec = after if named_domain else text
        if not spec:
            raise ValueError(f"{text!r} names no judge: write [DOMAIN=]SPEC, e.g. birds=trained")
        served = serves(spec)
        if named_domain and before not in served:
            labels(before)  # raises its own error for an unknown domain
            raise ValueError(f"{spec!r} {_reason(spec, served)}, not of {before}; for that take {_others(before)}")
        target = named if named_domain else bare
        for domain in (before,) if named_domain else served:
            if domain in target:
                raise ValueError(f"{domain} would have two judges, {target[domain]!r} and {spec!r}: name one for each")
            target[domain] = spec
    return {domain: named.get(domain, bare.get(domain, default(domain))) for domain in DOMAINS}


def serves(spec: str) -> tuple[str, ...]:
    """The domains that a judge can serve: all domains, dogs, or the domain that a judge file was trained for.

    Raises ValueError for a judge file that is missing or damaged.
    """
    if spec == TRAINED or spec.startswith(OPEN_CLIP):
        return DOMAINS
    if spec.endswith(judge_file.SUFFIX):
        try:
            return (judge_file.read(Path(spec)).domain,)
        except WorldUnavailable as error:
            raise ValueError(str(error)) from error
    return ("dogs",)


def load(domain: str, spec: str, data: Path | None, device: torch.device) -> Judge:
    """Load the judge `spec` of `domain`: fp32, in eval mode, frozen, on `device`, with the labels `labels(domain)`.

    Args:
        spec: a judge as `choose` returns it.
        data: the folder of the data sets. The judge "trained" is its file `judges/DOMAIN.safetensors`. None if the user
            gave no folder.

    Raises ValueError for an unknown domain or for a judge that can't serve the domain. Raises WorldUnavailable for
    weights that are missing, damaged or those of another judge.
    """
    names = labels(domain)
    if spec.startswith(OPEN_CLIP):
        sentences = [[t.format(name=name, kind=KINDS[domain]) for t in SENTENCES] for name in names]
        return zero_shot.load(spec.removeprefix(OPEN_CLIP), names, sentences, device)
    if spec.endswith(judge_file.SUFFIX):
        return judge_file.load(Path(spec), domain, names, device)
    if spec == TRAINED:
        file = trained_file(domain, data) if data else None
        if not file or not file.is_file():
            raise WorldUnavailable(_untrained(domain, data))
        return judge_file.load(file, domain, names, device)
    if domain != "dogs":
        raise ValueError(f"{spec!r} {_reason(spec, ('dogs',))}, not of {domain}; for that take {_others(domain)}")
    return imagenet.load(spec, {folder.partition("-")[0]: name for folder, name in BREEDS.items()}, device)


def trained_file(domain: str, data: Path) -> Path:
    """The default path of the judge of `domain` that was trained on the photographs in `data`."""
    return data / "judges" / f"{domain}{judge_file.SUFFIX}"


def _reason(spec: str, served: tuple[str, ...]) -> str:
    kind = "is a judge file" if spec.endswith(judge_file.SUFFIX) else "is taken for an ImageNet classifier"
    return f"{kind} and can be a judge of {', '.join(served)}"


def _others(domain: str) -> str:
    return f"{domain}={TRAINED}, {domain}=FILE{judge_file.SUFFIX} or {domain}={ALTERNATIVE}"


def _untrained(domain: str, data: Path | None) -> str:
    where = f"{trained_file(domain, data)} is missing" if data else "there is no folder of data sets (--data DIR)"
    return (
        f"no judge of {domain} has been trained: {where}. Train one, some minutes on a GPU: "
        f"`python -m bench.worlds.natural.judges.train --domain {domain} --data {data or 'DIR'}`; "
        "or judge without training: "
        f"`--judge {domain}={ALTERNATIVE}`"
    )
