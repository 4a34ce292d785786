"""What is known about an operation of torch: from its schema, and from lists for what the schema does not say."""

from __future__ import annotations

import functools
from typing import Any

import torch

aten = torch.ops.aten

# operations after which the host needs a value or a shape, so that it waits
WAITING = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.is_nonzero.default,
    aten.masked_select.default, aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default,
    aten._linalg_eigh.default, aten._linalg_svd.default, aten._linalg_solve_ex.result, aten.bincount.default,
    aten.repeat_interleave.Tensor,
}  # fmt: skip
COPIES = {aten.copy_.default, aten._to_copy.default, aten._foreach_copy_.default}
SHALLOW_COPY_TYPE = aten._has_compatible_shallow_copy_type.default  # asks whether one tensor can become another
MIXING = COPIES | {SHALLOW_COPY_TYPE}  # operations that take tensors of both devices
NO_KERNEL = {
    aten.detach.default, aten.lift_fresh.default, SHALLOW_COPY_TYPE, aten.empty.memory_format,
    aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default, aten._local_scalar_dense.default,
    aten._unsafe_view.default, aten._reshape_alias.default, aten._fused_sdp_choice.default,
}  # fmt: skip
INDEXED = {
    aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}  # fmt: skip
FUSED = {aten._fused_adam_.default, aten._fused_adamw_.default}


@functools.cache
def written(func: Any) -> tuple[tuple[int, str], ...]:
    """For each result that is an argument that was written to: its index, and the name of the argument."""
    found = []
    for i, result in enumerate(func._schema.returns):
        if result.alias_info is not None and result.alias_info.is_write:
            for argument in func._schema.arguments:
                if argument.alias_info is not None and argument.alias_info.before_set == result.alias_info.before_set:
                    found.append((i, argument.name))
                    break
    return tuple(found)


@functools.cache
def mutated(func: Any) -> frozenset[str]:
    """The names of the arguments that the operation writes to."""
    return frozenset(a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write)


@functools.cache
def is_view(func: Any) -> bool:
    """Whether the operation returns a view."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


@functools.cache
def takes_device(func: Any) -> bool:
    """Whether the operation has an argument for the device of its result."""
    return any(argument.name == "device" for argument in func._schema.arguments)


def named(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The given arguments by name."""
    return {**dict(zip((a.name for a in func._schema.arguments), args, strict=False)), **kwargs}


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [tensor for each in value for tensor in tensors_in(each)]


@functools.cache
def label(func: Any) -> str:
    """The name of the operation, without that of torch's own namespace."""
    return str(func).removeprefix("aten.")
