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
import metrics.base
from bench.backbones.pipeline import Backbone
from bench.worlds import World
from metrics import Evidence

PACKAGES = (bench.training, methods)
MODULES = [
    *(f"{package.__name__}.{module.name}" for package in PACKAGES for module in pkgutil.iter_modules(package.__path__)),
    "bench.core.guidance",
    "bench.core.registry",
    "bench.core.score",
    "bench.worlds.base",
    "metrics.base",
    "metrics.probes",
]
# What authors of methods and metrics use: each has an example of its own.
INTERFACE = (
    "bench.core.guidance.require_scale",
    "bench.core.registry.Registry",
    "bench.core.score.Score",
    "bench.training.forget_set.Batch",
    "bench.training.harness.Harness",
    "bench.training.prompts.Prompts.anchor_embeds",
    "bench.training.harness.Harness.choose",
    "bench.training.harness.Harness.forget_batches",
    "bench.training.harness.Harness.noised",
    "bench.training.harness.Harness.retain_batch",
    "bench.training.harness.Harness.sampled",
    "bench.training.prompts.Prompts.subject_states",
    "bench.training.prompts.Prompts.superclass_embeds",
    "bench.training.loop.TrainConfig",
    "bench.training.loop.unlearn",
    "bench.training.method.Method",
    "bench.training.method.MethodConfig",
    "bench.training.method.require_known",
    "bench.training.student_teacher.StudentTeacher",
    "bench.training.student_teacher.StudentTeacher.null_embeds",
    "bench.worlds.base.World",
    "metrics.base.Evidence",
    "metrics.base.Evidence.accuracy",
    "metrics.base.Evidence.features_of",
    "metrics.base.Evidence.mean",
    "metrics.base.Evidence.require",
    "metrics.base.Evidence.retained",
    "metrics.base.Evidence.rows",
    "metrics.base.Metric",
    "metrics.base.MissingEvidence",
    "metrics.base.require_counts",
    "metrics.probes.HeadNouns",
    "metrics.probes.Probe",
    "metrics.probes.PromptProbes",
)


def examples() -> Iterator[doctest.DocTest]:
    for name in MODULES:
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            if test.examples:
                yield test


EXAMPLES = {test.name: test for test in examples()}


def example_evidence() -> Evidence:
    """The evidence that the example of Evidence makes; other examples of metrics.base read it."""
    names = dict(vars(metrics.base))
    exec(EXAMPLES["metrics.base.Evidence"].examples[0].source, names)
    return names["evidence"]


def test_interface_of_plugins_has_an_example_each() -> None:
    assert set(INTERFACE) <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_its_docstring_shows(name: str, make: Make, model: Backbone, world: World) -> None:
    concept = world.concepts[0]
    prompts = tuple(prompt.replace(concept, "dog") for prompt in world.prompts("forget", concept))
    harness = make(superclass_prompts={concept: prompts})
    test, printed = EXAMPLES[name], io.StringIO()
    test.globs.update(
        torch=torch,
        backbone=model,
        tokenizer=model.pipeline.tokenizer,
        harness=harness,
        method=method(epochs=2),
        evidence=example_evidence(),
    )
    results = doctest.DocTestRunner().run(test, out=printed.write)
    assert results.failed == 0, printed.getvalue()
