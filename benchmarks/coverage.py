"""Measures how often Lethe's 95 % intervals contain the true value, on simulated tasks with a known true value.

python -m benchmarks.coverage
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.board import statistics

IMAGES, SPREAD = 12, 0.12  # images a concept; standard deviation between tasks, or between seeds
SHAPES = ((9, 3), (9, 1), (5, 1), (3, 1))  # tasks, training seeds: those of the pocket world's suites
ROUNDS = 1000

Draw = Callable[[np.random.Generator, float, int, int], np.ndarray]  # generator, truth, tasks, seeds -> (tasks, seeds)


def tasks_differ(rng: np.random.Generator, truth: float, tasks: int, seeds: int) -> np.ndarray:
    """Accuracies of cells. The seeds of a task differ only in their images."""
    return judged(np.repeat(rng.normal(truth, SPREAD, (tasks, 1)), seeds, 1), rng)


def seeds_differ(rng: np.random.Generator, truth: float, tasks: int, seeds: int) -> np.ndarray:
    """Accuracies of cells. The seeds of a task differ as much as tasks do."""
    return judged(rng.normal(truth, SPREAD, (tasks, seeds)), rng)


def only_images_differ(rng: np.random.Generator, truth: float, tasks: int, seeds: int) -> np.ndarray:
    """Accuracies of cells with the same true accuracy."""
    return judged(np.full((tasks, seeds), truth), rng)


def near_the_ceiling(rng: np.random.Generator, truth: float, tasks: int, seeds: int) -> np.ndarray:
    """Accuracies that are mostly 1 and sometimes much lower: tasks have a beta distribution with mean `truth`."""
    return judged(np.repeat(rng.beta(10 * truth, 10 * (1 - truth), (tasks, 1)), seeds, 1), rng)


def judged(accuracy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The share of `IMAGES` images that are classified as the concept, if the true share is `accuracy`."""
    return rng.binomial(IMAGES, np.clip(accuracy, 0, 1)) / IMAGES


def by_task(values: np.ndarray) -> dict[statistics.Cell, tuple[float]]:
    """Values (tasks, seeds) as figures of cells."""
    return {(f"task {t}", s): (float(v),) for (t, s), v in np.ndenumerate(values)}


def usual(values: np.ndarray) -> np.ndarray:
    """The table that boards make of values (tasks, seeds)."""
    return statistics.clusters(by_task(values))


def coverage(
    draw: Draw,
    truth: float,
    tasks: int,
    seeds: int,
    table: Callable[[np.ndarray], np.ndarray] = usual,
    rounds: int = ROUNDS,
) -> float:
    """The share of `rounds` samples whose interval contains the true value."""
    rng, held = np.random.default_rng(4), 0
    for _ in range(rounds):
        found = statistics.interval(table(draw(rng, truth, tasks, seeds)), low=0, high=1)
        held += found.low <= truth <= found.high
    return held / rounds


ROWS: Mapping[str, tuple[Draw, float]] = {
    "tasks differ, mean 0.6": (tasks_differ, 0.6),
    "seeds differ, mean 0.6": (seeds_differ, 0.6),
    "only images differ, mean 0.6": (only_images_differ, 0.6),
    "tasks differ, mean 0.9": (near_the_ceiling, 0.9),
    "tasks differ, mean 0.97": (near_the_ceiling, 0.97),
}


def main() -> None:
    """Command line of `python -m benchmarks.coverage`."""
    table = Table(title=f"coverage of 95 % intervals, {ROUNDS} samples each", box=box.SIMPLE_HEAD)
    table.add_column("accuracies of 12 images")
    for tasks, seeds in SHAPES:
        table.add_column(f"{tasks} tasks x {seeds}", justify="right")
    for name, (draw, truth) in ROWS.items():
        table.add_row(name, *(f"{100 * coverage(draw, truth, *shape):.1f} %" for shape in SHAPES))
    Console().print(table)


if __name__ == "__main__":
    main()
