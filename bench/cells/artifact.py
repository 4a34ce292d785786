"""The base class of artifacts. For each kind of entry in the store, a subclass defines its key and its computation.

Increase the version of a class when the numbers that it computes change. Then its entries, and all entries that depend
on them, are computed again. Keep the version when the numbers stay the same: a comment, a rename or a moved function
makes no entry invalid. `stages.lock` records the version and the code of each class, and a test compares them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec

import torch

from bench.core import digest
from bench.core.contents import declared_files, source_files
from bench.core.store import Entry
from bench.worlds import WORLDS, World
from methods import METHODS, Method
from metrics import METRICS, Metric

if TYPE_CHECKING:
    from bench.cells.artifacts import Context

Key = dict[str, Any]
StageOutput = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]  # tensors and facts of an entry
Report = Callable[[str, int, int], None]  # called with the name of the current step, the number done and the total
Inputs = ParamSpec("Inputs")

FIRST = 1  # the first version of every artifact; fingerprints contain only later versions
NETWORKS = ("torch", "diffusers", "transformers", "numpy")  # packages that run the diffusion model
JUDGES = ("torch", "transformers", "timm", "torch-fidelity", "open_clip_torch", "torchvision")  # that run the judges

ARTIFACTS: dict[str, type[Artifact[...]]] = {}  # every subclass of Artifact, by name


class Artifact(Generic[Inputs]):
    """One kind of entry in the store. A call with the inputs returns the entry from the store, or computes it now.

    Class attributes:
        name: name of the artifact in `stages.lock`, and in the keys of artifacts that are computed from it.
        kind: name of its folder in the store.
        version: a number that a developer increases when the computed numbers change.
        libraries: packages whose code computes the entry. Their versions are part of its key.

    `key` must return everything that affects the entry. `compute` takes the same inputs. For example:

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
        cls.version = vars(cls).get("version", FIRST)  # a class does not inherit the version of its base class
        if "name" in vars(cls):  # a base class of several artifacts has none
            ARTIFACTS.setdefault(cls.name, cls)

    def __init__(self, context: Context) -> None:
        self.context, self.store, self.plan = context, context.store, context.plan

    def key(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Key:
        """The cache key of the entry."""
        raise NotImplementedError

    def compute(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> StageOutput:
        """Compute the entry: its tensors and facts."""
        raise NotImplementedError

    def __call__(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Entry:
        """The entry from the store, or computed now. Raises every exception that `compute` raises."""
        return self.store.get_or_compute(self.kind, self.key(*inputs, **named), lambda: self.compute(*inputs, **named))

    def stored(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Entry | None:
        """The entry if the store has it, otherwise None; its tensors are not verified."""
        return self.store.get(self.kind, self.key(*inputs, **named), verify=False)

    def path(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> Path:
        """Folder of the entry, whether it exists or not."""
        return self.store.path(self.kind, self.key(*inputs, **named))

    def drop(self, *inputs: Inputs.args, **named: Inputs.kwargs) -> None:
        """Remove the entry from the store."""
        self.store.drop(self.kind, self.key(*inputs, **named))

    def stamp(self) -> Key:
        """The part of the key for the code that computes this artifact and the machine that runs it."""
        return self.context.stamps.of(type(self))


class Stamps:
    """The parts of keys for the code that computes an artifact and the machine that runs it.

    Args:
        machine: the machine, as described by `bench.core.device.describe`.
    """

    def __init__(self, machine: Mapping[str, Any]) -> None:
        self.machine = machine

    def of(self, artifact: type[Artifact[...]]) -> Key:
        """The machine with the versions of the libraries that an artifact uses, and the version of the artifact."""
        return {"machine": self._machine(artifact), "version": artifact.version}

    def of_training(self, artifact: type[Artifact[...]], method: type[Method]) -> Key:
        """The same for the weights that `method` trains, with the version of the method."""
        return {"machine": self._machine(artifact), "version": [artifact.version, of_method(method)]}

    def of_code(self, artifact: type[Artifact[...]]) -> Any:
        """Only the version, for an artifact that does not depend on the machine."""
        return {artifact.name: artifact.version}

    def of_metric(self, metric: Metric, inputs: Iterable[type[Artifact[...]]], more: Key) -> Key:
        """The versions that affect a metric: those of the artifacts `inputs`, of the metric itself, and `more`."""
        return self.of_figure("metric", inputs, of_metric(metric), more)

    def of_figure(self, name: str, inputs: Iterable[type[Artifact[...]]], version: Any, more: Key | None = None) -> Key:
        """The versions that affect a figure: those of the artifacts `inputs`, its own as `name`, and `more`."""
        return {"version": {**{one.name: one.version for one in inputs}, name: version, **(more or {})}}

    def _machine(self, artifact: type[Artifact[...]]) -> Key:
        versions = {name: n for name, n in self.machine["versions"].items() if name in artifact.libraries}
        return {**self.machine, "versions": versions}


def raised(metrics: Iterable[str]) -> Key:
    """Name -> version of every artifact, and of every one of `metrics`, whose version is not the first one.

    The version of a plug-in's metric is its source.
    """
    versions = {name: artifact.version for name, artifact in ARTIFACTS.items()}
    versions |= {f"metric {metric.name}": of_metric(metric) for metric in map(METRICS.get, metrics)}
    return {name: number for name, number in versions.items() if number != FIRST}


def of_method(method: type[Method]) -> Any:
    """The version of a method for keys.

    For a method of Lethe this is its declared version. For a plug-in it is the digest of its source code, the versions
    of Lethe's methods that are its base classes, and the digests of Lethe's modules in `methods` that it imports from.
    """
    if _ours(method.__module__, "methods"):
        return method.version
    lethes = [one for one in method.__mro__[1:] if _ours(one.__module__, "methods") and issubclass(one, Method)]
    bases = [one for one in lethes if one is not Method]
    modules = modules_of_method(method)
    apart = {"methods", "methods.base", *(one.__module__ for one in bases)}
    return {
        "watched": True,  # without it, weights may be those of a method that left a patch, and so measured the original
        "source": source_files.of_modules(modules),
        "bases": {one.__qualname__: one.version for one in bases},
        "uses": _used(modules, "methods", apart),
    }


def of_metric(metric: Metric) -> Any:
    """The version of a metric for keys.

    For a metric of Lethe this is its declared version. For a plug-in it is the digest of its source code, and the
    digests of Lethe's modules in `metrics` that it imports from.
    """
    modules = modules_of(metric)
    files = _files(f"metric {metric.name!r}", metric)
    if modules and all(_ours(name, "metrics") for name in modules) and not files:
        return metric.version
    used = _used(modules, "metrics", {"metrics", "metrics.base", "metrics.column"})
    return {"source": source_files.of_modules(modules), **({"uses": used} if used else {}), **files}


def modules_of_method(method: type[Method]) -> tuple[str, ...]:
    """The modules that define a method: those of its class, its config and their bases, and of the plug-in."""
    return method.__module__, *source_files.inherited(method, method.Config), *METHODS.homes(method)


def modules_of(metric: Metric) -> tuple[str, ...]:
    """The modules that define a metric: those of its functions, and the plug-in that registered it."""
    functions = [one for one in (metric.compute, metric.each) if one is not None]
    names = {name for one in functions if (name := getattr(one, "__module__", None)) in sys.modules}
    return tuple(sorted({str(name) for name in names} | set(METRICS.homes(metric))))


def of_world(world: World) -> Key:
    """The part of a key for the code of a world of a plug-in, and for the files that the world declares.

    The code decides, for example, what a judge does to an image before the network sees it. {} for Lethe's worlds.
    """
    modules = (type(world).__module__, *source_files.inherited(type(world)), *WORLDS.homes(world))
    code = {} if all(_ours(name, "bench") for name in modules) else {"world": source_files.of_modules(modules)}
    return code | _files(f"world {world.name!r}", world)


def _files(owner: str, entry: Metric | World) -> Key:
    """The part of a key for the files that a metric or world declares; {} if it declares none."""
    files = declared_files.of_entry(owner, entry)
    return {"files": files} if files else {}


def plugin_modules(entry: type[Method] | Metric) -> list[str]:
    """Names of the loaded modules of the user that the method or metric of a plug-in comes from; none for Lethe's."""
    if isinstance(entry, Metric):
        named, package = modules_of(entry), "metrics"
    else:
        named, package = modules_of_method(entry), "methods"
    files = [name for name in named if getattr(sys.modules.get(name), "__file__", None) and not _ours(name, package)]
    return [name for name in source_files.closure(files) if name in sys.modules]


def _used(modules: Iterable[str], package: str, apart: set[str]) -> Key:
    """Name -> digest of each module in Lethe's `package` that plug-in modules import from, except those `apart`."""
    names = {name for name in source_files.imported(modules) if _ours(name, package)} - apart
    return {name: digest.of_code(inspect.getsource(sys.modules[name])) for name in sorted(names)}


def _ours(name: str, package: str) -> bool:
    """Whether the module `name` is in Lethe's `package`, and not in a plug-in's package with the same name."""
    if name.partition(".")[0] != package or not getattr(sys.modules[name], "__file__", None):
        return False
    home = Path(inspect.getfile(sys.modules[package])).parent
    return Path(inspect.getfile(sys.modules[name])).is_relative_to(home)
