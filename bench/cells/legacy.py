"""The keys of release 0.1, which contained digests of source code, and their conversion to today's keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.backbones.sampler import ImageSpec
from bench.cells.artifact import Artifact, Key, Stamps
from bench.cells.artifacts import STORE, Artifacts, Context
from bench.cells.images import headnoun_specs
from bench.core.store import Entry, Store
from bench.plan.plan import Cell, Plan
from methods import Method
from metrics import METRICS, Metric

DRAWING = "dc251742aef1c0b5b9289f712b9e04b1222b02aad7fb57119a8f9088e6c531cf"
LOOKING = "286792e410f0a3754a450e7a33fa9bd7bcae53afe112224eee5d8a9ea0cebaf3"
PROBING = "d793a12b285e1d4b9182344c7ceb41da76a39a550cbb40e88e77ce518f216cd7"
TRAINING = "55dd10a4072852549481c5c3fb6e9ff58f6f6a7889765608731f5c8096cbc260"
PICTURES = "9af1d17f186b4482d7020f1c333c647ebd8735e8f2226fa402c1d06f1972a20a"
CURVE = ("ua", "nra", "twin"), "f93ba4d70091529a590ff101c674c02f56b7f6ae3ece05d0e58721fcfa435c59"
STAGES = {
    "latents": DRAWING,
    "images": DRAWING,
    "unrelated": "35b30dabc9ae6f7f5180b179c556ccc0c5a52ecf414dfdf7cd1b04026731a656",
    "finetuning": "5e0d61f3cac24542df4a60578c1d385ef3c63300b52ff8e998dbd5acff57926a",
    "judgements": LOOKING,
    "reference": LOOKING,
    "probes": PROBING,
    "words": PROBING,
}
ESD = "5c632e95c71fefaa52ecb61f58d9c0f5c7a7621f76c97437e22f6f876a020098"
METHODS = {
    "MimMu": "eef96d5521783ad963f4d228997d3791e02618752f7ce16540e0b16a203cedcd",
    "MimMuRetain": "2d5960a847030d260aaff26be48def7ab8b182d4f32f97bc87d330d87984df96",
    "SalUn": "80b1f3acfcf7704e1d253d4d310b9fc4844a3687f9cb39eea0e87a41a849e780",
    "Esd": ESD,
    "EsdU": ESD,
    "Sdd": "32794142e92145eca5445a3f408d7ce8e7d283478a7677c5c55072297b76ace6",
    "Pretrained": "6edfc63c63bfa624e5e6636ddc90bd72fd23dafdcbd7538c0859d4c9e65c672a",
    "Wrecked": "96a511dba74f30937220feec9e56b41fb62da64ec6316b863e1eb18891e958cc",
}
UNLEARNCANVAS = "c35ba7a9074a1ea062e100eefc4af2e18f795b76145ab919eb72b3deeb76fd19"
DRIFT = "d03695bdb8e98ef2daccf6e591d1abbbcc80459c620823f6641cd243a658dee9"
PLAUSIBLE = "f50e6784c6a56153fbb6dfe7151d9545f1bfa9918dca565e7281ced17c38f035"
PID = "065b576ce9eac528ba05385fa47d220c938689868615af398afd3318d29e17b3"
FIGURES = {
    "accuracy": "36469be03e1c758b1caf6bcb0a1ec8f6008cc8faccba41beda1a33be394df6b9",
    "ua": "be18405ee37fa14ae342d4345e8ea0e51f6133d2d10b13c44e3665c47499b8c8",
    "nra": "6bcfa3cd92ba2fe9210ac0dd42aaf8eecd1e428e2c0c7d529e56fb411e2bef84",
    "ora": "d9fa94f54ea0ab9b3be9e2bcae1e82dfbd53c7e69d33fa89f25b2cea2490724a",
    "twin": "149fdfa51bf21a55238505a5f98f877090631bbbeb35e5c366b6b9417246de11",
    "headnoun": "391c58761d356c7d29dd30e9bcfa737221640d2082d118561ede8eaf951b134a",
    "uc_ua": UNLEARNCANVAS,
    "uc_ira": UNLEARNCANVAS,
    "uc_cra": UNLEARNCANVAS,
    "fid": "d4da3588e812ac436fc96c7c71cf60394762aad624b9162898227402e4fa9309",
    "kid": "6e7edaa5646d85b05725dcc8962e5870a86ea717ddf974eeceb99d3c1e57e3a3",
    "clip": "714927512b75e06bf76296f38eec0c4d1f2eab9aa08c127d290b637f935379da",
    "drift": DRIFT,
    "drift_latent": DRIFT,
    "plausible": PLAUSIBLE,
    "plausible_domain": PLAUSIBLE,
    "mi": "79795a317bdf30e32ecf516116fb4e4aa8419c53257fd96019cbf27ba9ec6362",
    "pid_unique": PID,
    "pid_redundant": PID,
    "pid_synergy": PID,
    "pid_shared": PID,
}
UNKNOWN = ""  # digest in the key of an artifact that release 0.1 did not have; no entry has such a key


class LegacyStamps(Stamps):
    """The parts of a key of release 0.1 for code and machine: digests of source text, and versions of all libraries."""

    def of(self, artifact: type[Artifact[...]]) -> Key:
        """The machine with all libraries, and the code of an artifact."""
        more = {"decoder": DRAWING} if artifact.name == "judgements" else {}
        return {"machine": self.machine, "code": STAGES.get(artifact.name, UNKNOWN), **more}

    def of_code(self, artifact: type[Artifact[...]]) -> Any:
        """The code of pictures that show no concept."""
        return PICTURES

    def of_training(self, artifact: type[Artifact[...]], method: type[Method]) -> Key:
        """The same for the weights that `method` trains; the code of a plug-in is not known."""
        known = METHODS.get(method.__qualname__, UNKNOWN) if method.__module__.startswith("methods.") else UNKNOWN
        return {"machine": self.machine, "code": [known, TRAINING]}

    def of_metric(self, metric: Metric, inputs: Iterable[type[Artifact[...]]], more: Key) -> Key:
        """The code of a metric."""
        return {"code": FIGURES.get(metric.name, UNKNOWN)}

    def of_figure(self, name: str, inputs: Iterable[type[Artifact[...]]], version: Any, more: Key | None = None) -> Key:
        """The code of the accuracies of concepts, or of the points of a curve."""
        names, code = CURVE
        if name == "curve":
            return {"code": code if tuple((more or {})["metrics"]) == names else UNKNOWN}
        return {"code": FIGURES.get(name, UNKNOWN)}


def adopt(plan: Plan, machine: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Change the keys of all entries of `plan` from those of release 0.1 to those of today.

    The content of entries does not change, and nothing is computed. An entry that already exists under its new key
    does not change. If a later release created the store, or if it has no weights of the plan under an old key,
    nothing is loaded and nothing is changed.

    Args:
        plan: the plan whose entries are converted.
        machine: the machine that computed the entries, as described by `bench.core.device.describe`; None for this
            machine.

    Returns old name -> new name of each converted entry, as "KIND/DIGEST". Raises WorldUnavailable if a judge can't be
    loaded.
    """
    store = Store(plan.run.out / STORE)
    if not store.may_hold_old_keys():
        return {}
    context = Context(plan, machine=machine)
    new = Artifacts(context)
    old = Artifacts(context.elsewhere(context.machine, LegacyStamps(context.machine)))
    if not any(store.has("deltas", old.weights.key(one)) for cell in plan.cells for one in _chain(cell)):
        return {}
    # in the order of computation: a key may contain the digest of an earlier entry
    renamed = (pair for pair in pairs(old, new) if store.rename(*pair))
    return {_name(store, kind, first): _name(store, kind, second) for kind, first, second in renamed}


