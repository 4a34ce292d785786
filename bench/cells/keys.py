"""The keys under which the store has each stage of a cell.

A key contains everything that decides its stage: settings, inputs, the machine with the libraries that the stage uses,
and the version of the code, which `bench.cells.versions` declares. A key must be complete: what is missing from it
leads to stale results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from importlib.metadata import version
from typing import Any

from bench.backbones.sampler import ImageSpec, image_specs
from bench.cells.versions import Stamps
from bench.core import digest
from bench.core.store import Entry
from bench.core.task import Task
from bench.plan import oracle
from bench.plan.plan import Cell, Plan
from bench.training import finetuning, optimizers
from methods import ORACLE


class Keys:
    """The keys of a plan's stages on one machine.

    Args:
        plan: what to run.
        content: digest of the backbone's folder.
        machine: where, as `bench.core.device.describe` has it.
        panel: () -> digest of the judges, which have to be loaded for it.
        stamps: what stands in a key for code and machine; None: the declared versions, on `machine`.
    """

    def __init__(
        self,
        plan: Plan,
        content: str,
        machine: dict[str, Any],
        panel: Callable[[], str],
        stamps: Stamps | None = None,
    ) -> None:
        self.plan, self.content, self.machine, self._panel = plan, content, machine, panel
        self.stamps = stamps or Stamps(machine)
        wanted = [(concept, spec) for concept in plan.concepts for spec in evaluation_specs(plan, concept)]
        places = {spec: i for i, spec in enumerate(dict.fromkeys(spec for _, spec in wanted))}
        self.specs: tuple[ImageSpec, ...] = tuple(places)  # each image once, though several concepts ask for it
        self.asked: tuple[tuple[str, int], ...] = tuple((concept, places[spec]) for concept, spec in wanted)
        asking: dict[str, set[str]] = {}
        for concept in plan.concepts:
            for prompt in plan.world.prompts("evaluate", concept):
                asking.setdefault(prompt, set()).add(concept)
        self.shows = tuple(frozenset(asking[spec.prompt]) for spec in self.specs)  # all that each image is asked for
        self._first: dict[str, dict[str, Any]] = {}
        self._known: dict[tuple[Any, ...], Any] = {}  # what cells share is put in words once

    @cached_property
    def panel(self) -> str:
        """Digest of the judges."""
        return self._panel()

    def _sampled(self, stage: str) -> dict[str, Any]:
        """How a stage draws images with a model."""
        protocol = self.plan.protocol
        names = ("scheduler", "num_inference_steps", "guidance_scale")
        settings = {name: getattr(protocol, name) for name in names}
        # release 0.1 took scales below 1 for 1: what it drew with them must not be found
        below = {"guidance": "formula"} if protocol.guidance_scale < 1 else {}
        return {"backbone": self.content, "sampler": settings, **below, **self.stamps.of(stage)}

    def _once(self, what: str, of: Hashable, make: Callable[[], Any]) -> Any:
        if (what, of) not in self._known:
            self._known[what, of] = make()
        return self._known[what, of]

    def latents(self, concept: str, count: int) -> dict[str, Any]:
        """`count` latents of a concept that methods may learn from."""
        asked = {"prompts": self.plan.world.prompts("forget", concept), "count": count}
        return {**self._sampled("latents"), **asked, "seed": self.plan.protocol.forget_seed}

    def unrelated(self, side: int) -> dict[str, Any]:
        """Latents of pictures that show no concept of any world."""
        drawn = {"unrelated": side, "count": self.plan.protocol.finetune_pictures}
        return {"backbone": self.content, **drawn, **self.stamps.of("unrelated")}

    def delta(self, cell: Cell) -> dict[str, Any]:
        """A cell's weights."""
        key: dict[str, Any] = self._once("delta", cell, lambda: self._delta(cell))
        return key

    def _delta(self, cell: Cell) -> dict[str, Any]:
        task = cell.task
        if cell.method == ORACLE and task.finetune is None:
            file = oracle.require(self.plan.world, task.forget[0])
            return {"backbone": self.content, "oracle": digest.of_file(file)}
        before = {"after": digest.of_json(self.delta(replace(cell, task=task.after)))} if task.after else {}
        made = self._further(task) if task.finetune else self._unlearning(cell)
        asked = {"name": task.name, "task": self._once("task", task, lambda: digest.of_json(task))}
        return {**before, "backbone": self.content, **asked, "seed": cell.seed, **made}

    def _unlearning(self, cell: Cell) -> dict[str, Any]:
        return {
            "method": self.plan.base_method(cell.method),
            "config": self._once("config", cell.config, lambda: digest.plain(cell.config)),
            "learns": self._once("learns", cell.task, lambda: self._learns(cell.task)),
            **self._once("optimizer", cell.config.optimizer, lambda: optimizers.libraries(cell.config.optimizer)),
            **self._once("method", cell.method, lambda: self.stamps.of_training(self.plan.methods[cell.method])),
        }

    def _learns(self, task: Task) -> str:
        """Digest of all that a task gives a method to learn from."""
        world, protocol = self.plan.world, self.plan.protocol
        sets = dict.fromkeys(task.request, protocol.forget_images)
        sets |= dict.fromkeys(task.in_domain + task.out_of_domain, protocol.retain_images)
        given = {
            "rest": {concept: world.superclass_prompts(concept) for concept in task.request},
            "siblings": world.kept_siblings(task.request, task.in_domain),
            "sets": self._sets(sets),
        }
        return digest.of_json(given)

    def _sets(self, counts: Mapping[str, int]) -> dict[str, str]:
        """Concept -> digest of so many latents of it."""

        def one(concept: str, count: int) -> str:
            return str(self._once("latents", (concept, count), lambda: digest.of_json(self.latents(concept, count))))

        return {concept: one(concept, count) for concept, count in counts.items()}

    def _further(self, task: Task) -> dict[str, Any]:
        assert task.finetune
        assert task.after
        protocol = self.plan.protocol
        kept = task.after.in_domain + task.after.out_of_domain
        shown = {
            "retained": dict.fromkeys(kept, protocol.retain_images),
            "concept": dict.fromkeys(task.after.forget, task.finetune.pictures),
            "unrelated": {},
        }[task.finetune.data]
        sets = self._sets(shown)
        return {
            "settings": finetuning.settings(protocol, task.finetune),
            **({"peft": version("peft")} if task.finetune.how == "lora" else {}),
            "sets": sets or self.stamps.of_pictures(),
            **self.stamps.of("finetuning"),
        }

    def snapshot(self, cell: Cell, part: int, parts: int) -> dict[str, Any]:
        """A method's weights after `part` of `parts` equal parts of its training: 2 of 4 are 1 of 2."""
        return {"delta": digest.of_json(self.delta(cell)), "part": Fraction(part, parts).as_integer_ratio()}

    def images(self, weights: Entry | None, wanted: Sequence[ImageSpec] | None = None) -> dict[str, Any]:
        """Images under changed weights, whoever made them; None stands for untouched ones."""
        return {
            **self._sampled("images"),
            "weights": weights.content if weights else "",
            "shots": self._taken(wanted),
            "kept": ["images", "shown", "latents"],
            "seed": self.plan.protocol.evaluation_seed,
        }

    def _taken(self, wanted: Sequence[ImageSpec] | None) -> str:
        """Digest of some specs, or of all."""
        if wanted is None or wanted is self.specs:
            return self._once("shots", None, lambda: digest.of_json(self.specs))
        return digest.of_json(wanted)

    def judgements(self, images: Entry, prompts: Sequence[str]) -> dict[str, Any]:
        """What the panel saw."""
        asked = digest.of_json(prompts)  # latents may be all that is kept of images: the backbone decodes them
        looking = {"panel": self.panel, **self.stamps.of("judgements")}
        return {"images": images.content, "prompts": asked, "backbone": self.content, **looking}

    def probe(self, weights: Entry, images: Entry, wanted: Sequence[ImageSpec]) -> dict[str, Any]:
        """The model's own predictions for some of its images."""
        return {
            "backbone": self.content,
            "weights": weights.content,
            "images": images.content,
            "shots": self._taken(wanted),
            "seed": self.plan.protocol.evaluation_seed,
            "timesteps": self.plan.protocol.probe_timesteps,
            **self.stamps.of("probes"),
        }

    def words(
        self, weights: Entry, images: Entry, wanted: Sequence[ImageSpec], others: Mapping[str, Sequence[str]]
    ) -> dict[str, Any]:
        """The same with `others` in place of their prompts."""
        return {**self.probe(weights, images, wanted), "others": digest.of_json(others), **self.stamps.of("words")}

    def reference(self, concept: str) -> dict[str, Any]:
        """What the panel saw in real pictures of a concept."""
        judged = {"count": self.plan.references(concept), "panel": self.panel}
        return {**self._real(concept), **judged, **self.stamps.of("reference")}

    def score(
        self, task: Task, weights: Entry, fingerprint: str, what: str, stamp: Mapping[str, Any]
    ) -> dict[str, Any]:
        """A figure of a task under some weights.

        `fingerprint` says how all is measured, `stamp` which versions compute the figure.
        """
        return {
            "what": what,
            "fingerprint": fingerprint,
            "weights": [self.content, weights.content],
            "about": self._once("about", task, lambda: digest.of_json(self._about(task))),
            **stamp,
        }

    def _about(self, task: Task) -> dict[str, Any]:
        """What a task's figures depend on besides images and what computes them."""
        world = self.plan.world
        members = {target: world.domain_members(target) for target in task.forget}
        known = dict.fromkeys(
            [*task.concepts, *(member for of in members.values() for member in of), *world.extra_concepts]
        )
        return {
            "task": task,
            "real": [self._real(concept) for concept in known],
            "members": members,
            "aside": world.extra_concepts,
            "words": {
                target: [world.bare_name(target), world.superclass_prompts(target, "evaluate")]
                for target in task.forget
            },
            "distances": {c: {target: world.distances(c, target) for target in task.forget} for c in task.concepts},
        }

    def _real(self, concept: str) -> dict[str, Any]:
        """A concept's real pictures, or the first of them, and how it is asked for: another data set shows there."""
        if concept not in self._first:
            world = self.plan.world
            asked = world.prompts("evaluate", concept)
            if (key := world.reference_key(concept)) is not None:
                first = digest.of_json(key)
            else:
                first = digest.of_tensors({"pictures": world.reference(concept, 2)})
            self._first[concept] = {"concept": concept, "first": first, "asked": asked}
        return self._first[concept]


def evaluation_specs(plan: Plan, concept: str) -> tuple[ImageSpec, ...]:
    """The evaluation images of a concept."""
    return image_specs(plan.world.prompts("evaluate", concept), plan.images(concept), plan.protocol.noise_seeds)
