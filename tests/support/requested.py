"""Results made by hand for tests of tables: several concepts at once, requests in sequence, fine-tunings, sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metrics import COSTS

NAMES = ("ua", "nra", "ora", "twin", "drift")
Result = dict[str, Any]


def result(method: str, task: str, forget: Sequence[str], seed: int = 0, **more: Any) -> Result:
    """A finished cell; scores `ua`, `nra`, `ora`, `twin`, `drift` in shares, and `seconds`, may be given by name."""
    scores = {"ua": 1.0, "nra": 1.0, "ora": 1.0, "twin": None, "drift": 0.0}
    scores |= {name: more.pop(name) for name in NAMES if name in more}
    counts = {section: {c.name: 1 for c in COSTS if c.section == section} for section in ("cost", "data")}
    counts["cost"]["seconds"] = more.pop("seconds", 1.0)
    counts |= {"data": {}} if method == "oracle" else {}
    made = {
        "method": method, "fidelity": "published", "task": task, "band": "", "seed": seed, "config": {},
        "fingerprint": "f00d", "status": "ok", "extractor": "x", "compensation": "none", "forget": list(forget),
        "way": "joint", "step": None, "probe": None, "variant": {}, "variant_of": method, **counts, "curve": None,
        "scores": {name: None if value is None else {"value": value, "n": 10} for name, value in scores.items()},
        "concepts": [],
    }  # fmt: skip
    return made | more


def failed(one: Result) -> Result:
    """The same cell, come to nothing."""
    gone = ("scores", "cost", "data", "concepts", "curve", "extractor", "compensation")
    return {k: v for k, v in one.items() if k not in gone} | {"status": "failed", "reason": "NonFiniteLoss: nan"}


def concept(name: str, role: str, accuracy: float, n: int = 10) -> dict[str, Any]:
    """A concept of a cell; accuracy as a share."""
    return {
        "concept": name, "role": role, "distances": {"text": float(role != "forget")}, "judge": 1.0, "judge_n": 60,
        "judged_by": "species", "accuracy": accuracy, "n": n, "drift": 0.1,
    }  # fmt: skip


def sequence(
    method: str, uas: Sequence[Mapping[str, float]], chain: str = "abc", seed: int = 0, **more: Sequence[Any]
) -> list[Result]:
    """The requests of a sequence: for each the UA, in shares, of every concept forgotten by then, the newest last.

    Two concepts stay: "near", on 10 images, of which NRA is the accuracy, and "far", on 30, of which ORA is.
    """
    out = []
    for i, forgotten in enumerate(uas):
        own = {name: values[i] for name, values in more.items()}
        rows = [concept(name, "forget", 1 - ua) for name, ua in forgotten.items()]
        rows += [
            concept("near", "in_domain", own.get("nra", 1.0)),
            concept("far", "out_of_domain", own.get("ora", 1.0), 30),
        ]
        step = {"chain": chain, "number": i + 1, "of": len(uas), "request": [list(forgotten)[-1]]}
        own = {"ua": sum(forgotten.values()) / len(forgotten), **own, "concepts": rows, "step": step}
        out.append(result(method, f"{i + 1} {list(forgotten)[-1]} of {chain}", list(forgotten), seed, **own))
    return out


def finetuned(method: str, of: str, kind: str, accuracies: Sequence[float], seed: int = 0, steps: int = 200) -> Result:
    """An unlearned model trained further: `kind` is "DATA, HOW" or "N pictures"; accuracies along it in shares."""
    pictures = int(kind.split()[0]) if kind.endswith("pictures") else 0
    data, how = ("concept", "full") if pictures else kind.split(", ")
    last = len(accuracies) - 1
    points = [
        {"part": i / last, "scores": {"ua": {"value": 1 - a, "n": 8}, "nra": {"value": 0.5, "n": 8}, "twin": None}}
        for i, a in enumerate(accuracies)
    ]
    probe = {"of": of, "data": data, "pictures": pictures, "how": how, "steps": steps}
    own = {"band": kind, "probe": probe, "curve": points, "ua": 1 - accuracies[-1]}
    return result(method, f"{of}: {kind}", [of], seed, **own)


def variant(task: str, config: Mapping[str, Any], values: Mapping[str, Any], seed: int = 0, **scores: float) -> Result:
    """A cell of a sweep over settings of "mimmu"; `values` are those set, as text, and `config` has them all."""
    name = " ".join(["mimmu", *(f"{k}={v}" for k, v in values.items())])
    texts = {k: str(v) for k, v in values.items()}
    own: dict[str, Any] = {"config": dict(config), "variant": texts, "variant_of": "mimmu", **scores}
    return result(name, task, [task], seed, **own)
