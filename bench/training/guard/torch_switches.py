"""The settings of torch."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.utils.deterministic
from torch import overrides
from torch.utils import _device as devices
from torch.utils import _python_dispatch as dispatch

from bench.training.guard.switch import Switch

PRECISIONS = (  # parts of torch.backends with a precision of float32 products
    "cuda.matmul", "cudnn", "cudnn.conv", "cudnn.rnn", "mkldnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn",
)  # fmt: skip
FLAGS = {  # parts of torch.backends -> names of further flags
    "cuda.matmul": (
        "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction", "allow_fp16_accumulation",
    ),
    "cudnn": ("enabled", "benchmark", "deterministic", "benchmark_limit"),
    "mkldnn": ("enabled", "deterministic"),
}  # fmt: skip
SDP = ("flash_sdp", "mem_efficient_sdp", "math_sdp", "cudnn_sdp")  # kernels of torch.backends.cuda for attention
AUTOCAST = ("cpu", "cuda")
COMPILING = ("torch._dynamo.config", "torch._inductor.config")  # modules with the settings of torch.compile
MATMUL, GENERAL = "torch's matmul precision", "torch.backends.fp32_precision"


BACKENDS: Any = torch.backends  # the types of torch lack some of their attributes
DETERMINISTIC: Any = torch.utils.deterministic


def _part(path: str) -> Any:
    return functools.reduce(getattr, path.split("."), BACKENDS)


def _products() -> dict[str, Any]:
    """Everything that decides the precision of float32 products; None where torch can't say, after two ways of setting.

    torch has an older and a newer way to set it, and reading the older one can raise.
    """
    found = {name: _older(functools.partial(getattr, _part(name), "allow_tf32")) for name in ("cuda.matmul", "cudnn")}
    values: dict[str, Any] = {f"torch.backends.{name}.allow_tf32": value for name, value in found.items()}
    values[MATMUL] = _older(torch.get_float32_matmul_precision)
    values[GENERAL] = BACKENDS.fp32_precision
    each = {part: _part(part).fp32_precision for part in PRECISIONS}
    # unset means the same as "ieee" here, and reading and setting the older way turns the one into the other
    each |= {part: "ieee" for part, value in each.items() if part.endswith("matmul") and value == "none"}
    return values | {f"torch.backends.{part}.fp32_precision": value for part, value in each.items()}


def _older(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return None


def _put_products(value: dict[str, Any]) -> None:
    if value[MATMUL] is not None:
        torch.set_float32_matmul_precision(value[MATMUL])
    for part in ("cuda.matmul", "cudnn"):
        if (allowed := value[f"torch.backends.{part}.allow_tf32"]) is not None:
            _part(part).allow_tf32 = allowed
    if BACKENDS.fp32_precision != value[GENERAL]:
        BACKENDS.fp32_precision = value[GENERAL]
    for part in PRECISIONS:
        if _part(part).fp32_precision != value[f"torch.backends.{part}.fp32_precision"]:
            _part(part).fp32_precision = value[f"torch.backends.{part}.fp32_precision"]


def _flags() -> dict[str, Any]:
    return {
        f"torch.backends.{part}.{name}": getattr(_part(part), name)
        for part, names in FLAGS.items()
        for name in names
        if hasattr(_part(part), name)
    }


def _put_flags(value: dict[str, Any]) -> None:
    for name, flag in value.items():
        part, _, attribute = name.removeprefix("torch.backends.").rpartition(".")
        setattr(_part(part), attribute, flag)


def _kernels() -> dict[str, bool]:
    return {f"torch.backends.cuda.{name}": getattr(torch.backends.cuda, f"{name}_enabled")() for name in SDP} | {
        "the fast path of torch.backends.mha": torch.backends.mha.get_fastpath_enabled(),
        "torch.backends.nnpack": torch._C._get_nnpack_enabled(),
    }


def _put_kernels(value: dict[str, bool]) -> None:
    for name in SDP:
        getattr(torch.backends.cuda, f"enable_{name}")(value[f"torch.backends.cuda.{name}"])
    torch.backends.mha.set_fastpath_enabled(value["the fast path of torch.backends.mha"])
    torch._C._set_nnpack_enabled(value["torch.backends.nnpack"])


def _compiling() -> dict[str, dict[str, Any]]:
    """Module -> its settings, for those that are loaded. They decide which operations compiled code joins."""
    return {name: sys.modules[name].get_config_copy() for name in COMPILING if name in sys.modules}


def _put_compiling(value: dict[str, dict[str, Any]]) -> None:
    for name, now in _compiling().items():
        for key, setting in value.get(name, now).items():
            if setting != now[key]:
                setattr(sys.modules[name], key, setting)


def _autocast() -> Iterator[Switch]:
    for device in AUTOCAST:
        yield Switch(
            f"autocast on {device}",
            functools.partial(_get_autocast, device),
            functools.partial(_put_autocast, device),
        )
    yield Switch("the nesting of autocast", _autocast_nesting, _put_autocast_nesting)
    yield Switch("the cache of autocast", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled)


def _get_autocast(device: str) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _put_autocast(device: str, value: tuple[bool, torch.dtype]) -> None:
    torch.set_autocast_enabled(device, value[0])
    torch.set_autocast_dtype(device, value[1])


def _autocast_nesting() -> int:
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _put_autocast_nesting(value: int) -> None:
    torch.clear_autocast_cache()  # weights that were cast while the level was wrong
    while _autocast_nesting() > value:
        torch.autocast_decrement_nesting()
    while _autocast_nesting() < value:
        torch.autocast_increment_nesting()


def _deterministic() -> tuple[bool, bool, bool]:
    fill = DETERMINISTIC.fill_uninitialized_memory
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(), fill


def _put_deterministic(value: tuple[bool, bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])
    DETERMINISTIC.fill_uninitialized_memory = value[2]


def _put_inference_mode(value: bool) -> None:
    context = torch.inference_mode(value)
    context.__enter__()
    _entered.append(context)  # the mode would end with the object


_entered: list[Any] = []  # inference modes that `_put_inference_mode` began


def _default_device() -> tuple[torch.device | None, torch.device | None]:
    """The device of `torch.set_default_device`, and the one of an innermost `with torch.device(...)`."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device, devices.CURRENT_DEVICE


