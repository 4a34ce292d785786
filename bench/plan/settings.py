"""The settings of a run: the protocol's and each method's, from the world, the suite and what the run changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.core import overrides
from bench.core.config import QUICK, Protocol, RunConfig
from bench.plan import plugins
from bench.suites import SUITES, Suite
from bench.worlds import World
from methods import METHODS
from methods.base import MethodConfig

if TYPE_CHECKING:
    from bench.plan.plan import Plan

PROTOCOL = "protocol"  # the section of --set that is no method


def protocol_of(run: RunConfig, world: World, suite: Suite) -> Protocol:
    """The world's protocol with what the suite, --quick and --set change, in this order.

    Raises ValueError for a setting that there is not, or that makes no sense.
    """
    protocol = overrides.apply(world.protocol, suite.protocol, PROTOCOL)
    if run.quick:
        smaller = ("images_per_concept", "reference_per_concept")
        usual = {name: getattr(protocol, name) for name in smaller}
        fewer = {name: min(getattr(QUICK, name), n or getattr(QUICK, name)) for name, n in usual.items()}
        protocol = overrides.apply(protocol, fewer, PROTOCOL)
    return overrides.apply(protocol, run.overrides.get(PROTOCOL, {}), PROTOCOL)


def config_of(name: str, run: RunConfig, world: World, suite: Suite) -> MethodConfig:
    """A method's settings: its own, with what the world, the suite and --set change, in this order.

    Raises ValueError for a setting that the method does not have, or that makes no sense.
    """
    presets = world.presets if run.backbone is None else {}  # another backbone takes the papers' own settings
    config = overrides.apply(plugins.checked(METHODS, name).Config(), presets.get(name, {}), name)
    config = overrides.apply(config, suite.training, name)
    return overrides.apply(config, run.overrides.get(name, {}), name)


def changed(plan: Plan) -> Iterator[tuple[str, str, Any]]:
    """Section, field and value of each setting that --set gives another value than the run would have without it."""
    run, suite = plan.run, SUITES.get(plan.run.suite)
    usual = dataclasses.replace(run, overrides={})
    for section, fields in run.overrides.items():
        before: Any
        now: Any
        if section == PROTOCOL:
            before, now = protocol_of(usual, plan.world, suite), plan.protocol
        else:
            before, now = (config_of(section, one, plan.world, suite) for one in (usual, run))
        for name in fields:
            if getattr(before, name) != getattr(now, name):
                yield section, name, getattr(now, name)
