"""Builds the evidence for metrics from the artifacts of a cell. Optional fields are built on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from bench.cells import probe
from bench.cells.artifact import Artifact
from bench.cells.checks import drawn
from bench.cells.images import Images, caption_specs, headnoun_specs
from bench.cells.judges import Judgements, Reference
from bench.cells.probe import Probes, PromptProbes
from bench.core.store import Entry
from bench.core.task import Task
from bench.suites.neighbours import nearest_neighbour
from bench.worlds import World
from metrics import CaptionImages, Evidence, HeadNouns, Probe
from metrics import PromptProbes as PromptProbeEvidence

if TYPE_CHECKING:
    from bench.cells.artifacts import Context


def gather(context: Context, task: Task, weights: Entry, needs: Collection[str]) -> Evidence:
    """The evidence for `task` from the images of `weights`, with the optional fields of Evidence named in `needs`.

    Raises ValueError for a need that is not an optional field of Evidence.
    """
    unknown = set(needs) - set(OPTIONAL)
    if unknown:
        raise ValueError(f"metrics need unknown evidence {sorted(unknown)}; known: {sorted(OPTIONAL)}")
    extra = {name: OPTIONAL[name](context, task, weights) for name in OPTIONAL if name in needs}
    return _evidence(context, task, weights, **extra)


def along(context: Context, task: Task, weights: Entry | None, whole: bool) -> Evidence:
    """The evidence for one point of a task's curve, without features and latents.

    It has the first `curve_images` evaluation images of each forgotten concept and of each neighbour.

    Args:
        context: the run.
        task: the task.
        weights: the weights at this point; None for the original weights.
        whole: whether to use the entry of all evaluation images of these weights, because the run needs it anyway.
            Otherwise only the images of this point are sampled.
    """
    in_domain = _counted(context, task.in_domain)
    concepts = task.forget + in_domain
    counts = {concept: context.plan.curve_images(concept) for concept in concepts}
    rows = [(c, i) for c in concepts for i in [index for one, index in context.requested if one == c][: counts[c]]]
    keep = list(dict.fromkeys(i for _, i in rows))
    specs = None if whole else tuple(context.specs[i] for i in keep)
    judged = Judgements(context)(Images(context)(weights, specs), specs).tensors()
    requested, images = tuple(c for c, _ in rows), tuple(i for _, i in rows)
    indices = images if whole else [keep.index(i) for i in images]
    return Evidence(
        forget=task.forget,
        in_domain=in_domain,
        out_of_domain=(),
        requested=requested,
        predicted=tuple(context.judges.label(c, judged, i) for c, i in zip(requested, indices, strict=True)),
        counts=counts,
        images=images,
        also_requested=tuple(context.also_requested[i] for i in images),
        nearest=nearest(context.plan.world, task, in_domain),
        labels=context.judges.labels(task.forget),
    )


def _counted(context: Context, concepts: Sequence[str]) -> tuple[str, ...]:
    """The kept concepts that metrics count: without those that the untouched model does not draw."""
    without = drawn.undrawn(context, concepts)
    return tuple(concept for concept in concepts if concept not in without)


def _evidence(context: Context, task: Task, weights: Entry | None, **extra: Any) -> Evidence:
    """The judgements of the evaluation images of the task's concepts, and `extra` fields."""
    images, world = Images(context)(weights), context.plan.world
    judged = Judgements(context)(images).tensors()
    rows = [(concept, i) for concept, i in context.requested if concept in (*task.concepts, *world.extra_concepts)]
    requested, keep = tuple(concept for concept, _ in rows), [i for _, i in rows]
    domains = {concept: world.domain_members(concept) for concept in task.forget}
    known = (*task.concepts, *world.extra_concepts)
    in_domain = _counted(context, task.in_domain)
    whole = (*task.forget, *world.extra_concepts)
    ids = {c: world.reference_names(c, None if c in whole else context.plan.references(c)) for c in known}
    return Evidence(
        forget=task.forget,
        in_domain=in_domain,
        out_of_domain=_counted(context, task.out_of_domain),
        requested=requested,
        predicted=tuple(context.judges.label(c, judged, i) for c, i in zip(requested, keep, strict=True)),
        counts={concept: context.plan.images(concept) for concept in dict.fromkeys(requested)},
        images=tuple(keep),
        also_requested=tuple(context.also_requested[i] for i in keep),
        held_out=world.extra_concepts,
        features=judged["features"][keep],
        penultimate=context.judges.penultimate(requested, judged, keep),
        latents=images.tensors("latents")["latents"][keep],
        alignment=judged["clip"][keep] if "clip" in judged else None,
        reference={c: Reference(context)(c).tensors()["features"] for c in known},
        reference_ids={c: names for c, names in ids.items() if names is not None},
        domains=domains,
        nearest=nearest(world, task, in_domain),
        labels=context.judges.labels(task.forget),
        extractor=context.judges.extractor_name,
        **extra,
    )