def _put_default_device(value: tuple[torch.device | None, torch.device | None]) -> None:
    torch.set_default_device(value[0])
    devices.CURRENT_DEVICE = value[1]


def _stack(modes: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    return lambda: list(modes())


def _put_stack(
    modes: Callable[[], list[Any]], pop: Callable[[], Any], push: Callable[[Any], Any]
) -> Callable[[list[Any]], None]:
    def put(value: list[Any]) -> None:
        for _ in modes():
            pop()
        for mode in value:
            push(mode)

    return put


def _saved_hooks() -> Any:
    """The last pair of hooks on the tensors that autograd saves; the pairs below it can't be read."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False)


def _put_saved_hooks(value: Any) -> None:
    while (now := _saved_hooks()) and now != value:
        torch._C._autograd._pop_saved_tensors_default_hooks()
    if value and not _saved_hooks():
        torch._C._autograd._push_saved_tensors_default_hooks(*value)


def _flushes() -> bool:
    smallest = float("5e-324")
    return smallest * 1.0 == 0


def _cuda_device() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None


def _put_cuda_device(value: int | None) -> None:
    if value is not None:
        torch.cuda.set_device(value)


def _put_safe_globals(value: list[Any]) -> None:
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(value)


def _put_threads(value: int) -> None:
    if torch.get_num_threads() != value:
        torch.set_num_threads(value)


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


TORCH: tuple[Switch, ...] = (
    # first the modes of torch, under which the other settings can't be read and set
    Switch("torch's default device", _default_device, _put_default_device),
    Switch(
        "a mode of torch functions",
        _stack(overrides._get_current_function_mode_stack),
        _put_stack(overrides._get_current_function_mode_stack, overrides._pop_mode, overrides._push_mode),
    ),
    Switch(
        "a mode of torch dispatch",
        _stack(dispatch._get_current_dispatch_mode_stack),
        _put_stack(dispatch._get_current_dispatch_mode_stack, dispatch._pop_mode, dispatch._push_mode),
    ),
    Switch("torch's inference mode", torch.is_inference_mode_enabled, _put_inference_mode),
    Switch("torch's gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    Switch("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Switch("torch's number of threads", torch.get_num_threads, _put_threads),
    Switch("torch's deterministic algorithms", _deterministic, _put_deterministic),
    Switch("torch's anomaly detection", _anomaly, lambda value: torch.autograd.set_detect_anomaly(*value)),
    Switch("torch's flushing of tiny numbers", _flushes, torch.set_flush_denormal),
    Switch("torch's hooks on saved tensors", _saved_hooks, _put_saved_hooks),
    Switch("torch's current CUDA device", _cuda_device, _put_cuda_device),
    Switch(
        "the classes that torch.load may make", torch.serialization.get_safe_globals, _put_safe_globals, imports=True
    ),
    Switch("torch's precision of float32 products", _products, _put_products),
    Switch("torch's flags of libraries", _flags, _put_flags),
    Switch("torch's choice of kernels", _kernels, _put_kernels),
    Switch("the settings of torch.compile", _compiling, _put_compiling, "silent"),
    *_autocast(),
)
