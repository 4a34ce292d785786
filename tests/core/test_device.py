"""Which precision a device computes in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bench.core import device


@pytest.mark.parametrize(
    ("capability", "dtype"), [(7, torch.float32), (8, torch.bfloat16), (9, torch.bfloat16)], ids=["T4", "A100", "H100"]
)
def test_cards_that_emulate_bfloat16_compute_in_float32(
    capability: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(major=capability)
    for name, value in {
        "is_available": True,
        "current_device": 0,
        "_exchange_device": 0,
        "_maybe_exchange_device": 0,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *args: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda *args: True)  # emulation works there
    card = torch.device("cuda", 0)
    assert device.compute_dtype(card) == dtype
    assert device.compute_dtype(card, "bf16") == torch.bfloat16  # whoever asks for it gets it
    assert device.compute_dtype(card, "fp32") == torch.float32
