"""The examples in docstrings give the output that they show."""

import doctest
import importlib
import io
import pkgutil
from collections.abc import Iterator

import pytest
import torch
from support.towards import Make, method

import bench.training
import methods
from bench.backbones.pipeline import Backbone
from bench.worlds import World

PACKAGES = (bench.training, methods)
MODULES = [
    *(f"{package.__name__}.{module.name}" for package in PACKAGES for module in pkgutil.iter_modules(package.__path__)),
    "bench.core.guidance",
    "bench.core.registry",
    "bench.worlds.base",
    "metrics.base",
]
# What authors of methods and metrics use: each has an example of its own.
INTERFACE = (
    "bench.core.guidance.require_scale",
    "bench.core.registry.Registry",
    "bench.training.harness.Batch",
    "bench.training.harness.Harness",
    "bench.training.harness.Harness.anchor_embeds",
    "bench.training.harness.Harness.choose",
    "bench.training.harness.Harness.forget_batches",
    "bench.training.harness.Harness.noised",
    "bench.training.harness.Harness.retain_batch",
    "bench.training.harness.Harness.sampled",
    "bench.training.harness.Harness.superclass_embeds",
    "bench.training.loop.TrainConfig",
    "bench.training.loop.unlearn",
    "bench.training.method.Method",
    "bench.training.method.MethodConfig",
    "bench.training.method.require_known",
    "bench.training.student_teacher.StudentTeacher",
    "bench.training.student_teacher.StudentTeacher.null_embeds",
    "bench.worlds.base.World",
    "metrics.base.Metric",
)


def examples() -> Iterator[doctest.DocTest]:
    for name in MODULES:
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            if test.examples:
                yield test


EXAMPLES = {test.name: test for test in examples()}


def test_interface_of_plugins_has_an_example_each() -> None:
    assert set(INTERFACE) <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_its_docstring_shows(name: str, make: Make, model: Backbone, world: World) -> None:
    concept = world.concepts[0]
    prompts = tuple(prompt.replace(concept, "dog") for prompt in world.prompts("forget", concept))
    harness = make(superclass_prompts={concept: prompts})
    test, printed = EXAMPLES[name], io.StringIO()
    test.globs.update(torch=torch, backbone=model, harness=harness, method=method(epochs=2))
    results = doctest.DocTestRunner().run(test, out=printed.write)
    assert results.failed == 0, printed.getvalue()
