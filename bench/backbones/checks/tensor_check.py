"""Compares the tensors of weight files with those of a network, by name, shape, type and value.

Libraries fill a missing tensor with random values and drop a tensor that they do not know. Figures of such a network
say nothing about the model. So every file of weights is compared with its network before anything is computed: names
and shapes from the header of the file, then the values, once.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open

SHOWN = 3  # names of tensors in a message
PARTIAL = 0.5  # a file that lacks more of its network than this share is said to be partial
ADAPTERS = ("lora", "hada_", "lokr_", ".dora_", "base_layer.", ".alpha", "ip_adapter", "oft_")  # in adapters' names
QUANTISED = ("absmax", "quant_map", "quant_state", "quantization", "_scale", "scale_weight", "qweight", "qzeros")
SAFE = "; take the model's .safetensors file, or convert it on a machine that may be lost"
REASON = re.compile(r"(WeightsUnpickler error|Unsupported)[^\n.]*")  # in the message of torch's restricted loader
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

Header = dict[str, torch.Tensor]  # name -> a tensor on the device "meta": its shape and dtype without its values


class TensorMismatch(ValueError):
    """The tensors of a file are not those of its network. The message says which file and which tensors."""


def is_safetensors(file: Path) -> bool:
    """Whether a file begins as a safetensors file does: the length of a header, then the header, which is JSON."""
    with file.open("rb") as stream:
        start = stream.read(9)
        size = stream.seek(0, 2)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size


def is_pickle(file: Path) -> bool:
    """Whether a file begins as a file of `torch.save` does: as a zip archive, or as a pickle."""
    start = _start(file, 2)
    return start == b"PK" or start[:1] == b"\x80"


def is_named_safetensors(file: Path) -> bool:
    """Whether the name of a file ends as those of safetensors files do."""
    return file.suffix.lower() == ".safetensors"


def header(file: Path) -> Header:
    """Shapes and dtypes of the tensors in a file, which is recognised by its content.

    A pickle is read by torch's restricted loader, which runs no code of the file. Raises TensorMismatch for a file that
    is damaged, and for a pickle that contains more than tensors and plain values.
    """
    if not is_safetensors(file):
        return _tensors_of(file, unpickled(file, "meta"))
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: _described(file, name, stored.get_slice(name)) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TensorMismatch(f"{file} is damaged: {error}") from error


def streamed_header(stream: IO[bytes], file: Path) -> Header:
    """The same for a stream of a safetensors file, of which only the header is read."""
    size = int.from_bytes(stream.read(8), "little")
    try:
        entries = json.loads(stream.read(min(size, 100_000_000)))
        return {
            name: torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]], device="meta")
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TensorMismatch(f"{file} is damaged: its header can't be read ({error})") from error


def metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file; {} for a pickle and for a damaged file."""
    try:
        with safe_open(file, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def load(file: Path, *names: str) -> dict[str, torch.Tensor]:
    """The tensors called `names`, or all tensors of a file, on the CPU. Raises TensorMismatch like `header`."""
    if not is_safetensors(file):
        tensors = _tensors_of(file, unpickled(file, "cpu"))
        return {name: tensors[name] for name in names or tensors}
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name) for name in names or stored.keys()}
    except (OSError, SafetensorError) as error:
        raise TensorMismatch(f"{file} is damaged: {error}") from error


