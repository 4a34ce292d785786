"""Forward passes without a gradient: with other weights in place of a network's own, and without casts where it pays.

Under autocast, every pass casts each weight and the inputs of most layers to bfloat16; on CUDA that is half of all
kernels. A pass without a gradient needs no weights in float32, so there the network has bfloat16 weights instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class Frozen:
    """A network as it computes without a gradient.

    Args:
        network: its parameters are replaced only within `running`.
        device: its device.
        dtype: precision of the passes.
        cast: True for weights of `dtype`, False for the weights as they are, under autocast.
        weights: parameter name -> value in place of the network's. They may change: see `refresh`.
        kept: parameter name -> weight of `dtype`. Weights that are missing are added. Only for `cast`, and for
            parameters that do not change: it saves casting them again for another `Frozen`.

    Example, with `backbone` a Backbone:
        >>> unet = backbone.frozen(backbone.unet)
        >>> z, null = torch.randn(2, 4, 16, 16), backbone.embed(["", ""])
        >>> with torch.no_grad():
        ...     unet(z, torch.tensor([10, 900]), null).shape
        torch.Size([2, 4, 16, 16])
    """

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        cast: bool,
        weights: Mapping[str, torch.Tensor] | None = None,
        kept: dict[str, torch.nn.Parameter] | None = None,
    ) -> None:
        self.network, self._device, self._dtype, self._cast = network, device, dtype, cast
        self._swaps: list[tuple[dict[str, torch.nn.Parameter | None], str, torch.nn.Parameter]] = []
        self._low: list[torch.Tensor] = []  # the cast values of `weights`, and what they were cast from
        self._sources: list[torch.Tensor] = []
        given, low, sources = weights or {}, list[torch.Tensor](), list[torch.Tensor]()
        with torch.inference_mode(False), torch.no_grad():
            for prefix, module in network.named_modules() if cast or given else ():
                for key, own in module._parameters.items():
                    name = f"{prefix}.{key}" if prefix else key
                    if own is None or not ((cast and own.is_floating_point()) or name in given):
                        continue
                    source = given.get(name, own)
                    if not cast:
                        value = torch.nn.Parameter(source.detach(), requires_grad=False)
                    elif kept is not None and name in kept:
                        value = kept[name]
                    else:
                        value = torch.nn.Parameter(torch.empty_like(source, dtype=dtype), requires_grad=False)
                        low.append(value)
                        sources.append(source)
                        if name in given:
                            self._low.append(value)
                            self._sources.append(source)
                        elif kept is not None and not own.requires_grad:
                            kept[name] = value
                    self._swaps.append((module._parameters, key, value))
            _cast(low, sources)

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the values of `weights` again, after they changed in place. Without `cast` it has no effect."""
        with torch.inference_mode(False):
            _cast(self._low, self._sources)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the block, the network computes with its weights and precision. Its inputs must be `input`s."""
        own = [module[key] for module, key, _ in self._swaps]
        enabled = not self._cast and self._dtype != torch.float32
        try:
            for module, key, value in self._swaps:
                module[key] = value
            with torch.autocast(self._device.type, self._dtype, enabled=enabled):
                yield
        finally:
            for (module, key, _), parameter in zip(self._swaps, own, strict=True):
                module[key] = parameter

    def input(self, values: torch.Tensor) -> torch.Tensor:
        """The values in the dtype that the network takes within `running`."""
        return values.to(self._dtype) if self._cast else values

    def __call__(self, latents: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        """The noise that a U-Net predicts for (z_t, timestep or timesteps, embeddings): float32, the shape of z_t."""
        with self.running():
            noise: torch.Tensor = self.network(
                self.input(latents), timesteps, encoder_hidden_states=self.input(embeds), return_dict=False
            )[0]
        return noise.float()


def _cast(low: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    if low:
        torch._foreach_copy_(low, sources)  # few kernels for all tensors
