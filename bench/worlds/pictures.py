"""Photographs and paintings from files, as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from bench.worlds.base import WorldUnavailable

# Published fingerprints contain this word, the digest of the first source. Any other word is a new version.
VERSION = "4663af90adb5b84b3ef2546ab23d65ee8c7e756364a11d325237da9119958805"


def picture(path: Path, side: int) -> torch.Tensor:
    """The central square of an image file, uint8 RGB (3, side, side).

    The image is rotated by its EXIF orientation, converted to RGB from any mode, cropped to its central square, and
    resized with Pillow's bicubic filter, which is antialiased for smaller sizes. Raises WorldUnavailable for a file
    that is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError:
        raise WorldUnavailable(f"{path} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all types that Pillow raises
        raise WorldUnavailable(f"{path} is cut short or no image ({error}); fetch it again") from error
    short = min(upright.size)
    left, top = (upright.width - short) // 2, (upright.height - short) // 2
    square = upright.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