def unpickled(file: Path, device: str) -> Any:
    """The content of a file of `torch.save`, by torch's restricted loader. Raises TensorMismatch if it refuses."""
    zipped = _start(file, 2) == b"PK"
    if zipped and not zipfile.is_zipfile(file):
        raise TensorMismatch(f"{file} is damaged: it begins as a checkpoint of torch and ends before its end")
    try:
        if zipped and not is_named_safetensors(file):
            return torch.load(file, map_location=device, weights_only=True, mmap=True)
        with file.open("rb") as stream:  # a path would be read by its ending
            return torch.load(stream, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = REASON.search(str(error))
        raise TensorMismatch(
            f"{file} is a pickle that contains more than tensors, and such a pickle may run any code when it is loaded"
            f" ({reason.group() if reason else _first_line(error)}){SAFE}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TensorMismatch(f"{file} is damaged, or holds no tensors: {_first_line(error)}") from error


def compare(
    where: str,
    network: str,
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    harmless: Sequence[str] = (),
) -> None:
    """Raise TensorMismatch unless `found` has exactly the names and shapes of `expected`.

    Args:
        where: the file or folder with the tensors, for the message.
        network: the network, for the message: "U-Net", ...
        found: the tensors of the file, by their names in the network. They may be on the device "meta".
        expected: the tensors of the network.
        harmless: names that the file may have in addition, because no network computes with them.
    """
    missing = [name for name in expected if name not in found]
    unused = [name for name in found if name not in expected and name not in harmless]
    shared = [name for name in expected if name in found]
    reshaped = [
        f"{name}: {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
        for name in shared
        if found[name].shape != expected[name].shape
    ]
    retyped = [
        f"{name}: {str(found[name].dtype).removeprefix('torch.')}"
        for name in shared
        if expected[name].is_floating_point() and not found[name].is_floating_point()
    ]
    if not (missing or unused or reshaped or retyped):
        return
    said = [
        _some(names, what)
        for names, what in (
            (missing, "missing"),
            (unused, "unused"),
            (reshaped, "of another shape"),
            (retyped, "of a type that is not a floating-point number"),
        )
        if names
    ]
    raise TensorMismatch(
        f"{where} does not hold the tensors of the {network}: {'; '.join(said)}"
        f"{_advice(missing, unused, retyped, len(expected))}"
    )


def require_finite(where: str, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise TensorMismatch if a tensor contains NaN or an infinite value.

    Args:
        where: the owner of the tensors, for the message: a file, or the weights of a method.
        tensors: names and tensors, which may be read one after another.
    """
    bad = [name for name, tensor in tensors if not is_finite(tensor)]
    if bad:
        raise TensorMismatch(f"there are NaN or infinite values in {_some(bad)} of {where}")


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every value of a tensor is finite. Integers always are."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return True
    if tensor.is_floating_point() and tensor.element_size() == 1:
        tensor = tensor.float()
    return bool(torch.isfinite(tensor).all())


def _start(file: Path, size: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(size)


def _advice(missing: Sequence[str], unused: Sequence[str], retyped: Sequence[str], size: int) -> str:
    if any(mark in name.lower() for name in unused for mark in ADAPTERS):
        return ". These names belong to adapters; merge the adapters into the weights, and save the model again"
    if retyped or any(mark in name for name in unused for mark in QUANTISED):
        return ". The weights are quantised; take the weights in float32, float16 or bfloat16"
    if not unused and len(missing) > PARTIAL * size:
        return (
            f". It is partial: {size - len(missing)} of {size} tensors. Tools that save only what they changed write "
            "such files; put these tensors into the whole model, and save that"
        )
    return ""


def _some(names: Sequence[str], what: str = "") -> str:
    """The number of tensors, what they are, and the first names."""
    more = ", ..." if len(names) > SHOWN else ""
    noun, verb = ("tensor", "is") if len(names) == 1 else ("tensors", "are")
    return f"{len(names)} {noun}{f' {verb} {what}' if what else ''} ({', '.join(names[:SHOWN])}{more})"


def require_flat(file: Path) -> None:
    """Raise TensorMismatch if a pickle has entries on its top level that are no tensors, as a training's checkpoint."""
    if is_safetensors(file) or not isinstance(content := unpickled(file, "meta"), Mapping):
        return
    if others := [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]:
        shown = ", ".join(others[:SHOWN])
        raise TensorMismatch(
            f"{file} has entries that are no tensors: {shown}; save the state dict of the network alone"
        )


def _described(file: Path, name: str, stored: Any) -> torch.Tensor:
    kind = stored.get_dtype()
    if kind not in DTYPES:
        raise TensorMismatch(f"{file}: the type {kind} of the tensor {name} is unknown here")
    return torch.empty(stored.get_shape(), dtype=DTYPES[kind], device="meta")


def _tensors_of(file: Path, content: Any) -> dict[str, torch.Tensor]:
    """The tensors of a pickled state dict, or of the entry "state_dict" of a training's checkpoint."""
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if isinstance(inner, Mapping):
        tensors = {str(name): tensor for name, tensor in inner.items() if isinstance(tensor, torch.Tensor)}
        if tensors:
            return tensors
    found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
    raise TensorMismatch(f"{file} holds no tensors by name, but {found or 'nothing'}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
