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
    """The middle square of an image file, uint8 (3, side, side).

    Resized by Pillow's bicubic filter, which averages where it shrinks; turned upright where EXIF says so, and in RGB
    whatever the file's own mode. Raises WorldUnavailable for a file that is missing, cut short or no image.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError:
        raise WorldUnavailable(f"{path} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all that Pillow may raise
        raise WorldUnavailable(f"{path} is cut short or no image ({error}); fetch it again") from error
    short = min(upright.size)
    left, top = (upright.width - short) // 2, (upright.height - short) // 2
    square = upright.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
