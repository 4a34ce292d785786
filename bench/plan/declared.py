"""The files that methods, metrics and worlds declare are read before anything is computed."""

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
    """Read every declared file once. Cache keys need the digests, which this process remembers.

    Args:
        methods: row of the board -> its method.
        configs: row of the board -> the settings of its method.
        metrics: names of metrics.
        world: the world of the run, with its options.

    Raises FileNotFoundError if a declared file does not exist or a declared folder has no files, and ValueError if one
    can't be read or if `files` is of another type.
    """
    for name, method in methods.items():
        declared_files.digests(f"method {name!r}", files_of(name, method, configs[name]))
    for name in metrics:
        declared_files.of_entry(f"metric {name!r}", METRICS.get(name))
    declared_files.of_entry(f"world {world.name!r}", world)
