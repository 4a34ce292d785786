"""Turn the configuration of a run into cells. Every setting is checked before a model is loaded."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bench.backbones import folder
from bench.backbones.folder import noise_of
from bench.backbones.locate import locate
from bench.core import digest, overrides
from bench.core.config import QUICK, Protocol, RunConfig
from bench.core.registry import nearest
from bench.core.task import Task
from bench.plan import declared, given_models, noise_limits, plugins, settings, task_checks, world_checks
from bench.plan.names import method_names, metric_names, named
from bench.plan.settings import PROTOCOL
from bench.suites import SUITES, Request, Suite
from bench.training.method import Given
from bench.worlds import Options, World
from methods import CONTROLS, METHODS, ORACLE, REFERENCES, Method
from methods.base import MethodConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One method, one variant of a method, or one finished model, on one task with one training seed.

    Args:
        given: the file or folder of a finished model, whose weights the cell or the cell before it has; None for a
            method.
    """

    method: str
    config: MethodConfig
    task: Task
    seed: int
    given: Path | None = None

    @property
    def name(self) -> str:
        """The name that users see; unique within a run."""
        return f"{self.method} · {self.task.name} · seed {self.seed}"


@dataclass(frozen=True)
class Variant:
    """A method with some changed settings. Each variant is a row of the board.

    Args:
        of: the name of the method.
        values: field of the method's config -> its value, as text; {} for the usual settings.
    """

    of: str
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name that users see; unique within a run."""
        return " ".join([self.of, *(f"{name}={value}" for name, value in self.values.items())])


@dataclass(frozen=True)
class Plan:
    """A run whose names were all looked up: its world, protocol, tasks, methods, metrics and cells.

    Args:
        tasks: the tasks of the suite in `world`; with `--quick` two of them.
        methods: row -> the class of its method, in the order of the board's rows; a row is a method or a variant.
        metrics: names, in the order of the board's columns.
        cells: seed by seed, then task by task, so that an interrupted run has complete comparisons.
        folder: the backbone, in Stable Diffusion's format.
        variants: row -> the variant that it is, for those of `methods` that are variants.
    """

    run: RunConfig
    world: World
    protocol: Protocol
    tasks: tuple[Task, ...]
    methods: dict[str, type[Method]]
    metrics: tuple[str, ...]
    cells: tuple[Cell, ...]
    folder: Path
    variants: dict[str, Variant] = field(default_factory=dict)

    def base_method(self, name: str) -> str:
        """The name of the method of the row `name`, which is that method or a variant of it."""
        return self.variants[name].of if name in self.variants else name

    @property
    def sample_batch(self) -> int:
        """Number of images in one sampling batch."""
        return self.run.sample_batch or folder.usual_batch(self.folder)

    @property
    def recompute(self) -> tuple[str, ...]:
        """Methods to compute again whatever the store has; controls only where they were asked for by name."""
        asked = self.run.methods if self.run.force else ()
        rows = {n: self.base_method(n) for n in self.methods}
        return tuple(n for n, of in rows.items() if of in asked or (named(of, asked) and of not in CONTROLS))

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept or style that a task evaluates, and the world's extra concepts; in the world's order."""
        evaluated = {concept for task in self.tasks for concept in task.concepts} | {*self.world.extra_concepts}
        return tuple(c for c in (*self.world.concepts, *self.world.styles) if c in evaluated)

    @property
    def curve(self) -> int:
        """Number of checkpoints along each training that are measured, the last included; 0 for no curve."""
        return SUITES.get(self.run.suite).curve if self.run.curve is None else self.run.curve

    def without_model(self, row: str) -> tuple[str, ...]:
        """The names of the tasks for which a row of finished models has no model; () for a method."""
        cells = [cell for cell in self.cells if cell.method == row]
        there = {cell.task.name for cell in cells if cell.given}
        return tuple(task.name for task in self.tasks if task.name not in there) if there else ()

    def learns(self, cell: Cell) -> bool:
        """Whether the cell's unlearned weights are made by a method, from images of concepts."""
        made_before = cell.given or self.base_method(cell.method) in CONTROLS
        return not made_before and self.methods[cell.method].learns()

    def trains(self, cell: Cell) -> bool:
        """Whether the cell trains weights: those of a method, or a model that is trained further."""
        return cell.task.finetune is not None or self.learns(cell)

    def steps(self, cell: Cell) -> int:
        """Number of optimiser steps that the cell's method takes for the request of its task."""
        config, concepts, images = cell.config, len(cell.task.request), self.protocol.forget_images
        alternate = self.methods[cell.method].multi == "alternate"
        batches = config.batches(images) * concepts if alternate else config.batches(images * concepts)
        return config.length(batches, concepts)

    def images(self, concept: str) -> int:
        """Number of evaluation images of a concept."""
        return self._many(concept, self.protocol.images_per_concept, self.protocol.images_per_prompt)

    def curve_images(self, concept: str) -> int:
        """Number of evaluation images of a concept at each checkpoint of a curve."""
        return min(self.protocol.curve_images, self.images(concept))

    def references(self, concept: str) -> int:
        """Number of reference images of a concept."""
        return self._many(concept, self.protocol.reference_per_concept, self.protocol.reference_per_prompt)

    def _many(self, concept: str, each: int | None, per_prompt: int | None) -> int:
        return each if each is not None else (per_prompt or 0) * len(self.world.prompts("evaluate", concept))


