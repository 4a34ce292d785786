"""Gets UnlearnCanvas's model, classifiers and images from the Hugging Face hub, and checks them."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.backbones.locate import locate
from bench.core.text.terminal import Plain, say
from bench.worlds import models
from bench.worlds.base import WorldUnavailable
from bench.worlds.canvas import dataset, judges, parquet, published
from bench.worlds.canvas.classes import OBJECTS, STYLE_LABELS
from bench.worlds.downloads.fetch import FetchError
from bench.worlds.downloads.obtain import obtain
from bench.worlds.downloads.source import Source

UNPACKED = Path("lethe", "unpacked.txt")  # the parquet files that were unpacked; the data folder then has their images
MISSING = "missing"
ELSEWHERE = (
    "What is missing can be put into its place by other means. The authors' Google Drive has it too: "
    f"{dataset.RELEASE} has the images, {judges.RELEASE} has the model and the classifiers. A third party has copies "
    f"of the classifiers: huggingface.co/{published.MIRROR.path}."
)
IMAGES = len(STYLE_LABELS) * len(OBJECTS) * dataset.PER_FOLDER


def prepare(data: Path, console: Console) -> bool:
    """Download what is missing in `data`, check everything, and print a table of the state.

    What is in the data folder is not downloaded, and not changed. The model and the classifiers are checked as before a
    run. Images are counted. They are opened when they come out of a parquet file.

    Returns True if the model, both classifiers and all images are there and sound.
    """
    kinds = [kind for kind in judges.KINDS if not _place(data, kind).is_file()]
    needed, problems = published.checkpoint_files(bool(_model(data)), kinds)
    files = [source for source in needed if not source.there(data)]
    for source in files:
        if published.is_third_party(source):
            said = f"{source.file}: the authors' repository does not have it, so a third party's copy is taken"
            say(console, (f"{said} ({source.url})", "bold"))
    obtain(files, data, console)
    if _images(data):
        problems += _unpack(data, console)
    return _report(data, console, problems)


def _unpack(data: Path, console: Console) -> list[str]:
    """Download and unpack the parquet files that were not unpacked before. Returns what prevents it."""
    try:
        parquet.require_reader()
        sources = list(published.parquet_files(data))
    except FetchError as error:
        return [str(error)]
    record, so_far = data / UNPACKED, parquet.Unpacked()
    done = set(record.read_text(encoding="utf-8").splitlines()) if record.is_file() else set()

    def unpack(source: Source, file: Path) -> None:
        parquet.unpack(file, data, so_far)
        record.parent.mkdir(parents=True, exist_ok=True)
        with record.open("a", encoding="utf-8") as lines:
            lines.write(f"{source.file}\n")

    missing = [source for source in sources if source.file not in done]
    obtain(missing, data, console, unpack=unpack, stop=True)
    if so_far.left_out:
        styles = ", ".join(f"{style} ({count})" for style, count in sorted(so_far.left_out.items()))
        say(console, f"images of styles that no experiment uses are left out: {styles}")
    if so_far.numbered:
        said = (
            f"images without a number, which got one in the order of the rows: {so_far.numbered}. FID compares with "
            "images 1 to 5 of each folder, so these may be others than in the release"
        )
        say(console, (said, "bold"))
    return [] if missing else [f"all parquet files were unpacked before; delete {record} to unpack them again"]


def _report(data: Path, console: Console, problems: list[str]) -> bool:
    """Print the problems and a table of the state. Returns whether everything is there and sound."""
    table = Table("what", "state", box=box.SIMPLE_HEAD)
    table.add_column("where", overflow="fold")
    states: list[tuple[str, str, str, Path]] = [
        ("model", _model(data), "fits", data / published.MODEL),
        *((f"judge of {kind}s", _judge(data, kind), "fits", _place(data, kind)) for kind in judges.KINDS),
        ("images", _images(data), f"{IMAGES} images", data / "{style}" / "{object}" / "{1..20}.jpg"),
    ]
    for what, problem, sound, place in states:
        state = "wrong" if problem not in ("", MISSING) else problem or sound
        problems += [f"{what}: {problem}"] if state == "wrong" else []
        table.add_row(what, state, Plain(str(place)))
    ready = not any(problem for _, problem, *_ in states)
    for problem in problems:
        say(console, (problem, "red"))
    console.print(table)
    if not ready:
        say(console, ELSEWHERE)
    models.show([models.features(data)], console)
    return ready


def _model(data: Path) -> str:
    """What is wrong with the model; "" if nothing is."""
    try:
        locate(published.model_folder(data))
    except WorldUnavailable:
        return MISSING
    except (FileNotFoundError, ValueError, OSError) as error:
        return str(error)
    return ""


def _images(data: Path) -> str:
    """What is wrong with the folders of images; "" if nothing is."""
    there = any((data / style).is_dir() for style in STYLE_LABELS)
    return dataset.wrong(data) if there else MISSING


def _judge(data: Path, kind: judges.Kind) -> str:
    """What is wrong with a classifier; "" if nothing is."""
    if not _place(data, kind).is_file():
        return MISSING
    try:
        judges.load(_place(data, kind), kind, "cpu")
    except WorldUnavailable as error:
        return str(error)
    return ""


def _place(data: Path, kind: judges.Kind) -> Path:
    """The path of a classifier, or where it is put if it is missing."""
    try:
        return judges.locate(data, kind)
    except WorldUnavailable:
        return data / judges.FOLDERS[-1] / judges.FILES[kind]
