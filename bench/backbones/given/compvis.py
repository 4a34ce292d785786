"""The names of a U-Net's tensors in the code of Stable Diffusion's authors (CompVis), which many methods write."""

from __future__ import annotations

from collections.abc import Iterable

PREFIX = "model.diffusion_model."  # of the U-Net in a file of the whole model
ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet_names(names: Iterable[str], layers: int) -> dict[str, str]:
    """Name in the authors' code, without PREFIX -> name in diffusers, for each tensor of a U-Net.

    A file may contain only some tensors, for example those of cross-attention, so each name is translated by itself.
    diffusers' own conversion needs a whole model; for whole models the names are the same.

    Args:
        names: names of the U-Net's tensors in diffusers.
        layers: residual blocks in each block of the U-Net (`layers_per_block`).

    >>> unet_names(["down_blocks.0.attentions.1.proj_in.weight"], layers=2)
    {'input_blocks.2.1.proj_in.weight': 'down_blocks.0.attentions.1.proj_in.weight'}
    """
    known = list(names)
    attention = {name.partition(".attentions.")[0] for name in known if ".attentions." in name}
    return {_original(name, layers, attention): name for name in known}


def _original(name: str, layers: int, attention: set[str]) -> str:
    for end, original in ENDS.items():
        if name.startswith(f"{end}."):
            return original + name.removeprefix(end)
    block, part, number, rest = _split(name)
    if not part:  # a layer that these models do not have
        return name
    if part == "resnets":
        layer, _, tensor = rest.partition(".")
        rest = f"{RESNET.get(layer, layer)}.{tensor}"
    if block == "mid_block":
        return f"middle_block.{1 if part == 'attentions' else 2 * number}.{rest}"
    side, _, index = block.partition(".")
    first = int(index) * (layers + 1)
    if side == "down_blocks":
        if part == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.{rest.replace('conv', 'op', 1)}"
        return f"input_blocks.{1 + first + number}.{int(part == 'attentions')}.{rest}"
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if block in attention else 1}.{rest}"
    return f"output_blocks.{first + number}.{int(part == 'attentions')}.{rest}"


def _split(name: str) -> tuple[str, str, int, str]:
    """Block, kind and number of a layer, and the rest of its name: "down_blocks.0", "resnets", 1, "conv1.bias"."""
    parts = name.split(".")
    size = 1 if parts[0] == "mid_block" else 2
    if len(parts) < size + 3 or not parts[size + 1].isdigit():
        return name, "", 0, name
    return ".".join(parts[:size]), parts[size], int(parts[size + 1]), ".".join(parts[size + 2 :])