def _name(store: Store, kind: str, key: Key) -> str:
    return f"{kind}/{store.path(kind, key).name}"


def pairs(old: Artifacts, new: Artifacts) -> Iterator[tuple[str, Key, Key]]:
    """Kind, old key and new key of each artifact of a plan, whether the store has an entry under the old key or not."""
    for before, after, *inputs in _entries(old, new):
        yield after.kind, before.key(*inputs), after.key(*inputs)


def _entries(old: Artifacts, new: Artifacts) -> Iterator[tuple[Any, ...]]:
    """For each artifact of a plan: the artifact with old keys, the artifact with new keys, and its inputs."""
    plan, protocol = new.plan, new.plan.protocol
    further = [cell.task.finetune.pictures for cell in plan.cells if cell.task.finetune]
    for count in dict.fromkeys((protocol.forget_images, protocol.retain_images, *filter(None, further))):
        for concept in plan.world.concepts + plan.world.styles:
            yield old.latents, new.latents, concept, count
    yield old.neutral_latents, new.neutral_latents, new.neutral_latents.side
    for concept in plan.concepts:
        yield old.reference, new.reference, concept
    yield from _seen(old, new, None, None)
    for cell in plan.cells:
        yield from ((old.weights, new.weights, one) for one in _chain(cell))
        if (weights := new.weights.stored(cell)) is None:
            continue
        points = []
        for part in range(1, plan.curve):
            yield old.snapshot, new.snapshot, cell, part, plan.curve
            points.append(new.snapshot.stored(cell, part, plan.curve))
        yield old.accuracies, new.accuracies, cell, weights
        yield from ((old.metric_score, new.metric_score, METRICS.get(name), cell, weights) for name in plan.metrics)
        if points and None not in points:
            yield old.curve, new.curve, cell, weights, points
        yield from _seen(old, new, weights, None)
        yield from _seen(old, new, weights, headnoun_specs(plan, cell.task)[1])
        if images := new.images.stored(weights):
            yield old.probes, new.probes, weights, images, cell.task
            yield old.prompt_probes, new.prompt_probes, weights, images, cell.task


def _chain(cell: Cell) -> list[Cell]:
    """The cells that lead to a cell's weights, from the first to the cell itself."""
    return [*(_chain(replace(cell, task=cell.task.after)) if cell.task.after else []), cell]


def _seen(
    old: Artifacts, new: Artifacts, weights: Entry | None, specs: Sequence[ImageSpec] | None
) -> Iterator[tuple[Any, ...]]:
    """The same for the images of some weights and for their judgements."""
    yield old.images, new.images, weights, specs
    if images := new.images.stored(weights, specs):
        yield old.judgements, new.judgements, images, specs
