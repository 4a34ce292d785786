"""Picture strips from the store: a row has the same prompt and the same noise, a column is a method."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from bench.cells.artifacts import Artifacts
from bench.cells.evidence import nearest
from bench.core.filenames import without_paths
from bench.core.results import CellResult
from bench.core.store import Entry
from bench.core.task import Task
from bench.plan.plan import Cell
from bench.worlds import World

BUDGET = 4_500_000  # number of characters of all images together
# images per concept, edge in pixels, WebP quality
LADDER = ((3, 256, 90), (2, 256, 85), (2, 192, 80), (1, 192, 75), (1, 128, 70), (1, 96, 60))


@dataclass(frozen=True)
class Picture:
    """One frame of a strip.

    Args:
        method: name of the method.
        source: key of the image in `Strips.sources`; "" without an image.
        saw: prediction of the judge.
        missing: reason why there is no image; "" if there is one.
    """

    method: str
    source: str = ""
    saw: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Row:
    """The images of one prompt and noise, one per method."""

    concept: str
    role: str  # text of the page: "forgotten", "nearest neighbour", ...
    prompt: str
    pictures: tuple[Picture, ...]


@dataclass
class Strips:
    """All images of the page: task -> its rows. Every row of a task has the same methods.

    `sources` holds each different image once, as a data URI. `seed` is the training seed of the images.
    """

    seed: int = 0
    tasks: dict[str, list[Row]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def size(self) -> int:
        """Number of characters of all images."""
        return sum(map(len, self.sources.values()))

    def keep(self, source: str) -> str:
        """Store the data of an image once, and return its key."""
        key = hashlib.sha256(source.encode()).hexdigest()[:12]
        self.sources[key] = source
        return key


def shown(task: Task, world: World) -> dict[str, str]:
    """The concepts of a task that the page shows, with their role: forgotten, nearest neighbour, far sibling, other."""
    first, near = task.forget[0], nearest(world, task)
    out = {first: "forgotten"}
    if near:
        out[near[0]] = "nearest neighbour"
    siblings = [concept for concept in task.in_domain if concept not in out]
    if siblings:
        out[min(siblings, key=lambda concept: world.closeness(concept, first))] = "far sibling"
    if task.out_of_domain:
        # from the middle, so that the tasks of a domain show different concepts
        out[task.out_of_domain[len(task.out_of_domain) // 2]] = "another domain"
    return out


def gather(artifacts: Artifacts, results: Sequence[CellResult]) -> Strips:
    """The strips of one training seed. Their number and resolution are as high as `BUDGET` allows.

    The seed is the first for which the store has the images of all cells, or else the seed with the most images. A
    frame without an image says why.
    """
    reasons = {(r.method, r.task, r.seed): why(r) for r in results}
    methods = tuple(name for name in artifacts.plan.methods if name != "wrecked")
    seed = _fullest(artifacts, methods)
    cells = {(c.task.name, c.method): c for c in artifacts.plan.cells if c.seed == seed}
    taken, most = {}, LADDER[0]
    for task in artifacts.plan.tasks:
        places = {c: _indices(artifacts, c)[: most[0]] for c in shown(task, artifacts.plan.world)}
        for method in methods:
            if cell := cells.get((task.name, method)):  # only some tasks have an oracle
                taken[task.name, method] = _taken(artifacts, cell, places, most[1])
    for count, edge, quality in LADDER:
        strips = Strips(seed)
        for task in artifacts.plan.tasks:
            columns = [name for name in methods if (task.name, name) in taken]
            for concept, role in shown(task, artifacts.plan.world).items():
                for index in _indices(artifacts, concept)[:count]:
                    pictures = []
                    for method in columns:
                        found = taken[task.name, method].get((concept, index))
                        reason = reasons.get((method, task.name, seed)) or "not in the store"
                        if found is None:
                            pictures.append(Picture(method, missing=reason))
                        else:
                            key = strips.keep(encoded(found[0], edge, quality))
                            pictures.append(Picture(method, key, found[1]))
                    row = Row(concept, role, artifacts.context.specs[index].prompt, tuple(pictures))
                    strips.tasks.setdefault(task.name, []).append(row)
        if strips.size <= BUDGET:
            return strips
    return Strips(seed, note="The pictures of this run are too many for one page.")


def why(result: CellResult) -> str:
    """The reason why a cell has no image, as a word or a sentence; "" if the cell finished."""
    return "" if result.ok else without_paths(result.reason or result.status)


def _fullest(artifacts: Artifacts, methods: Sequence[str]) -> int:
    best, most = artifacts.plan.run.seeds[0], -1
    for seed in artifacts.plan.run.seeds:
        cells = [cell for cell in artifacts.plan.cells if cell.seed == seed and cell.method in methods]
        stored = sum(_images(artifacts, cell, verify=False) is not None for cell in cells)
        if stored > most:
            best, most = seed, stored
        if stored == len(cells):
            break
    return best


def _images(artifacts: Artifacts, cell: Cell, verify: bool = True) -> Entry | None:
    """The images of a cell, or None if they are not stored. It does not verify tensors, because boards are large."""
    weights = artifacts.store.get("deltas", artifacts.weights.key(cell), verify=False)  # only their digest is needed
    return artifacts.store.get("images", artifacts.images.key(weights), verify) if weights else None


def _indices(artifacts: Artifacts, concept: str) -> list[int]:
    return [i for one, i in artifacts.context.requested if one == concept]


def _taken(
    artifacts: Artifacts, cell: Cell, places: Mapping[str, Sequence[int]], edge: int
) -> dict[tuple[str, int], tuple[Image.Image, str]]:
    """(concept, index) -> the image of a cell, at most `edge` pixels long, and the prediction of the concept's judge.

    {} if the images are not stored.
    """
    entry = _images(artifacts, cell)
    if entry is None:
        return {}
    judged = artifacts.store.get("judgements", artifacts.judgements.key(entry))
    kept, seen = entry.tensors("images", "shown"), judged.tensors() if judged else {}
    row = {place: i for i, place in enumerate(kept["shown"].tolist())}
    out = {}
    for concept, index in ((c, i) for c, indices in places.items() for i in indices if i in row):
        picture = Image.fromarray(kept["images"][row[index]].permute(1, 2, 0).numpy())
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)  # never enlarges an image
        out[concept, index] = picture, artifacts.context.judges.label(concept, seen, index) if seen else ""
    return out


def encoded(picture: Image.Image, edge: int, quality: int) -> str:
    """An image, at most `edge` pixels long, as a WebP data URI."""
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    small.save(file, "webp", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
