"""All artifacts of a run, and the context in which they are computed."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from bench.backbones import folder, pipeline
from bench.backbones.sampler import ImageSpec, seed_of
from bench.cells import fingerprint, judges
from bench.cells.artifact import Report, Stamps, plugin_modules, raised
from bench.cells.images import ConceptLatents, Images, NeutralLatents, evaluation_specs
from bench.cells.judges import Judgements, Reference
from bench.cells.probe import Probes, PromptProbes
from bench.cells.scores import Accuracies, Curve, MetricScore
from bench.cells.weights import Snapshot, Weights
from bench.core import digest, guidance
from bench.core.device import default_device, describe
from bench.core.store import Entry, Store
from bench.plan.plan import Plan
from bench.training import attachment
from bench.training.guard.watch import Watch, seeded, watched
from methods import Method

log = logging.getLogger(__name__)

STORE = ".store"  # the folder of the store within the folder --out of a run


class Context:
    """The plan, store, device, backbone and judges of a run.

    The backbone and the judges are loaded on first use. A run that finds everything in the store does not load them.

    Args:
        plan: the plan of the run.
        report: is called with the progress.
        machine: the machine that computed the entries of the store, as described by `bench.core.device.describe`;
            None for this machine.
        stamps: the parts of keys for code and machine; None for the declared versions and `machine`.
        content: digest of the backbone; None to compute it from the plan's folder.
        judges_digest: () -> digest of the judges; None to load the judges and compute it.
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
        pairs = [(concept, spec) for concept in plan.concepts for spec in evaluation_specs(plan, concept)]
        indices = {spec: i for i, spec in enumerate(dict.fromkeys(spec for _, spec in pairs))}
        self.specs: tuple[ImageSpec, ...] = tuple(indices)  # each evaluation image once; concepts may share an image
        self.requested = tuple((concept, indices[spec]) for concept, spec in pairs)  # concept and index of its image
        concepts_of: dict[str, set[str]] = {}  # prompt -> its concepts
        for concept in plan.concepts:
            for prompt in plan.world.prompts("evaluate", concept):
                concepts_of.setdefault(prompt, set()).add(concept)
        self.also_requested = tuple(frozenset(concepts_of[spec.prompt]) for spec in self.specs)  # for each image

    @cached_property
    def judges(self) -> judges.Judges:
        """The judges, loaded on first use. Raises WorldUnavailable if a judge can't be loaded."""
        return judges.Judges(self.plan.world, self.plan.concepts, self.device)

    @property
    def judges_digest(self) -> str:
        """Digest of the judges. Raises WorldUnavailable if a judge can't be loaded."""
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

    @contextmanager
    def model(self, weights: Entry | None) -> Iterator[pipeline.Backbone]:
        """Within the block, the backbone is the model of `weights`: with its tensors and with what a method attached.

        Everything that samples or looks at a changed model does so in this block. None is the original model. Raises
        LeftBehind if the attachment left something changed that could reach another cell, and every exception of
        `bench.training.attachment.entered`.
        """
        networks, tensors = attachment.split(weights.tensors() if weights else {})
        method, backbone = self._attached(weights), self.backbone
        with backbone.weights(networks):
            if method is None or weights is None:
                yield backbone
                return
            attached = weights.facts[attachment.FACT]
            who, own = f"method {attached['method']!r}, while it acts,", plugin_modules(type(method))
            with (
                self.watched(who, own, {"config": method.config}, seed_of(who), networks=True),
                attachment.entered(method, backbone, attached["concepts"], tensors),
            ):
                yield backbone

    def passes(self, weights: Entry | None) -> int:
        """Forward passes for one image of the model of `weights` in each sampling step; None is the original model."""
        method, scale = self._attached(weights), self.plan.protocol.guidance_scale
        return guidance.passes(scale) if method is None else method.passes(scale)

    def _attached(self, weights: Entry | None) -> Method | None:
        """The method that acts while images of `weights` are sampled, with its settings; None if no method does."""
        attached = weights.facts.get(attachment.FACT) if weights else None
        if attached is None:
            return None
        for cell in self.plan.cells:
            if (
                self.plan.base_method(cell.method) == attached["method"]
                and digest.plain(cell.config) == attached["config"]
            ):
                return self.plan.methods[cell.method](cell.config)
        raise LookupError(f"the run has no row for the attached method {attached['method']!r} with its settings")

    @cached_property
    def solvers(self) -> dict[str, dict[str, str]]:
        """The part of keys for the settings of solvers, as `fingerprint.solvers_of` returns it."""
        return fingerprint.solvers_of(self.plan)

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that the figures depend on besides the method. The fingerprint of a board is its digest."""
        return self._described(raised(self.plan.metrics))

    @cached_property
    def measured(self) -> str:
        """Digest of the same description without versions, for keys of figures. These keys contain their versions."""
        return digest.of_json(self._described({}))

    def _described(self, versions: Mapping[str, Any]) -> dict[str, Any]:
        return fingerprint.describe(self.plan, self.judges_digest, self.content, self.machine, versions)

    @contextmanager
    def watched(
        self,
        who: str,
        own: Iterable[str] = (),
        roots: Mapping[str, Any] | None = None,
        seed: int = 0,
        warn: Callable[[str], None] = log.warning,
        networks: bool = False,
    ) -> Iterator[Watch]:
        """Within the block, code that others wrote computes. Afterwards the process and the networks are as before.

        Args:
            who: whose code it is, for messages.
            own: names of its modules.
            roots: name -> object that the code gets and must not change.
            seed: seed of the global random generators within the block.
            warn: is called with a sentence for each change that was put back and does not matter.
            networks: whether the code gets the networks of the backbone.

        Raises LeftBehind if the block left something changed that could reach another cell.
        """
        watch = Watch(who, self.backbone if networks else None, roots, own)
        with watched(watch, warn, self._forget_backbone):
            seeded(seed)
            yield watch

    def _forget_backbone(self) -> None:
        self._backbone = None

    def make_room(self) -> None:
        """Move the judges from the device to the CPU before a training, if they have been loaded."""
        if "judges" in self.__dict__:
            self.judges.offload()

    def release(self) -> None:
        """Free the memory of a failed computation, also on CUDA, so that the next computation can use it."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def once(self, what: str, of: Hashable, make: Callable[[], Any]) -> Any:
        """The result of `make`, which is called once for each (what, of). It caches parts of keys that cells share."""
        if (what, of) not in self._known:
            self._known[what, of] = make()
        return self._known[what, of]

    def digest_of(self, specs: Sequence[ImageSpec] | None) -> str:
        """Digest of image specs; None means all evaluation images."""
        if specs is None or specs is self.specs:
            return str(self.once("specs", None, lambda: digest.of_json(self.specs)))
        return digest.of_json(specs)

    def elsewhere(self, machine: Mapping[str, Any], stamps: Stamps | None = None) -> Context:
        """The same run with the keys of another machine or other stamps. Nothing may be computed in this context."""
        return Context(self.plan, self.report, machine, stamps, self.content, lambda: self.judges_digest)


class Artifacts:
    """All artifacts of a run.

    For example, `artifacts.images(artifacts.weights(cell))` returns the entry of a cell's evaluation images, from the
    store or computed now. `artifacts.images.key(None)` is the key of the evaluation images of the original model.
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