def resolve(run: RunConfig) -> Plan:
    """Load the plug-ins, look up every name, check every setting, and find the backbone.

    Raises ValueError (UnknownName and PluginError are subclasses) for a setting that is wrong, FileNotFoundError for a
    backbone that is not there, and WorldUnavailable for a world whose data is missing. Messages are for users.
    """
    if run.force:
        digest.forget()
    plugins.load(run.plugins)
    suite, world = plugins.checked(SUITES, run.suite), settings.world_of(run)
    names, metrics = method_names(run.methods), metric_names(run.metrics, captions=bool(world.captions))
    world_checks.check_presets(world)
    request = requested(run, world, suite)
    request.check(world, suite.one_model)
    suite.check_request(request)
    suite.view(world)  # raises before anything is downloaded
    require_settable("--set", run.overrides, (*names, PROTOCOL))
    require_settable("--sweep", run.sweep, names)
    if run.curve == 0 and suite.curve_reason:
        raise ValueError(
            f"--curve 0 makes no sense for the suite {run.suite!r}: {suite.curve_reason}; leave --curve out for "
            f"{suite.curve} checkpoints, or give at least 2"
        )
    if len(set(run.seeds)) != len(run.seeds) or not run.seeds:
        raise ValueError(f"seeds must be different and at least one, not {run.seeds}")

    protocol = settings.protocol_of(run, world, suite)
    methods = {name: plugins.checked(METHODS, name) for name in names}
    configs = {name: settings.config_of(name, run, world, suite) for name in names}
    variants = swept(names, run, suite)
    alike: dict[tuple[str, MethodConfig], str] = {}  # what a row is -> the first that is it
    for label, variant in variants.items():
        configs[label] = overrides.apply(configs[variant.of], variant.values, variant.of)
        if (other := alike.setdefault((variant.of, configs[label]), label)) != label:
            raise ValueError(f"two rows would be the same: {other!r} and {label!r} have the same settings")
    replaced = {variant.of for variant in variants.values()}
    names = tuple(n for n in names if n not in replaced) + tuple(variants)
    methods = {name: methods[variants[name].of if name in variants else name] for name in names}

    ready = world

    @cache
    def folder() -> Path:
        home = settings.home_of(run, ready)
        source = home.backbone() if home else str(run.backbone)  # it may be in the folder of the data
        verified = home is not None and home.verifies_backbone
        return locate(source, run.backbone_config, run.backbone_weights, verified)

    options = Options(folder, run.data, run.judges, run.neighbours, run.clip, run.force)
    ready = world.configure(options)  # what is wrong with it is said before anything is downloaded
    declared.require(methods, configs, metrics, ready)
    noise_limits.require_fitting(noise_of(folder()), protocol, {name: configs[name] for name in names})
    view, tasks = suite.view(ready), task_checks.tasks_of(suite, ready, request)
    task_checks.check_concepts(view, tasks)
    if run.quick and len(tasks) > QUICK.tasks:
        apart = 1 if any(task.after in tasks for task in tasks) else (len(tasks) - 1) // (QUICK.tasks - 1)
        tasks = tasks[::apart][: QUICK.tasks]
    named = given_models.find(run.models, tasks, run.seeds)
    given_models.check(named, folder())
    given = {**given_models.oracles(view, tasks, run.seeds, folder(), ORACLE in run.methods), **named}
    methods = {name: method for name, method in methods.items() if name != ORACLE or name in given}
    methods |= dict.fromkeys(named, Given)
    configs |= {name: Given.Config() for name in named}
    cells = tuple(
        Cell(name, configs[name], task, seed, given.get(name, {}).get((task.name, seed)))
        for seed in run.seeds
        for task in tasks
        for name in methods
        if name not in given or (task.name, seed) in given[name]
    )
    plan = Plan(run, view, protocol, tasks, methods, metrics, cells, folder(), variants)
    if protocol.noise_seeds:
        for concept in plan.concepts:
            prompts = len(view.prompts("evaluate", concept))
            noise_limits.require_seeds(concept, plan.images(concept), prompts, len(protocol.noise_seeds))
    return plan


