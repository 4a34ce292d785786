"""What authors of a method import: `from methods.base import Method, MethodConfig`."""

from bench.core.digest import added
from bench.core.guidance import Embed, Guidance, Predict, PredictStep, conditions, predict_each, require_scale
from bench.core.overrides import require_at_least
from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.method import (
    FIDELITIES,
    MULTI,
    PARAMETERS,
    TAGS,
    Given,
    Method,
    MethodConfig,
    require_known,
)

__all__ = [
    "FIDELITIES",
    "MULTI",
    "PARAMETERS",
    "TAGS",
    "Batch",
    "Embed",
    "Given",
    "Guidance",
    "Harness",
    "Method",
    "MethodConfig",
    "Predict",
    "PredictStep",
    "added",
    "conditions",
    "predict_each",
    "require_at_least",
    "require_known",
    "require_scale",
]
