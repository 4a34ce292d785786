"""What metrics may look at, gathered from a cell's stages: what is optional only if a metric needs it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from bench.cells import probe
from bench.cells.artifacts import Stages
from bench.core.store import Entry
from bench.core.task import Task
from bench.suites.neighbours import nearest_neighbour
from bench.worlds import World
from metrics import Evidence, HeadNouns, Probe, PromptProbes


def gather(stages: Stages, task: Task, weights: Entry, needs: Collection[str]) -> Evidence:
    """The evidence of `task` under `weights`, with those optional fields of Evidence that are in `needs`.

    Raises ValueError for a need that is no optional field.
    """
    unknown = set(needs) - set(OPTIONAL)
    if unknown:
        raise ValueError(f"metrics need {sorted(unknown)}, which is no optional evidence; known: {sorted(OPTIONAL)}")
    extra = {name: OPTIONAL[name](stages, task, weights) for name in OPTIONAL if name in needs}
    return _look(stages, task, weights, **extra)


def along(stages: Stages, task: Task, weights: Entry | None, whole: bool) -> Evidence:
    """The evidence of one point of a task's curve: fewer images, of forgotten concepts and their neighbours alone.

    They are the first `curve_images` of each concept, on the same noise as ever. `whole`: these weights have all
    evaluation images in the store, or will have, and no others are drawn. Features and latents are left out.
    """
    concepts = task.forget + task.in_domain
    counts = {concept: stages.plan.curve_images(concept) for concept in concepts}
    rows = [(c, i) for c in concepts for i in [place for one, place in stages.asked if one == c][: counts[c]]]
    keep = list(dict.fromkeys(i for _, i in rows))
    wanted = None if whole else tuple(stages.specs[i] for i in keep)
    seen = stages.judgements(stages.images(weights, wanted), wanted).tensors()
    asked, images = tuple(c for c, _ in rows), tuple(i for _, i in rows)
    places = images if whole else [keep.index(i) for i in images]
    return Evidence(
        forget=task.forget,
        in_domain=task.in_domain,
        out_of_domain=(),
        requested=asked,
        predicted=tuple(stages.panel.label(concept, seen, i) for concept, i in zip(asked, places, strict=True)),
        counts=counts,
        images=images,
        also_requested=tuple(stages.keys.shows[i] for i in images),
        nearest=nearest(stages.plan.world, task),
        labels=stages.panel.labels(task.forget),
    )


def _look(stages: Stages, task: Task, weights: Entry | None, **extra: Any) -> Evidence:
    """What the panel saw in the evaluation images, cut down to the task's concepts."""
    images, world = stages.images(weights), stages.plan.world
    seen = stages.judgements(images).tensors()
    rows = [(concept, i) for concept, i in stages.asked if concept in (*task.concepts, *world.extra_concepts)]
    asked, keep = tuple(concept for concept, _ in rows), [i for _, i in rows]
    domains = {concept: world.domain_members(concept) for concept in task.forget}
    known = (*task.concepts, *world.extra_concepts)
    whole = (*task.forget, *world.extra_concepts)
    ids = {c: world.reference_names(c, None if c in whole else stages.plan.references(c)) for c in known}
    return Evidence(
        forget=task.forget,
        in_domain=task.in_domain,
        out_of_domain=task.out_of_domain,
        requested=asked,
        predicted=tuple(stages.panel.label(concept, seen, i) for concept, i in zip(asked, keep, strict=True)),
        counts={concept: stages.plan.images(concept) for concept in dict.fromkeys(asked)},
        images=tuple(keep),
        also_requested=tuple(stages.keys.shows[i] for i in keep),
        held_out=world.extra_concepts,
        features=seen["features"][keep],
        penultimate=stages.panel.penultimate(asked, seen, keep),
        latents=images.tensors("latents")["latents"][keep],
        alignment=seen["clip"][keep] if "clip" in seen else None,
        reference={c: stages.reference(c).tensors()["features"] for c in known},
        reference_ids={c: names for c, names in ids.items() if names is not None},
        domains=domains,
        nearest=nearest(world, task),
        labels=stages.panel.labels(task.forget),
        extractor=stages.panel.extractor_name,
        **extra,
    )


def _pretrained(stages: Stages, task: Task, weights: Entry) -> Evidence:
    return _look(stages, task, None)


def _kin(stages: Stages, task: Task, weights: Entry) -> dict[str, torch.Tensor]:
    members = dict.fromkeys(m for concept in task.forget for m in stages.plan.world.domain_members(concept))
    return {member: stages.reference(member).tensors()["features"] for member in members}


def nearest(world: World, task: Task) -> tuple[str, ...]:
    """The neighbour that is closest to each forgotten concept, of those of its own kind that the task keeps."""
    if not task.in_domain:
        return ()
    kin = world.kept_siblings(task.forget, task.in_domain)
    return tuple(dict.fromkeys(nearest_neighbour(world, target, kin[target])[0] for target in task.forget))


def _headnoun(stages: Stages, task: Task, weights: Entry) -> HeadNouns:
    asked, wanted = stages.headnoun_specs(task)
    if not wanted:
        return HeadNouns()
    seen = stages.judgements(stages.images(weights, wanted), wanted).tensors()
    nouns = {concept: stages.plan.world.headnoun(concept) for concept in task.forget}
    return HeadNouns(
        requested=asked,
        predicted=tuple(stages.panel.label(concept, seen, i) for i, concept in enumerate(asked)),
        named={concept: noun[1] for concept, noun in nouns.items() if noun},
    )


def _probe(stages: Stages, task: Task, weights: Entry) -> Probe:
    asked = tuple(concept for concept, _ in stages.asked if concept in task.forget)
    return Probe(asked, **stages.probe(weights, task).tensors())


def _words(stages: Stages, task: Task, weights: Entry) -> PromptProbes:
    world = stages.plan.world
    asked = tuple(concept for concept, _ in stages.asked if concept in task.forget)
    found = stages.words(weights, task).tensors()
    looked, logsnr, null = (found.pop(name) for name in ("looked", "logsnr", probe.NULL))
    has = {
        probe.REST: [c for c in task.forget if world.superclass_prompts(c, "evaluate")],
        probe.NEAR: probe.neighbours(world, task),
    }
    return PromptProbes(
        asked, null, looked.bool(), logsnr, found, {name: tuple(concepts) for name, concepts in has.items()}
    )


# field of Evidence -> (stages, task, weights) -> its value
OPTIONAL: dict[str, Callable[[Stages, Task, Entry], Any]] = {
    "domain_reference": _kin,
    "pretrained": _pretrained,
    "headnoun": _headnoun,
    "prompt_probes": _words,  # before the probe, which comes with it
    "probe": _probe,
}
