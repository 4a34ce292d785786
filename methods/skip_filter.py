"""SAFREE's re-attention: weakens low frequencies of the U-Net's skip features where a changed prompt makes them larger.

It belongs to the way of FreeU (Si et al., CVPR 2024), which scales the same features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


class SkipFilter:
    """Filters the skip features that enter the up blocks of a U-Net.

    With F the two-dimensional Fourier transform of the features of one channel, h those for the changed prompt and g
    those for the prompt as it was:

        F(h) <- s F(h) for each of the four central frequencies where |F(h)| > |F(g)|

    Args:
        unet: the U-Net of a diffusers pipeline.
        scales: the factors s for the features of the largest number of channels, and of the next largest one. In Stable
            Diffusion these are 1280 and 640 channels. Other features stay.
    """

    def __init__(self, unet: Any, scales: Sequence[float]) -> None:
        self._unet = unet
        widths = sorted({*unet.config.block_out_channels}, reverse=True)
        self._scales = dict(zip(widths, scales, strict=False))

    @contextmanager
    def filtering(self, count: int) -> Iterator[None]:
        """Within the block, the U-Net filters. The last `count` rows of a batch are those for the prompt as it was.

        The `count` rows before them are those for the changed prompt.
        """

        def replace(
            module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[Any, dict[str, Any]]:
            skips = tuple(self.filtered(features, count) for features in named["res_hidden_states_tuple"])
            return given, {**named, "res_hidden_states_tuple": skips}

        with ExitStack() as stack:
            for block in self._unet.up_blocks:
                stack.callback(block.register_forward_pre_hook(replace, with_kwargs=True).remove)
            yield

    def filtered(self, features: torch.Tensor, count: int) -> torch.Tensor:
        """Skip features (B, C, h, w) with those for the changed prompt filtered."""
        scale = self._scales.get(features.shape[1])
        if scale is None:
            return features
        changed, original = features[-2 * count : -count], features[-count:]
        now, before = (torch.fft.fftshift(torch.fft.fft2(part.float()), dim=(-2, -1)) for part in (changed, original))
        rows, columns = (slice(size // 2 - 1, size // 2 + 1) for size in features.shape[-2:])
        centre = (..., rows, columns)
        now[centre] = torch.where(now[centre].abs() > before[centre].abs(), scale * now[centre], now[centre])
        weaker = torch.fft.ifft2(torch.fft.ifftshift(now, dim=(-2, -1))).real.to(features.dtype)
        return torch.cat([features[: -2 * count], weaker, original])
