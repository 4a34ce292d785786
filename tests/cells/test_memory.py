"""Memory does not grow from cell to cell."""

import ctypes
import gc
from pathlib import Path

import psutil
import pytest
import torch

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World

MIB = 2**20


def live_tensors() -> int:
    """Bytes of all tensors that Python still holds."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)  # not those that a compiler traces with, which hold nothing
    found = [thing for thing in gc.get_objects() if type(thing) in kinds]
    storages = [tensor.untyped_storage() for tensor in found if tensor.device.type == "cpu"]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.slow
def test_memory_does_not_grow_from_cell_to_cell(world: World, tmp_path: Path) -> None:
    small = {"images_per_concept": "1", "num_inference_steps": "1", "reference_per_concept": "2"}
    overrides = {"mimmu": {"epochs": "1"}, "protocol": small}
    run = RunConfig(("mimmu",), world="tiny", metrics=("ua", "fid", "drift"), overrides=overrides, out=tmp_path)
    plan = resolve(run)
    executor = Executor(plan)
    held, resident = [], []
    libc = ctypes.CDLL(None)
    trims = hasattr(libc, "malloc_trim")  # glibc; elsewhere the resident set jumps by 20 MiB
    for cell in [cell for cell in plan.cells if cell.method == "mimmu"] + list(plan.cells[:1]):
        assert executor.run(cell).status == "ok"
        held.append(live_tensors() / MIB)
        if trims:
            libc.malloc_trim(0)
        resident.append(psutil.Process().memory_info().rss / MIB)
    assert len(held) == 10
    unet = sum(p.numel() * p.element_size() for p in executor.context.backbone.unet.parameters()) / MIB
    pictures = len(executor.context.specs) * 3 * 64 * 64 / MIB
    # From cell 3 to cell 10 the tensors grow by 0.07 MiB, by each forgotten concept's encoded prompts, which are kept.
    # Seven cells that leaked their pictures would add 1.2 MiB, with a copy of the U-Net 11 MiB: half the smaller.
    assert held[9] - held[2] < 7 / 2 * min(unet, pictures)
    # The resident set, once the allocator has given back what is free, grows by less than 0.3 MiB. That sees what holds
    # no tensor, too; of the 11 MiB of seven leaked copies of the U-Net, half is the bound.
    if trims:
        assert resident[9] - resident[2] < 7 / 2 * unet
