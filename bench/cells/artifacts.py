"""Everything that a run stores, by kind, and what it is computed with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from bench.backbones import folder, pipeline
from bench.backbones.sampler import ImageSpec
from bench.cells import fingerprint, judges
from bench.cells.artifact import Report, Stamps, raised
from bench.cells.images import ConceptLatents, Images, NeutralLatents, evaluation_specs
from bench.cells.judges import Judgements, Reference
from bench.cells.probe import Probes, PromptProbes
from bench.cells.scores import Accuracies, Curve, MetricScore
from bench.cells.weights import Snapshot, Weights
from bench.core import digest
from bench.core.device import default_device, describe
from bench.core.store import Store
from bench.plan.plan import Plan

STORE = ".store"  # within a run's --out


class Context:
    """What a run computes with, loaded when first needed: a run that finds everything in the store loads no network.

    Args:
        plan: what to run.
        report: told about progress.
        machine: that computed what the store has, as `bench.core.device.describe` has it; None for this one.
        stamps: what stands in keys for code and machine; None: declared versions, on `machine`.
        content: digest of the backbone; None: of the plan's folder.
        judges_digest: () -> digest of the judges; None: they are loaded for it.
    """

    def __init__(
        self,
        plan: Plan,
        report: Report = lambda what, done, total: None,
        machine: Mapping[str, Any] | None = None,
        stamps: Stamps | None = None,
        content: str | None = None,
        judges_digest: Callable[[], str] | None = None,
    ) -> None:
        self.plan, self.report = plan, report
        self.store = Store(plan.run.out / STORE)
        self.device = default_device()
        self.machine = dict(machine) if machine else _describe(plan, self.device)
        self.stamps = stamps or Stamps(self.machine)
        self.content = folder.content(plan.folder) if content is None else content
        self._judges_digest = judges_digest
        self._backbone: pipeline.Backbone | None = None
        self._known: dict[tuple[str, Hashable], Any] = {}
        wanted = [(concept, spec) for concept in plan.concepts for spec in evaluation_specs(plan, concept)]
        indices = {spec: i for i, spec in enumerate(dict.fromkeys(spec for _, spec in wanted))}
        self.specs: tuple[ImageSpec, ...] = tuple(indices)  # each evaluation image once, though concepts may share it
        self.requested = tuple((concept, indices[spec]) for concept, spec in wanted)  # concept -> index of its image
        asking: dict[str, set[str]] = {}
        for concept in plan.concepts:
            for prompt in plan.world.prompts("evaluate", concept):
                asking.setdefault(prompt, set()).add(concept)
        self.also_requested = tuple(frozenset(asking[spec.prompt]) for spec in self.specs)  # concepts of each image

    @cached_property
    def judges(self) -> judges.Panel:
        """The judges, loaded on first use. Raises WorldUnavailable where one can't be had."""
        return judges.Panel(self.plan.world, self.plan.concepts, self.device)

    @property
    def judges_digest(self) -> str:
        """Digest of the judges. Raises WorldUnavailable where one can't be had."""
        return self.judges.digest if self._judges_digest is None else self._judges_digest()

    @property
    def backbone(self) -> pipeline.Backbone:
        """The pipeline, loaded on first use."""
        if self._backbone is None:
            self.report("loading the backbone", 0, 1)
            run = self.plan.run
            settings = self.plan.protocol.precision, run.compile, run.gradient_checkpointing
            self._backbone = pipeline.load(self.plan.folder, self.device, *settings)
        return self._backbone

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the figures depend on besides the method, in full: a board's fingerprint is its digest."""
        return self._described(raised(self.plan.metrics))

    @cached_property
    def measured(self) -> str:
        """The same for keys of figures, which contain the versions that they depend on themselves."""
        return digest.of_json(self._described({}))

    def _described(self, versions: Mapping[str, Any]) -> dict[str, Any]:
        return fingerprint.describe(self.plan, self.judges_digest, self.content, self.machine, versions)

    def make_room(self) -> None:
        """Take the judges off the device before a training, where they have been loaded."""
        if "judges" in self.__dict__:
            self.judges.offload()

    def release(self) -> None:
        """Give back the memory of a failed computation, on CUDA too, so that the next one has it."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def once(self, what: str, of: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for each (what, of): parts of keys that many cells share."""
        if (what, of) not in self._known:
            self._known[what, of] = make()
        return self._known[what, of]

    def digest_of(self, specs: Sequence[ImageSpec] | None) -> str:
        """Digest of some image specs; None stands for all evaluation images."""
        if specs is None or specs is self.specs:
            return str(self.once("specs", None, lambda: digest.of_json(self.specs)))
        return digest.of_json(specs)

    def elsewhere(self, machine: Mapping[str, Any], stamps: Stamps | None = None) -> Context:
        """The same run as another machine sees it, or under other stamps: for keys, not to compute with."""
        return Context(self.plan, self.report, machine, stamps, self.content, lambda: self.judges_digest)


class Artifacts:
    """Every kind of entry that a run stores, ready to be called with its inputs.

    For example, `artifacts.images(artifacts.weights(cell))` is the entry of a cell's evaluation images, from the
    store or computed now, and `artifacts.images.key(None)` the key of the untouched model's.
    """

    def __init__(self, context: Context) -> None:
        self.context, self.plan, self.store = context, context.plan, context.store
        self.latents = ConceptLatents(context)
        self.neutral_latents = NeutralLatents(context)
        self.weights = Weights(context)
        self.snapshot = Snapshot(context)
        self.images = Images(context)
        self.judgements = Judgements(context)
        self.reference = Reference(context)
        self.probes = Probes(context)
        self.prompt_probes = PromptProbes(context)
        self.accuracies = Accuracies(context)
        self.metric_score = MetricScore(context)
        self.curve = Curve(context)


def _describe(plan: Plan, device: torch.device) -> dict[str, Any]:
    return describe(device, plan.protocol.precision, plan.run.compile, plan.run.gradient_checkpointing)
