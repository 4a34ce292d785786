"""Picture strips from the store: same prompt and same noise in a row, one column a method."""

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

BUDGET = 4_500_000  # characters of all pictures together
LADDER = ((3, 256, 90), (2, 256, 85), (2, 192, 80), (1, 192, 75), (1, 128, 70), (1, 96, 60))  # pictures, edge, quality


@dataclass(frozen=True)
class Picture:
    """One frame: `source`, the key of its data in `Strips.sources`, or why there is none; what the judge `saw`."""

    method: str
    source: str = ""
    saw: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Row:
    """Pictures of one prompt and noise, method by method."""

    concept: str
    role: str  # for people: "forgotten", "nearest neighbour", ...
    prompt: str
    pictures: tuple[Picture, ...]


@dataclass
class Strips:
    """All that is shown: task -> its rows, of the same methods each, and every different picture once, as a data URI.

    And of which training seed they are.
    """

    seed: int = 0
    tasks: dict[str, list[Row]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def size(self) -> int:
        """Characters of all pictures."""
        return sum(map(len, self.sources.values()))

    def keep(self, source: str) -> str:
        """Keep a picture's data, once, and return its key."""
        key = hashlib.sha256(source.encode()).hexdigest()[:12]
        self.sources[key] = source
        return key


def shown(task: Task, world: World) -> dict[str, str]:
    """Which concepts of a task are shown, and what they are to it: forgotten, twin, far sibling, one of elsewhere."""
    first, near = task.forget[0], nearest(world, task)
    out = {first: "forgotten"}
    if near:
        out[near[0]] = "nearest neighbour"
    siblings = [concept for concept in task.in_domain if concept not in out]
    if siblings:
        out[min(siblings, key=lambda concept: world.closeness(concept, first))] = "far sibling"
    if task.out_of_domain:
        # from the middle of the list, so that tasks of one domain don't all show the list's first
        out[task.out_of_domain[len(task.out_of_domain) // 2]] = "another domain"
    return out


def gather(artifacts: Artifacts, results: Sequence[CellResult]) -> Strips:
    """Strips of one training seed, as many pictures and as fine as `BUDGET` allows.

    It is the first seed of which the store has all cells' pictures, or else the most; frames without one say why.
    """
    reasons = {(r.method, r.task, r.seed): why(r) for r in results}
    methods = tuple(name for name in artifacts.plan.methods if name != "wrecked")
    seed = _fullest(artifacts, methods)
    cells = {(c.task.name, c.method): c for c in artifacts.plan.cells if c.seed == seed}
    taken, most = {}, LADDER[0]
    for task in artifacts.plan.tasks:
        places = {c: _indices(artifacts, c)[: most[0]] for c in shown(task, artifacts.plan.world)}
        for method in methods:
            if cell := cells.get((task.name, method)):  # an oracle is there for some tasks alone
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
    """Why a cell has no picture, in a word or a sentence; "" if it finished."""
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
    """A cell's images if they are stored. `verify=False` reads no tensors: a large board has many gigabytes."""
    weights = artifacts.store.get("deltas", artifacts.weights.key(cell), verify=False)  # only their digest is of use
    return artifacts.store.get("images", artifacts.images.key(weights), verify) if weights else None


def _indices(artifacts: Artifacts, concept: str) -> list[int]:
    return [i for one, i in artifacts.context.requested if one == concept]


def _taken(
    artifacts: Artifacts, cell: Cell, places: Mapping[str, Sequence[int]], edge: int
) -> dict[tuple[str, int], tuple[Image.Image, str]]:
    """(concept, place) -> a cell's evaluation image, at most `edge` pixels long, and what the concept's judge saw.

    {} if none is stored.
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
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)  # makes nothing larger
        out[concept, index] = picture, artifacts.context.judges.label(concept, seen, index) if seen else ""
    return out


def encoded(picture: Image.Image, edge: int, quality: int) -> str:
    """A picture, at most `edge` pixels long, as a WebP data URI."""
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    small.save(file, "webp", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
