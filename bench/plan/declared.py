"""The files that methods, metrics and worlds declare: whether they are there is checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.core.contents import declared_files
from bench.training.method import files_of
from bench.worlds import World
from methods import Method
from methods.base import MethodConfig
from metrics import METRICS


def require(
    methods: Mapping[str, type[Method]], configs: Mapping[str, MethodConfig], metrics: Iterable[str], world: World
) -> None:
    """Raise FileNotFoundError if a declared file does not exist, and ValueError if `files` is of another type.

    Args:
        methods: row of the board -> its method.
        configs: row of the board -> the settings of its method.
        metrics: names of metrics.
        world: the world of the run.
    """
    for name, method in methods.items():
        files_of(name, method, configs[name])
    for name in metrics:
        declared_files.listed(f"metric {name!r}", METRICS.get(name).files)
    declared_files.listed(f"world {world.name!r}", world.files)
