"""The optimisation loop of all stages. It can be resumed, and it runs on one device or in several processes.

Every random choice of step k comes from a generator that is seeded by (seed, k, rank). A run that was killed and
resumed therefore takes the same steps as a run that was not killed. Under `torchrun` the loop averages the gradients
over the processes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from bench.core import device as devices
from bench.worlds.pocket.recipe.settings import Fit

CHECKPOINT_SECONDS = 60.0
Loss = Callable[[int, torch.Generator], Tensor]


def device() -> torch.device:
    """The CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """A context with bf16 if the hardware multiplies bf16 natively. On other hardware bf16 is slower: plain fp32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=devices.multiplies_bf16(device()))


def rank_and_world() -> tuple[int, int]:
    """(rank, number of processes) of a torchrun launch, or (0, 1) without torchrun.

    The first call joins the process group.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), world) if world > 1 else (0, 1)


def share_of(settings: Fit) -> int:
    """The number of images in this process's part of a batch, at least 1."""
    return max(1, settings.batch // rank_and_world()[1])


def rate(fit: Fit, step: int) -> float:
    """The learning rate at `step`."""
    warm = min(1.0, (step + 1) / max(1, fit.warmup))
    begin = fit.decay_from * fit.steps
    t = max(0.0, (step - begin) / max(1.0, fit.steps - begin))
    return fit.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * t)))


def average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """Replace each gradient by its mean over the `world` processes. All gradients go in one message."""
    flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= world
    offset = 0
    for p in parameters:
        if p.grad is not None:
            p.grad.copy_(flat[offset : offset + p.numel()].view_as(p))
            offset += p.numel()


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path` atomically: a reader sees either the whole old file or the whole new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    torch.save(state, draft)
    os.replace(draft, path)


def fit(name: str, model: nn.Module, loss: Loss, settings: Fit, checkpoint: Path) -> dict[str, Any]:
    """Minimise `loss(step, generator)` over the parameters of `model`.

    If the settings have an EMA, `model` has the EMA weights afterwards.

    Args:
        name: the name of the stage, for the progress bar and for errors.
        loss: a function that returns a scalar for one batch. It draws all random numbers from the CPU generator that it
            gets.
        checkpoint: a file. The loop writes it about every minute and at the end. If the file exists, the loop reads it
            and resumes from it.

    Returns a record: the number of steps, the seconds (sum over all resumed parts) and the final running loss.

    Raises FloatingPointError if the loss is not finite.
    """
    rank, world = rank_and_world()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "loss": float("nan")}
    average = {k: v.detach().clone() for k, v in model.state_dict().items()} if settings.ema else None
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device(), weights_only=True)
        model.load_state_dict(state.pop("model"))
        optimiser.load_state_dict(state.pop("optimiser"))
        average = state.pop("ema")
    first, since, saved = state["step"], time.monotonic() - state["seconds"], time.monotonic()
    running = state["loss"]
    bar = tqdm(
        range(first, settings.steps), initial=first, total=settings.steps, desc=name, disable=rank > 0, mininterval=2
    )

    def keep(step: int) -> None:
        weights = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "ema": average}
        if rank == 0:
            save({"step": step, "seconds": time.monotonic() - since, "loss": running, **weights}, checkpoint)

    for step in bar:
        generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + step) * 64 + rank)
        for group in optimiser.param_groups:
            group["lr"] = rate(settings, step)
        value = loss(step, generator)
        value.backward()
        if world > 1:
            average_gradients(parameters, world)
        nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average is not None:
            decay = min(settings.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for k, v in model.state_dict().items():
                    if v.is_floating_point():
                        average[k].lerp_(v, 1 - decay)
                    else:
                        average[k].copy_(v)
        if step % 20 == 0:
            now = float(value.detach())
            if not math.isfinite(now):
                raise FloatingPointError(f"{name}: loss is {now} at step {step}")
            running = now if math.isnan(running) else 0.9 * running + 0.1 * now
            bar.set_postfix(loss=f"{running:.4f}", refresh=False)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            keep(step + 1)
            saved = time.monotonic()
    if first < settings.steps:
        keep(settings.steps)
    if average is not None:
        model.load_state_dict(average)
    return {"steps": settings.steps, "seconds": round(time.monotonic() - since, 1), "loss": round(running, 5)}
