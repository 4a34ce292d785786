"""What one entry of the store is: a class for each kind says what it is kept under and how it is computed.

Raise a class's version when the numbers that it computes change: then they, and what follows from them, are computed
again. Leave it when they don't: a comment, a rename or a moved function makes no stored result invalid. `stages.lock`
records which code had which version, and a test compares them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec

import torch

from bench.core import digest
from bench.core.store import Entry
from methods import Method
from metrics import METRICS, Metric

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

Key = dict[str, Any]
StageOutput = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]  # tensors and facts, as the store takes them
Report = Callable[[str, int, int], None]  # told what is being done, how much of it is done, of how much
Inputs = ParamSpec("Inputs")

FIRST = 1  # the version that every artifact began with; fingerprints name only other ones
NETWORKS = ("torch", "diffusers", "transformers", "numpy")  # packages that run the model
JUDGES = ("torch", "transformers", "timm", "torch-fidelity", "open_clip_torch", "torchvision")  # that look at images

ARTIFACTS: dict[str, type[Artifact[...]]] = {}  # every class below, by name


class Artifact(Generic[Inputs]):
    """One kind of entry in the store. Call it with its inputs: the entry comes from the store, or is computed now.

    Class attributes:
        name: in keys of what is computed from it, and in `stages.lock`.
        kind: folder of the store.
        version: raised by hand when the numbers change.
        libraries: packages whose code computes it; their versions are part of its key.

    `key` contains everything that affects the entry. `compute` takes the same inputs. For example:

        class Images(Artifact[[Entry | None]]):
            name = kind = "images"
            version = 1
            libraries = NETWORKS

            def key(self, weights): ...
            def compute(self, weights): ...
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    version: ClassVar[int] = FIRST
    libraries: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.version = vars(cls).get("version", FIRST)  # its own, not that of the class that it is derived from
        ARTIFACTS.setdefault(cls.name, cls)

    def __init__(self, context: Context) -> None:
        self.context, self.store, self.plan = context, context.store, context.plan

    def key(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Key:
        """What the entry is kept under."""
        raise NotImplementedError

    def compute(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> StageOutput:
        """The entry's tensors and facts, computed now."""
        raise NotImplementedError

    def __call__(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Entry:
        """The entry from the store, or computed now. Raises what `compute` raises."""
        return self.store.get_or_compute(self.kind, self.key(*inputs, **named), lambda: self.compute(*inputs, **named))

    def stored(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Entry | None:
        """The entry if the store has it; its tensors are not verified."""
        return self.store.get(self.kind, self.key(*inputs, **named), verify=False)

    def path(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Path:
        """Folder of the entry, whether it is there or not."""
        return self.store.path(self.kind, self.key(*inputs, **named))

    def drop(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> None:
        """Remove the entry from the store."""
        self.store.drop(self.kind, self.key(*inputs, **named))

    def stamp(self) -> Key:
        """What stands in a key for the code that computes this, and for the machine that runs it."""
        return self.context.stamps.of(type(self))


class Stamps:
    """What stands in a key for the code that computes an artifact and for the machine that runs it.

    Args:
        machine: as `bench.core.device.describe` has it.
    """

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self.machine = machine

    def of(self, artifact: type[Artifact[...]]) -> Key:
        """The machine with the libraries that an artifact uses, and the artifact's version."""
        return {"machine": self._machine(artifact), "version": artifact.version}

    def of_training(self, artifact: type[Artifact[...]], method: type[Method]) -> Key:
        """The same for weights that `method` makes."""
        return {"machine": self._machine(artifact), "version": [artifact.version, of_method(method)]}

    def of_code(self, artifact: type[Artifact[...]]) -> Any:
        """The version alone, where no machine affects the artifact."""
        return {artifact.name: artifact.version}

    def of_metric(self, metric: Metric, inputs: Iterable[type[Artifact[...]]], more: Key) -> Key:
        """Versions of all that computes a metric from weights: of its inputs, its own, and `more`."""
        return self.of_figure("metric", inputs, of_metric(metric), more)

    def of_figure(self, name: str, inputs: Iterable[type[Artifact[...]]], version: Any, more: Key | None = None) -> Key:
        """Versions of all that computes a figure from weights: of its inputs, its own under `name`, and `more`."""
        return {"version": {**{one.name: one.version for one in inputs}, name: version, **(more or {})}}

    def _machine(self, artifact: type[Artifact[...]]) -> Key:
        versions = {name: n for name, n in self.machine["versions"].items() if name in artifact.libraries}
        return {**self.machine, "versions": versions}


def raised(metrics: Iterable[str]) -> Key:
    """The versions that are not the first, by name: of artifacts, and of `metrics`."""
    found = {name: artifact.version for name, artifact in ARTIFACTS.items()}
    found |= {f"metric {metric.name}": metric.version for metric in map(METRICS.get, metrics)}
    return {name: number for name, number in found.items() if number != FIRST}


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
