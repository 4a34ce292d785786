"""What authors of a method import: `from methods.base import Method, MethodConfig`."""

from bench.core.guidance import Embed, Guidance, Predict, PredictStep, conditions, predict_each, require_scale
from bench.training.harness import Batch, Harness
from bench.training.method import FIDELITIES, MULTI, PARAMETERS, Given, Method, MethodConfig, require_known

__all__ = [
    "FIDELITIES",
    "MULTI",
    "PARAMETERS",
    "Batch",
    "Embed",
    "Given",
    "Guidance",
    "Harness",
    "Method",
    "MethodConfig",
    "Predict",
    "PredictStep",
    "conditions",
    "predict_each",
    "require_known",
    "require_scale",
]
