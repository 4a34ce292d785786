"""A backend of `torch.compile` that says what was compiled and what ran compiled. It needs no compiler."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch


class Backend:
    """Runs the traced operations as they are, so it takes the tracing, the guards and the choice of code from torch.

    Args:
        marks: whether results show which code they came from: code for one shape is off by a thousandth, and code for
            any shape by two.

    Attributes:
        compiled: for each compilation, whether its code is for any shape.
        runs: how often compiled code ran.
    """

    def __init__(self, marks: bool = False) -> None:
        self.marks, self.compiled, self.runs = marks, list[bool](), 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        dynamic = any(isinstance(one, torch.SymInt) for one in inputs)
        self.compiled.append(dynamic)

        def run(*args: Any) -> Any:
            self.runs += 1
            results = graph.forward(*args)
            return [one * (1.002 if dynamic else 1.001) for one in results] if self.marks else results

        return run

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every module that is compiled use this backend."""
        compile = torch.nn.Module.compile
        monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(compile, backend=self))
