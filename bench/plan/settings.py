"""The settings of a run: those of the protocol and those of each method.

They come from the defaults, the world, the suite and the changes that the run asks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.core import overrides
from bench.core.config import QUICK, Protocol, RunConfig
from bench.core.flags import defaults_of
from bench.plan import plugins, world_checks
from bench.suites import SUITES, Suite
from bench.worlds import WORLDS, World
from methods import METHODS
from methods.base import MethodConfig

if TYPE_CHECKING:
    from bench.plan.plan import Plan

POCKET = "pocket"  # a world whose backbone can be named too
PROTOCOL = "protocol"  # name of the section of --set for the protocol. The other sections are named after methods


def world_of(run: RunConfig) -> World:
    """The world of the run: a registered one, or that of a file of concepts.

    Raises UnknownName, PluginError, WrongConcepts, and InvalidEntry for a world that can't be used.
    """
    if run.concepts is None:
        return plugins.checked(WORLDS, run.world)
    if run.world != defaults_of(RunConfig)["world"]:
        raise ValueError(f"--concepts is a world of its own: leave out --world {run.world}, or leave out --concepts")
    from bench.worlds.own import world as own

    found = own.read(run.concepts, run.backbone)
    world_checks.check_world(found.name, found)
    return found


def home_of(run: RunConfig, world: World) -> World | None:
    """The world whose default backbone the run uses: its presets and its verified files suit the run.

    `--backbone pocket` names the model of the pocket world. None for another backbone.
    """
    if run.backbone is None or run.concepts is not None:
        return world
    return WORLDS.get(POCKET) if run.backbone == POCKET else None


def protocol_of(run: RunConfig, world: World, suite: Suite) -> Protocol:
    """The world's protocol with the changes of the suite, of --quick and of --set, applied in this order.

    Raises ValueError if a setting does not exist or if its value is invalid.
    """
    protocol = overrides.apply(world.protocol, suite.protocol, PROTOCOL)
    if run.quick:
        smaller = ("images_per_concept", "reference_per_concept")
        usual = {name: getattr(protocol, name) for name in smaller}
        fewer = {name: min(getattr(QUICK, name), n or getattr(QUICK, name)) for name, n in usual.items()}
        protocol = overrides.apply(protocol, fewer, PROTOCOL)
    return overrides.apply(protocol, run.overrides.get(PROTOCOL, {}), PROTOCOL)


def config_of(name: str, run: RunConfig, world: World, suite: Suite) -> MethodConfig:
    """A method's default settings with the changes of the world, of the suite and of --set, applied in this order.

    Raises ValueError if the method does not have a setting or if the value of a setting is invalid.
    """
    # The presets suit the default backbone only. Any other backbone uses the settings of the papers.
    home = home_of(run, world)
    presets = home.presets if home else {}
    config = overrides.apply(plugins.checked(METHODS, name).Config(), presets.get(name, {}), name)
    config = overrides.apply(config, suite.training, name)
    return overrides.apply(config, run.overrides.get(name, {}), name)


def changed(plan: Plan) -> Iterator[tuple[str, str, Any]]:
    """Section, field and value of each setting whose value --set changes.

    A setting is left out if the run would have the same value without --set.
    """
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
