"""Results made by hand for tests of tables: several concepts at once, requests in sequence, fine-tunings, sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.results import CellResult, CurvePoint, FinetuningProbe, SequenceStep
from support.results import cell_result, concept, scores

NAMES = ("ua", "nra", "ora", "twin", "drift")
DRIFT = {"drift": 0.1}  # of every concept
USUAL = {"ua": 1.0, "nra": 1.0, "ora": 1.0, "twin": None, "drift": 0.0}


def result(method: str, task: str, forget: Sequence[str], seed: int = 0, **more: Any) -> CellResult:
    """A finished cell; scores `ua`, `nra`, `ora`, `twin`, `drift` in shares may be given by name."""
    values = {name: more.pop(name, usual) for name, usual in USUAL.items()}
    given = {"data": {}} if method == "oracle" else {}
    return cell_result(method, task, seed=seed, forget=tuple(forget), scores=scores(values), **given, **more)


def sequence(
    method: str, uas: Sequence[Mapping[str, float]], chain: str = "abc", seed: int = 0, **more: Sequence[Any]
) -> list[CellResult]:
    """The requests of a sequence: for each the UA, in shares, of every concept forgotten by then, the newest last.

    Two concepts stay: "near", on 10 images, of which NRA is the accuracy, and "far", on 30, of which ORA is.
    """
    out = []
    for i, forgotten in enumerate(uas):
        own = {name: values[i] for name, values in more.items()}
        shown = [concept(name, "forget", 1 - ua, figures=DRIFT) for name, ua in forgotten.items()]
        shown += [
            concept("near", "in_domain", own.get("nra", 1.0), figures=DRIFT),
            concept("far", "out_of_domain", own.get("ora", 1.0), 30, figures=DRIFT),
        ]
        step = SequenceStep(chain, i + 1, len(uas), (list(forgotten)[-1],))
        own = {"ua": sum(forgotten.values()) / len(forgotten), **own, "concepts": tuple(shown), "step": step}
        out.append(result(method, f"{i + 1} {list(forgotten)[-1]} of {chain}", list(forgotten), seed, **own))
    return out


def finetuned(
    method: str, of: str, kind: str, accuracies: Sequence[float], seed: int = 0, steps: int = 200
) -> CellResult:
    """An unlearned model trained further: `kind` is "DATA, HOW" or "N pictures"; accuracies along it in shares."""
    pictures = int(kind.split()[0]) if kind.endswith("pictures") else 0
    data, how = ("concept", "full") if pictures else kind.split(", ")
    last = len(accuracies) - 1
    points = tuple(
        CurvePoint(i / last, scores({"ua": 1 - a, "nra": 0.5, "twin": None}, 8)) for i, a in enumerate(accuracies)
    )
    probe = FinetuningProbe(of, data, how, pictures, steps)
    own = {"band": kind, "probe": probe, "curve": points, "ua": 1 - accuracies[-1]}
    return result(method, f"{of}: {kind}", [of], seed, **own)


def variant(
    task: str, config: Mapping[str, Any], values: Mapping[str, Any], seed: int = 0, **figures: float
) -> CellResult:
    """A cell of a sweep over settings of "mimmu"; `values` are those set, as text, and `config` has them all."""
    name = " ".join(["mimmu", *(f"{k}={v}" for k, v in values.items())])
    texts = {k: str(v) for k, v in values.items()}
    own: dict[str, Any] = {"config": dict(config), "variant": texts, "base_method": "mimmu", **figures}
    return result(name, task, [task], seed, **own)
