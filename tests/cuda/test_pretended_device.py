"""The pretended CUDA device obeys the rules of a GPU, and counts its work."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from support import pretended
from support.pretended import CPU, CUDA
from torch.utils.checkpoint import checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def account() -> Iterator[pretended.Account]:
    with pretended.cuda() as kept:
        yield kept


def fused_adam_on_gradients_of_another_layout() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3, 3, 3, device="cuda"))
    weight.grad = torch.ones(2, 3, 3, 3, device="cuda").to(memory_format=torch.channels_last)
    torch.optim.Adam([weight], fused=True).step()


REFUSED: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "addition": lambda here, there: here + there,
    "product": lambda here, there: there @ here,
    "concatenation": lambda here, there: torch.cat([here, there]),
    "in place": lambda here, there: here.add_(there),
    "a number of the CPU changed in place": lambda here, there: torch.ones(()).add_(there.sum()),
    "indices on the device": lambda here, there: here[there.long()],
    "values of the CPU stored": lambda here, there: there.index_put_((torch.tensor([0]),), here[:1]),
    "network on the CPU": lambda here, there: torch.nn.Linear(3, 3)(there),
    "np.asarray": lambda here, there: np.asarray(there),
    "numpy()": lambda here, there: there.numpy(),
    "generator of the CPU": lambda here, there: torch.randn(2, generator=torch.Generator(), device="cuda"),
    "generator of the CPU, in place": lambda here, there: there.normal_(generator=torch.Generator()),
    "generator of the device": lambda here, there: torch.randn(2, generator=torch.Generator("cuda")),
    "a second device": lambda here, there: here.to("cuda:1"),
    "layout": lambda here, there: fused_adam_on_gradients_of_another_layout(),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_what_a_gpu_refuses_is_refused(account: pretended.Account, refused: Callable[..., object]) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"device|generator|numpy|layout"):
        refused(torch.ones(3, 3), torch.ones(3, 3, device="cuda"))


def test_what_a_gpu_allows_is_allowed(account: pretended.Account) -> None:
    there = torch.ones(3, 3, device="cuda")
    assert (there * torch.tensor(2.0)).device == CUDA
    assert there[torch.tensor([0, 1])].is_cuda
    assert torch.zeros(3, 3).copy_(there).device == CPU
    with torch.no_grad():
        assert torch.nn.Linear(3, 3).weight.copy_(there).device == CPU
    assert torch.is_grad_enabled()
    assert torch.arange(4)[torch.tensor(2, device="cuda")].item() == 2
    assert torch.randn(2, generator=torch.Generator("cuda").manual_seed(1), device="cuda").is_cuda
    assert torch.randn(2, generator=torch.Generator().manual_seed(1)).device == CPU
    assert torch.tensor([1.0], device="cuda").tolist() == [1.0]
    file = io.BytesIO()
    torch.save({"here": there.cpu()}, file)
    file.seek(0)
    assert torch.load(file, map_location="cuda")["here"].is_cuda


def test_gradients_cross_the_devices_and_may_be_computed_twice(account: pretended.Account) -> None:
    weight = torch.ones(3, requires_grad=True)
    there = (weight.to("cuda") * 2).square()
    there.sum().backward()
    assert weight.grad is not None
    assert weight.grad.device == CPU
    assert weight.grad.tolist() == [8.0] * 3
    network = torch.nn.Linear(3, 1, bias=False).to("cuda")
    checkpoint(network, torch.ones(1, 3, device="cuda"), use_reentrant=False).sum().backward()
    assert network.weight.is_cuda
    assert network.weight.grad.tolist() == [[1.0] * 3]


def test_autocast_casts_by_the_lists_of_cuda(account: pretended.Account) -> None:
    there = torch.ones(4, 4, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        product = there @ there
        assert torch.is_autocast_enabled("cuda")
        assert product.dtype == torch.bfloat16
        for of_few_bits in (product.softmax(1), torch.nn.functional.layer_norm(product, (4,)), product.sum()):
            assert of_few_bits.dtype == torch.float32
        assert torch.nn.functional.silu(product).dtype == torch.bfloat16


def test_layouts_are_those_of_cuda(account: pretended.Account) -> None:
    there = torch.rand(2, 4, 3, 3).to(memory_format=torch.channels_last).to("cuda")
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert torch.nn.GroupNorm(2, 4).to("cuda")(there).is_contiguous()
    assert torch.nn.Conv2d(4, 4, 1).to("cuda").to(memory_format=torch.channels_last).weight.is_cuda


def test_launches_waits_and_bytes_are_counted(account: pretended.Account) -> None:
    there = torch.ones(100, 100, device="cuda")
    assert account.now == account.peak == -(-100 * 100 * 4 // 512) * 512
    account.clear()
    (there + there).view(-1)[:5]
    assert account.launches == {"add.Tensor": 1}
    assert not account.waits
    there.sum().item()
    there[there > 0]
    there.cpu()
    there.to("cpu", non_blocking=True)
    torch.cuda.synchronize()
    lines = [line for line, _ in account.waits]
    assert all(line.startswith("tests/cuda/test_pretended_device.py:") for line in lines)
    assert sorted(reason for _, reason in account.waits) == ["_local_scalar_dense", "cpu()", "index", "synchronize"]
    peak = torch.cuda.max_memory_allocated()
    del there
    assert account.now == 0 < peak == account.peak


def test_copy_that_is_read_too_early_is_garbage(account: pretended.Account) -> None:
    there = torch.ones(3, device="cuda")
    copies = [there.to("cpu", non_blocking=True), torch.empty(3, pin_memory=True), torch.zeros(3).pin_memory()]
    for pinned in copies[1:]:
        assert pinned.is_pinned()
        pinned.copy_(there, non_blocking=True)
    assert all(copy.isnan().all() for copy in copies)
    assert not account.waits
    torch.cuda.Event().synchronize()
    assert all(torch.equal(copy, torch.ones(3)) for copy in copies)
    assert torch.zeros(3).copy_(there, non_blocking=True).tolist() == [1.0] * 3  # this memory is not pinned
    assert account.waits.total() == 2


def test_compiled_code_and_graphs_say_that_they_need_a_gpu(account: pretended.Account) -> None:
    for needs in (
        torch.compile(lambda: None),
        torch.compile()(lambda: None),
        torch.nn.Linear(1, 1).compile,
        torch.cuda.CUDAGraph,
        lambda: torch.cuda.graph(None),
        lambda: torch.cuda.make_graphed_callables(torch.nn.Linear(1, 1), ()),
    ):
        with pytest.raises(pretended.NotDrivable, match=r"can't run (torch.compile|CUDA graphs): switch it off"):
            needs()


def test_device_is_gone_after_its_block() -> None:
    before = torch.cuda.is_available(), torch.Tensor.to, torch.autocast
    with pretended.cuda():
        assert torch.cuda.is_available()
        with pytest.raises(RuntimeError, match="already"), pretended.cuda():
            pass
    assert (torch.cuda.is_available(), torch.Tensor.to, torch.autocast) == before
    assert (torch.ones(2) + torch.ones(2)).tolist() == [2.0, 2.0]
