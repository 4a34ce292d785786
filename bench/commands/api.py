"""The Python interface: compute a board, or measure a finished model, from a notebook or a training script."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from safetensors.torch import save_file

from bench.cells import legacy
from bench.cells.executor import Executor
from bench.commands.arguments import CannotRun, refusing, require_writable
from bench.core.config import RunConfig
from bench.core.flag_values import absolute
from bench.core.registry import nearest
from bench.core.results import CellResult
from bench.core.text.terminal import Description
from bench.engines import Settings
from bench.engines.base import CannotStart
from bench.engines.local import Local
from bench.engines.process_state import restored, without_messages
from bench.plan.plan import Plan, resolve
from bench.plan.plugin_checks import InvalidEntry
from bench.report import write
from bench.report.read import Board, load_board
from bench.report.replacing import require_same_configuration
from bench.worlds import WorldUnavailable

COMPILED = "_orig_mod."  # prefix of the names of tensors in a compiled network
OWN = ("methods", "models")  # fields of RunConfig that `evaluate` fills itself


def run(config: RunConfig, *, workers: int = 1, retries: int = 1, progress: bool = True) -> Board:
    """Compute the board that `config` describes, write its files into `config.out`, and return it.

    Cells in the store are not computed again. If a cell fails, the `status` of its row in `Board.cells` says so. The
    run restores the state of the process when it ends, also after an interrupt
    (`bench.engines.process_state.restored`).

    Args:
        config: the methods, the suite and all settings of the run.
        workers: number of cells to compute in parallel, at least 1. One worker computes in this process. Several
            workers are processes that end with the run.
        retries: how often to try a cell again if its worker dies, at least 0.
        progress: whether to show a progress bar on the standard error. Nothing else is printed.

    Raises ValueError if the run can't be computed, with the message of the command line: a name is unknown, data are
    missing, or the run would replace a board of another configuration. Raises KeyboardInterrupt after an interrupt;
    the store keeps the finished cells.
    """
    with restored(), without_messages():
        with refusing():
            if workers < 1:
                raise ValueError(f"workers must be at least 1, not {workers}")
            plugins = tuple(absolute(str(file)) for file in config.plugins)
            data = config.data and absolute(str(config.data))
            concepts = config.concepts and absolute(str(config.concepts))
            config = dataclasses.replace(config, plugins=plugins, data=data, concepts=concepts, out=Path(config.out))
            require_writable(config.out)
            engine = Local(Settings(workers, retries))
            with _unavailable():
                plan = resolve(config)
            legacy.adopt(plan)
        with _unavailable():
            executor, results = _computed(plan, engine, progress)
        return load_board(write.write(plan, executor, results).path)


def evaluate(
    model: Any,
    *,
    forget: str | Sequence[str],
    world: str = "pocket",
    against: Sequence[str] = ("pretrained",),
    name: str = "model",
    workers: int = 1,
    progress: bool = True,
    **settings: Any,
) -> Board:
    """Measure a finished model from a training script: a board with a row for it, the controls and other methods.

    Args:
        model: a pipeline of Stable Diffusion, its U-Net, or tensors by their names in the U-Net. Of a pipeline the
            U-Net and the text encoder are measured; its VAE must be the backbone's. Only the weights are read.
        forget: the concept that the model has forgotten, or several concepts.
        world: the world that draws and judges.
        against: methods to compute beside it. The untouched model is always there.
        name: name of the model's row.
        workers, progress: as for `run`.
        settings: further fields of `RunConfig`, such as `backbone`, `metrics`, `out` and `quick`.

    Raises ValueError like `run`, for a field that `RunConfig` does not have, and for a model with adapters or without
    tensors.

    Example:
        >>> from bench import evaluate
        >>> board = evaluate(pipeline, forget="tulip", against=("mimmu",))  # doctest: +SKIP
        >>> board.table[["method", "ua", "nra", "changed"]]  # doctest: +SKIP
    """
    concepts = (forget,) if isinstance(forget, str) else tuple(forget)
    against = (against,) if isinstance(against, str) else tuple(against)
    fields = [field.name for field in dataclasses.fields(RunConfig) if field.name not in OWN]
    if unknown := [key for key in settings if key not in fields]:
        raise ValueError(f"evaluate() takes no {unknown[0]!r}: {nearest(unknown[0], fields)}")
    if not concepts:
        raise ValueError("forget is empty; it must be the concept that the model has forgotten, or several")
    if "=" in name:
        raise ValueError(f"the name of the model's row is {name!r}; it must not contain =")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(_weights_of(model), file)
        run_config = RunConfig(
            methods=against or ("pretrained",), world=world, forget=concepts, models=(f"{name}={file}",),
            **{"suite": "finegrained" if len(concepts) == 1 else "multi", **settings},
        )  # fmt: skip
        return run(run_config, workers=workers, progress=progress)


def _weights_of(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of a model, on the CPU, by the names that `bench.backbones.given` reads."""
    parts = {"": model}
    if isinstance(getattr(model, "unet", None), torch.nn.Module):
        prefixes = {"": "unet", "text_encoder.": "text_encoder", "vae.": "vae"}
        parts = {prefix: getattr(model, part, None) for prefix, part in prefixes.items()}
        parts = {prefix: part for prefix, part in parts.items() if part is not None}
    found: dict[str, torch.Tensor] = {}
    for prefix, part in parts.items():
        state = part.state_dict() if isinstance(part, torch.nn.Module) else part
        if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
            entries = state if isinstance(state, Mapping) else {}
            other = [key for key, value in entries.items() if not isinstance(value, torch.Tensor)]
            entry = f", whose entry {other[0]!r} is {type(entries[other[0]]).__name__}" if other else ""
            what = f"{type(part).__name__}{entry}"
            raise ValueError(f"the model must be a pipeline, a U-Net or tensors by name, not {what}")
        if without := [key for key, tensor in state.items() if tensor.is_meta]:
            raise ValueError(f"the tensor {without[0]} has no values in memory (offloading?); load the model whole")
        if adapted := [key for key in state if "base_layer." in key or "lora_" in key]:
            raise ValueError(f"the model has adapters ({adapted[0]}); merge them into its weights first")
        found |= {prefix + key.removeprefix(COMPILED): _copied(t) for key, t in state.items()}
    if not found:
        raise ValueError("the model has no tensors")
    return found


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the CPU in memory of its own, since a safetensors file holds no tensors that share memory."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


@contextmanager
def _unavailable() -> Iterator[None]:
    """Raise CannotRun, a ValueError, if the block raises CannotStart, WorldUnavailable or InvalidEntry."""
    try:
        yield
    except CannotRun:
        raise
    except (CannotStart, WorldUnavailable, InvalidEntry) as error:
        raise CannotRun(str(error)) from error


def _computed(plan: Plan, engine: Local, shown: bool) -> tuple[Executor, list[CellResult]]:
    """The executor, and the result of every cell in the order of the plan."""
    columns = (Description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns, console=Console(stderr=True), disable=not shown, redirect_stdout=False, redirect_stderr=False
    )
    results: dict[int, CellResult] = {}
    with ExitStack() as stack:
        stack.enter_context(bar)
        cells = bar.add_task("cells", total=len(plan.cells))
        executor = Executor(plan)
        require_same_configuration(executor)
        engine.prepare(executor)
        executor.check(references=True)
        found = engine.run(executor, lambda status: None)
        stack.callback(getattr(found, "close", lambda: None))  # ends the workers at once if this block is left early
        for index, result in found:
            results[index] = result
            bar.advance(cells)
    return executor, [executor.outcomes.relabel(plan.cells[i], results[i]) for i in sorted(results)]