def _pretrained(context: Context, task: Task, weights: Entry) -> Evidence:
    return _evidence(context, task, None)


def _domain_reference(context: Context, task: Task, weights: Entry) -> dict[str, torch.Tensor]:
    members = dict.fromkeys(m for concept in task.forget for m in context.plan.world.domain_members(concept))
    return {member: Reference(context)(member).tensors()["features"] for member in members}


def nearest(world: World, task: Task, in_domain: Sequence[str] | None = None) -> tuple[str, ...]:
    """For each forgotten concept the nearest of its siblings in `in_domain`; empty without such siblings.

    `in_domain=None` means all kept siblings of the task.
    """
    in_domain = task.in_domain if in_domain is None else in_domain
    if not in_domain:
        return ()
    siblings = world.kept_siblings(task.forget, in_domain)
    return tuple(dict.fromkeys(nearest_neighbour(world, target, siblings[target])[0] for target in task.forget))


def _headnoun(context: Context, task: Task, weights: Entry) -> HeadNouns:
    requested, specs = headnoun_specs(context.plan, task)
    if not specs:
        return HeadNouns()
    judged = Judgements(context)(Images(context)(weights, specs), specs).tensors()
    nouns = {concept: context.plan.world.headnoun(concept) for concept in task.forget}
    return HeadNouns(
        requested=requested,
        predicted=tuple(context.judges.label(concept, judged, i) for i, concept in enumerate(requested)),
        named={concept: noun[1] for concept, noun in nouns.items() if noun},
    )


def _captions(context: Context, task: Task, weights: Entry) -> CaptionImages:
    specs = caption_specs(context.plan)
    judged = Judgements(context)(Images(context)(weights, specs), specs).tensors()
    reference = context.once("caption reference", None, lambda: _caption_reference(context))
    return CaptionImages(judged["features"], reference, judged.get("clip"))


def _caption_reference(context: Context) -> torch.Tensor:
    """Features of the reference images for captions, float32 (R, D)."""
    if (given := context.plan.world.caption_reference()) is not None:
        return context.judges.features(given, [f"reference image {i} for captions" for i in range(len(given))])
    specs = caption_specs(context.plan, again=True)
    return Judgements(context)(Images(context)(None, specs), specs).tensors()["features"]


def _probe(context: Context, task: Task, weights: Entry) -> Probe:
    requested = tuple(concept for concept, _ in context.requested if concept in task.forget)
    return Probe(requested, **Probes(context)(weights, Images(context)(weights), task).tensors())


def _prompt_probes(context: Context, task: Task, weights: Entry) -> PromptProbeEvidence:
    world = context.plan.world
    requested = tuple(concept for concept, _ in context.requested if concept in task.forget)
    distances = PromptProbes(context)(weights, Images(context)(weights), task).tensors()
    looked, logsnr, null = (distances.pop(name) for name in ("looked", "logsnr", probe.NULL))
    has = {
        probe.REST: [c for c in task.forget if world.superclass_prompts(c, "evaluate")],
        probe.NEAR: probe.neighbours(world, task),
    }
    return PromptProbeEvidence(
        requested, null, looked.bool(), logsnr, distances, {name: tuple(concepts) for name, concepts in has.items()}
    )


class EvidenceParts(Artifact[[]]):
    """The code that builds evidence. It stores no entries, but the key of every figure contains its version."""

    name, kind = "evidence", ""


# optional field of Evidence -> function (context, task, weights) that returns its value
OPTIONAL: dict[str, Callable[[Context, Task, Entry], Any]] = {
    "domain_reference": _domain_reference,
    "pretrained": _pretrained,
    "headnoun": _headnoun,
    "prompt_probes": _prompt_probes,  # before "probe": its artifact stores the entry of "probe" too
    "probe": _probe,
    "captions": _captions,
}
