"""Inception's weights file as torch-fidelity reads it, with random weights."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from bench.worlds import inception


def write(data: Path) -> Path:
    """Where a world of photographs looks for it in its data folder."""
    file = data / "inception" / inception.FILE
    file.parent.mkdir(parents=True)
    torch.save({}, file)
    torch.manual_seed(3)
    with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):  # nothing to load yet
        net = FeatureExtractorInceptionV3(inception.NAME, ["2048"], feature_extractor_weights_path=str(file))
    torch.save(net.state_dict(), file)
    return file
