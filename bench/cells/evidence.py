"""What metrics may look at, read from the artifacts of a cell; the optional parts only if a metric needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch

from bench.cells import probe
from bench.cells.artifact import Artifact
from bench.cells.images import Images, headnoun_specs
from bench.cells.judges import Judgements, Reference
from bench.cells.probe import Probes, PromptProbes
from bench.core.store import Entry
from bench.core.task import Task
from bench.suites.neighbours import nearest_neighbour
from bench.worlds import World
from metrics import Evidence, HeadNouns, Probe
from metrics import PromptProbes as PromptProbeEvidence

if TYPE_CHECKING:
    from bench.cells.artifacts import Context


def gather(context: Context, task: Task, weights: Entry, needs: Collection[str]) -> Evidence:
    """The evidence of `task` under `weights`, with those optional fields of Evidence that are in `needs`.

    Raises ValueError for a need that is no optional field.
    """
    unknown = set(needs) - set(OPTIONAL)
    if unknown:
        raise ValueError(f"metrics need {sorted(unknown)}, which is no optional evidence; known: {sorted(OPTIONAL)}")
    extra = {name: OPTIONAL[name](context, task, weights) for name in OPTIONAL if name in needs}
    return _look(context, task, weights, **extra)


def along(context: Context, task: Task, weights: Entry | None, whole: bool) -> Evidence:
    """The evidence of one point of a task's curve: fewer images, of forgotten concepts and their neighbours alone.

    They are the first `curve_images` of each concept, on the same noise as ever. `whole`: these weights have all
    evaluation images in the store, or will have, and no others are drawn. Features and latents are left out.
    """
    concepts = task.forget + task.in_domain
    counts = {concept: context.plan.curve_images(concept) for concept in concepts}
    rows = [(c, i) for c in concepts for i in [place for one, place in context.requested if one == c][: counts[c]]]
    keep = list(dict.fromkeys(i for _, i in rows))
    wanted = None if whole else tuple(context.specs[i] for i in keep)
    seen = Judgements(context)(Images(context)(weights, wanted), wanted).tensors()
    asked, images = tuple(c for c, _ in rows), tuple(i for _, i in rows)
    places = images if whole else [keep.index(i) for i in images]
    return Evidence(
        forget=task.forget,
        in_domain=task.in_domain,
        out_of_domain=(),
        requested=asked,
        predicted=tuple(context.judges.label(concept, seen, i) for concept, i in zip(asked, places, strict=True)),
        counts=counts,
        images=images,
        also_requested=tuple(context.also_requested[i] for i in images),
        nearest=nearest(context.plan.world, task),
        labels=context.judges.labels(task.forget),
    )


def _look(context: Context, task: Task, weights: Entry | None, **extra: Any) -> Evidence:
    """What the panel saw in the evaluation images, cut down to the task's concepts."""
    images, world = Images(context)(weights), context.plan.world
    seen = Judgements(context)(images).tensors()
    rows = [(concept, i) for concept, i in context.requested if concept in (*task.concepts, *world.extra_concepts)]
    asked, keep = tuple(concept for concept, _ in rows), [i for _, i in rows]
    domains = {concept: world.domain_members(concept) for concept in task.forget}
    known = (*task.concepts, *world.extra_concepts)
    whole = (*task.forget, *world.extra_concepts)
    ids = {c: world.reference_names(c, None if c in whole else context.plan.references(c)) for c in known}
    return Evidence(
        forget=task.forget,
        in_domain=task.in_domain,
        out_of_domain=task.out_of_domain,
        requested=asked,
        predicted=tuple(context.judges.label(concept, seen, i) for concept, i in zip(asked, keep, strict=True)),
        counts={concept: context.plan.images(concept) for concept in dict.fromkeys(asked)},
        images=tuple(keep),
        also_requested=tuple(context.also_requested[i] for i in keep),
        held_out=world.extra_concepts,
        features=seen["features"][keep],
        penultimate=context.judges.penultimate(asked, seen, keep),
        latents=images.tensors("latents")["latents"][keep],
        alignment=seen["clip"][keep] if "clip" in seen else None,
        reference={c: Reference(context)(c).tensors()["features"] for c in known},
        reference_ids={c: names for c, names in ids.items() if names is not None},
        domains=domains,
        nearest=nearest(world, task),
        labels=context.judges.labels(task.forget),
        extractor=context.judges.extractor_name,
        **extra,
    )


def _pretrained(context: Context, task: Task, weights: Entry) -> Evidence:
    return _look(context, task, None)


def _kin(context: Context, task: Task, weights: Entry) -> dict[str, torch.Tensor]:
    members = dict.fromkeys(m for concept in task.forget for m in context.plan.world.domain_members(concept))
    return {member: Reference(context)(member).tensors()["features"] for member in members}


def nearest(world: World, task: Task) -> tuple[str, ...]:
    """The neighbour that is closest to each forgotten concept, of those of its own kind that the task keeps."""
    if not task.in_domain:
        return ()
    kin = world.kept_siblings(task.forget, task.in_domain)
    return tuple(dict.fromkeys(nearest_neighbour(world, target, kin[target])[0] for target in task.forget))


def _headnoun(context: Context, task: Task, weights: Entry) -> HeadNouns:
    asked, wanted = headnoun_specs(context.plan, task)
    if not wanted:
        return HeadNouns()
    seen = Judgements(context)(Images(context)(weights, wanted), wanted).tensors()
    nouns = {concept: context.plan.world.headnoun(concept) for concept in task.forget}
    return HeadNouns(
        requested=asked,
        predicted=tuple(context.judges.label(concept, seen, i) for i, concept in enumerate(asked)),
        named={concept: noun[1] for concept, noun in nouns.items() if noun},
    )


def _probe(context: Context, task: Task, weights: Entry) -> Probe:
    asked = tuple(concept for concept, _ in context.requested if concept in task.forget)
    return Probe(asked, **Probes(context)(weights, Images(context)(weights), task).tensors())


def _words(context: Context, task: Task, weights: Entry) -> PromptProbeEvidence:
    world = context.plan.world
    asked = tuple(concept for concept, _ in context.requested if concept in task.forget)
    found = PromptProbes(context)(weights, Images(context)(weights), task).tensors()
    looked, logsnr, null = (found.pop(name) for name in ("looked", "logsnr", probe.NULL))
    has = {
        probe.REST: [c for c in task.forget if world.superclass_prompts(c, "evaluate")],
        probe.NEAR: probe.neighbours(world, task),
    }
    return PromptProbeEvidence(
        asked, null, looked.bool(), logsnr, found, {name: tuple(concepts) for name, concepts in has.items()}
    )


class EvidenceParts(Artifact[[]]):
    """How evidence is read from artifacts. It is not stored; its version is part of every figure's key."""

    name, kind = "evidence", ""


# field of Evidence -> (context, task, weights) -> its value
OPTIONAL: dict[str, Callable[[Context, Task, Entry], Any]] = {
    "domain_reference": _kin,
    "pretrained": _pretrained,
    "headnoun": _headnoun,
    "prompt_probes": _words,  # before the probe, which comes with it
    "probe": _probe,
}
