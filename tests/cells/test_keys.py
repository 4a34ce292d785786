import dataclasses
from pathlib import Path

import pytest
import torch
from support.tiny import variant

from bench.cells.artifacts import Artifacts, Context
from bench.core.config import RunConfig
from bench.core.store import Entry
from bench.plan.plan import Plan, resolve
from bench.worlds import World
from metrics import METRICS

MACHINE = {"device": "cpu", "dtype": "torch.float32", "versions": {"torch": "2"}}


@pytest.fixture
def plan(world: World) -> Plan:
    return resolve(RunConfig(world="tiny", suite="smoke", methods=("mimmu",)))


def every(plan: Plan, machine: dict = MACHINE, weights: str = "w", panel: str = "p") -> dict[str, object]:
    """A key of each kind."""
    context = Context(plan, machine=machine, content="backbone", judges_digest=lambda: panel)
    artifacts, entry, cell = Artifacts(context), Entry(Path(), {}, weights), plan.cells[-1]
    return {
        "latents": artifacts.latents.key(cell.task.name, 4),
        "delta": artifacts.weights.key(cell),
        "images": artifacts.images.key(entry),
        "judgements": artifacts.judgements.key(entry),
        "probe": artifacts.probes.key(entry, entry, cell.task),
        "words": artifacts.prompt_probes.key(entry, entry, cell.task),
        "reference": artifacts.reference.key(cell.task.name),
        "score": artifacts.metric_score.key(METRICS.get("ua"), cell, entry),
    }


def changed(one: dict[str, object], other: dict[str, object]) -> set[str]:
    return {kind for kind in one if one[kind] != other[kind]}


def test_the_same_run_has_the_same_keys(plan: Plan) -> None:
    assert changed(every(plan), every(plan)) == set()


def test_keys_depend_on_machine_and_library_versions(plan: Plan) -> None:
    everything = {
        "latents",
        "delta",
        "images",
        "judgements",
        "probe",
        "words",
        "reference",
        "score",
    }
    for other in ({"device": "NVIDIA H100"}, {"dtype": "torch.bfloat16"}, {"versions": {"torch": "3"}}):
        assert changed(every(plan), every(plan, MACHINE | other)) == everything


def test_keys_of_figures_depend_on_weights_and_not_on_their_training(plan: Plan) -> None:
    assert changed(every(plan), every(plan, weights="others")) == {"images", "judgements", "probe", "words", "score"}
    assert changed(every(plan), every(plan, panel="others")) == {"judgements", "reference", "score"}


def test_keys_of_figures_depend_on_reference_images_and_distances(plan: Plan) -> None:
    def look(**changes: object) -> set[str]:
        return changed(every(plan), every(dataclasses.replace(plan, world=variant(plan.world, **changes))))

    assert look(reference=lambda concept, count: torch.zeros(count, 3, 64, 64, dtype=torch.uint8)) == {
        "reference",
        "score",
    }
    assert look(closeness=lambda a, b: 0.5) == {"score"}
    assert look(bare_name=lambda concept: "it") == {"score"}
    assert look(superclass_prompts=lambda concept, split="forget": (split,) * 3) == {"delta", "score", "words"}
    assert look(superclass_prompts=lambda concept, split="forget": (split,) * 3 * (split == "evaluate")) == {
        "score",
        "words",
    }
    assert look(domains={**plan.world.domains, "dog": plan.world.domains["dog"][:3]}) == {"score"}


def test_force_applies_to_methods_and_to_named_controls(world: World) -> None:
    def forced(*methods: str, force: bool = True) -> tuple[str, ...]:
        return resolve(RunConfig(methods, "smoke", "tiny", force=force)).recompute

    assert forced("mimmu") == ("mimmu",)
    assert forced("mimmu", "wrecked") == ("wrecked", "mimmu")
    assert set(forced("all")) >= {"mimmu", "salun", "sdd"}
    assert not {"pretrained", "wrecked"} & set(forced("all"))
    assert forced("mimmu", force=False) == ()