def requested(run: RunConfig, world: World, suite: Suite) -> Request:
    """What the run asks a suite to forget: what the user names, or else what the world names, if the suite takes it."""
    if not (run.forget or run.several) and suite.choose_requested is not None:
        return Request(world.requested)
    return Request(run.forget, run.several)


def swept(names: Sequence[str], run: RunConfig, suite: Suite) -> dict[str, Variant]:
    """The variants of the methods `names`, by name: those of `--sweep`, or else those of the suite.

    Raises ValueError if `--set` gives a setting that `--sweep` varies, or one that excludes it.
    """
    for name, fields in run.sweep.items():
        groups = getattr(METHODS.get(name).Config, "ALTERNATIVES", ())
        taken = {one: field for field in fields for group in groups if field in group for one in group}
        for one in run.overrides.get(name, {}):
            if one in fields:
                raise ValueError(f"{name}.{one} is both set and swept: leave out --set {name}.{one}=...")
            if one in taken:
                said = f"--set {name}.{one} comes to nothing beside --sweep {name}.{taken[one]}"
                raise ValueError(f"{said}, which stands in its place: leave one of them out")
    grids = {name: overrides.grid(fields) for name, fields in run.sweep.items()}
    chosen = {**{n: v for n, v in suite.variants.items() if n in names and not run.sweep}, **grids}
    made = [Variant(n, {k: str(v) for k, v in values.items()}) for n, each in chosen.items() for values in each]
    return {variant.name: variant for variant in made}


def require_settable(flag: str, sections: Mapping[str, Iterable[str]], known: Sequence[str]) -> None:
    """Raise ValueError if one of `sections`, as `flag` names them, is not `known` to the run or is a control.

    `sections` maps each section to its fields. A method that trains nothing has no settings of the training.
    """
    for section, fields in sections.items():
        if section not in known:
            raise ValueError(f"{flag} {section}...: nothing called {section!r} in this run; {nearest(section, known)}")
        if section in REFERENCES:
            raise ValueError(f"{flag} {section}...: {section} is a control and has nothing to set")
        method = None if section == PROTOCOL else plugins.checked(METHODS, section)
        if method is None or method.takes_steps():
            continue
        training = {field.name for field in dataclasses.fields(MethodConfig)} - (
            {"teacher"} if method.learns() else set()
        )
        own = [field.name for field in dataclasses.fields(method.Config) if field.name not in training]
        what = "trains nothing" if not method.learns() else "solves a formula and has no training"
        if without_effect := training.intersection(fields):
            raise ValueError(
                f"{flag} {section}.{min(without_effect)}...: {section} {what}, so this setting of the training "
                f"has no effect; {section} has {', '.join(own) or 'no settings'}"
            )
