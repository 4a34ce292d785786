"""Versions of the code that computes what the store holds. A key contains a version in place of source text.

Raise a version when the numbers that its stage computes change: then the stage, and what follows from it, is computed
again. Leave it when they don't: a comment, a rename or a moved function voids nothing. `stages.lock` remembers which
code had which version, and a test compares them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.core import digest
from methods import Method
from metrics import METRICS, Metric

FIRST = 1  # the version that every stage began with; fingerprints name only other ones

NETWORKS = ("torch", "diffusers", "transformers", "numpy")
JUDGES = ("torch", "transformers", "timm", "torch-fidelity", "open_clip_torch", "torchvision")


@dataclass(frozen=True)
class Stage:
    """How one kind of stage is computed.

    Args:
        version: raised by hand when the numbers change.
        libraries: packages whose code the stage runs; their versions are part of its key.
        computed_by: modules that compute it; `stages.lock` covers these and what they import.
    """

    version: int
    libraries: tuple[str, ...]
    computed_by: tuple[str, ...]


STAGES: dict[str, Stage] = {
    "latents": Stage(1, NETWORKS, ("bench.training.forget_set",)),
    "unrelated": Stage(
        1, ("torch", "diffusers", "numpy", "pillow"), ("bench.training.neutral_pictures", "bench.backbones.vae")
    ),
    "training": Stage(1, NETWORKS, ("bench.cells.weights", "bench.cells.train")),
    "finetuning": Stage(1, NETWORKS, ("bench.cells.weights", "bench.cells.train", "bench.training.finetuning")),
    "images": Stage(1, NETWORKS, ("bench.cells.artifacts", "bench.backbones.sampler")),
    "judgements": Stage(1, ("diffusers", *JUDGES), ("bench.cells.judges", "bench.backbones.sampler")),
    "reference": Stage(1, (*JUDGES, "numpy", "pillow"), ("bench.cells.judges", "bench.cells.artifacts")),
    "probes": Stage(1, NETWORKS, ("bench.cells.probe",)),
    "words": Stage(1, NETWORKS, ("bench.cells.probe",)),
    "evidence": Stage(1, (), ("bench.cells.evidence", "bench.suites.neighbours", "bench.worlds.base")),
    "accuracy": Stage(1, (), ("bench.cells.executor",)),
    "curve": Stage(1, (), ("bench.cells.executor",)),
}
SEEN = ("images", "judgements", "reference", "evidence")  # stages that every figure is computed from
NEEDS = {"probe": ("probes",), "prompt_probes": ("words",)}  # field of Evidence that a metric may need -> its stages


class Stamps:
    """What stands in a key for the code that computes a stage and for the machine that runs it.

    Args:
        machine: as `bench.core.device.describe` has it.
        stages: name -> how it is computed.
    """

    def __init__(self, machine: Mapping[str, Any], stages: Mapping[str, Stage] = STAGES) -> None:
        self.machine, self.stages = machine, stages

    def of(self, stage: str) -> dict[str, Any]:
        """The machine with the libraries that a stage uses, and the stage's version."""
        return {"machine": self._machine(stage), "version": self.stages[stage].version}

    def of_pictures(self) -> Any:
        """What stands for pictures that show no concept, where only their code decides them."""
        return {"unrelated": self.stages["unrelated"].version}

    def of_training(self, method: type[Method]) -> dict[str, Any]:
        """The same for weights that `method` makes."""
        return {"machine": self._machine("training"), "version": [self.stages["training"].version, of_method(method)]}

    def of_figure(self, name: str) -> dict[str, Any]:
        """Versions of all that computes a metric, or the stage called `name`, from weights."""
        if name in self.stages:
            return {"version": {**self._seen(()), name: self.stages[name].version}}
        metric = METRICS.get(name)
        return {"version": {**self._seen(metric.needs), "metric": of_metric(metric)}}

    def of_curve(self, metrics: Iterable[Metric]) -> dict[str, Any]:
        """Versions of all that computes the points of a curve."""
        own = {metric.name: of_metric(metric) for metric in metrics}
        return {"version": {**self._seen(()), "curve": self.stages["curve"].version, "metrics": own}}

    def raised(self, metrics: Iterable[str]) -> dict[str, Any]:
        """The versions that are not the first, by name: of stages, and of `metrics`."""
        found = {name: stage.version for name, stage in self.stages.items()}
        found |= {f"metric {metric.name}": metric.version for metric in map(METRICS.get, metrics)}
        return {name: number for name, number in found.items() if number != FIRST}

    def _machine(self, stage: str) -> dict[str, Any]:
        uses = self.stages[stage].libraries
        versions = {name: number for name, number in self.machine["versions"].items() if name in uses}
        return {**self.machine, "versions": versions}

    def _seen(self, needs: Iterable[str]) -> dict[str, int]:
        names = (*SEEN, *(stage for need in needs for stage in NEEDS.get(need, ())))
        return {name: self.stages[name].version for name in names}


def of_method(method: type[Method]) -> Any:
    """The declared version of one of Lethe's methods; of a plug-in its source code, and what it builds on of Lethe's.

    That are versions of the methods that it takes for a base class, and the code of modules that it takes names from.
    """
    if _ours(method.__module__, "methods"):
        return method.version
    lethes = [one for one in method.__mro__[1:] if _ours(one.__module__, "methods") and issubclass(one, Method)]
    bases = [one for one in lethes if one is not Method]
    beside = modules_beside(method.__module__)
    apart = {"methods", Method.__module__, *(one.__module__ for one in bases)}
    used = {name for module in beside for name in _named_in(module) if _ours(name, "methods")} - apart
    return {
        "source": digest.of_source(*beside),
        "bases": {one.__qualname__: one.version for one in bases},
        "uses": {name: digest.of_code(inspect.getsource(sys.modules[name])) for name in sorted(used)},
    }


def of_metric(metric: Metric) -> Any:
    """The declared version of one of Lethe's metrics; of a plug-in its source code."""
    name = metric.compute.__module__
    return metric.version if _ours(name, "metrics") else {"source": digest.of_source(*modules_beside(name))}


def modules_beside(name: str) -> list[ModuleType]:
    """The module called `name`, and those from beside it that it takes names from, or they do, by name.

    Beside a module of a package is its package; beside a single file are the files of its folder, unless these are
    installed packages.
    """
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {other for one in new for other in _named_in(sys.modules[one]) if _beside(other, name)} - found
    return [sys.modules[one] for one in sorted(found)]


def _named_in(module: ModuleType) -> set[str]:
    """The modules that `module` has names of."""
    values = vars(module).values()
    names = {v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", None) or "" for v in values}
    return {name for name in names if name in sys.modules}


def _beside(one: str, other: str) -> bool:
    if one.partition(".")[0] == other.partition(".")[0]:
        return True
    files = [getattr(sys.modules[name], "__file__", None) for name in (one, other)]
    if not all(files):
        return False
    folder, mine = (Path(str(file)).resolve().parent for file in files)
    return folder == mine and "site-packages" not in folder.parts and "dist-packages" not in folder.parts


def _ours(name: str, package: str) -> bool:
    """Whether a module is in Lethe's own `package`, and not in a plug-in that is called the same."""
    if name.partition(".")[0] != package or not getattr(sys.modules[name], "__file__", None):
        return False
    home = Path(inspect.getfile(sys.modules[package])).parent
    return Path(inspect.getfile(sys.modules[name])).is_relative_to(home)
