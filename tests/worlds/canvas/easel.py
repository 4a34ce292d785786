"""UnlearnCanvas's release in miniature: all of its folders, and classifiers in its format but of a smaller network."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image

from bench.worlds.canvas import judges
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, STYLE_LABELS

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}


def write(data: Path) -> Path:
    """The 51 x 20 x 20 names of a data set, of twenty small JPEGs."""
    data.mkdir(parents=True, exist_ok=True)
    for i in range(1, 21):
        Image.new("RGB", (16, 16), (12 * i, 250 - 12 * i, 128)).save(data / f".{i}.jpg")
    for style in STYLE_LABELS:
        for object in OBJECTS:
            folder = data / style / object
            folder.mkdir(parents=True)
            for i in range(1, 21):
                os.link(data / f".{i}.jpg", folder / f"{i}.jpg")
    return data


def released(path: Path, labels: int, **options: int) -> torch.nn.Module:
    """A network as the published evaluation builds it, saved as it reads it."""
    net = timm.create_model(judges.ARCHITECTURE, pretrained=False, **options)
    net.head = torch.nn.Linear(net.num_features, labels)
    torch.save({"model_state_dict": net.state_dict(), "epoch": 9, "accuracy": 0.98}, path)
    return net.eval()


def classifiers(data: Path) -> None:
    """Both classifiers, where they are looked for."""
    folder = data / judges.FOLDERS[0]
    folder.mkdir()
    for kind, labels in judges.LABELS.items():
        torch.manual_seed(len(labels))
        released(folder / judges.FILES[kind], len(labels), **SMALL)


def jpeg(shade: int, side: int = 16) -> bytes:
    """A small JPEG file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (12 * shade, 250 - 12 * shade, 128)).save(stream, "JPEG")
    return stream.getvalue()


def caption(style: str, object: str) -> str:
    """The caption of the images of an object in a style, as the published code writes it."""
    article = "An" if object == "Architectures" else "A"
    return f"{article} {object} image in {'photo' if style == SEED_IMAGES else style.replace('_', ' ')} style"


def parquet(path: Path, rows: list[tuple[str, bytes, str | None]]) -> Path:
    """A parquet file as the hub has them, of rows of caption, content and file name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "image": [{"bytes": content, "path": name} for _, content, name in rows],
        "text": [row[0] for row in rows],
    }
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path
