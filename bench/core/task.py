"""A task: the concepts to forget, the concepts to keep, and the task whose weights it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finetune:
    """How an unlearned model is trained further. This training does not know the unlearning method.

    Args:
        data: training data: images of "retained" concepts, "unrelated" pictures that show no concept, or images of
            the forgotten "concept".
        how: which weights are trained: "full", the whole U-Net, or "lora", low-rank adapters on its attention.
        pictures: number of images of each forgotten concept: at least 1 if `data` is "concept", otherwise 0.

    Raises ValueError if `pictures` does not fit `data`.
    """

    data: Literal["retained", "unrelated", "concept"]
    how: Literal["full", "lora"] = "full"
    pictures: int = 0

    def __post_init__(self) -> None:
        if (self.data == "concept") != (self.pictures > 0):
            allowed = "at least 1" if self.data == "concept" else "0"
            raise ValueError(f"pictures must be {allowed} for data {self.data!r}, not {self.pictures}")

    @property
    def harmless(self) -> bool:
        """Whether the training data contains no image of a forgotten concept."""
        return self.data != "concept"

    @property
    def name(self) -> str:
        """A short name for people."""
        return f"{self.pictures} pictures" if self.pictures else f"{self.data}, {self.how}"


@dataclass(frozen=True)
class Task:
    """One request to forget concepts, or to train an unlearned model further.

    Args:
        name: name of the task, unique within its suite.
        forget: concepts to forget.
        in_domain: concepts of the same domain to keep: the near neighbours.
        out_of_domain: concepts of other domains to keep.
        band: the group that the task belongs to in its suite, or "". Depending on the suite, it says how close the
            nearest neighbour of the forgotten concept is ("far", "middle", "near"), how many concepts are forgotten,
            or how the model is trained further.
        after: the task whose weights this task starts from. Its forgotten concepts are in `forget` too. None: the task
            starts from the original weights.
        finetune: how the weights of `after` are trained further. None: this task forgets more concepts.

    Raises ValueError if `forget` lacks a concept that `after` forgets, and unless the task does exactly one of two
    things: forget new concepts, or train the model further.
    """

    name: str
    forget: tuple[str, ...]
    in_domain: tuple[str, ...]
    out_of_domain: tuple[str, ...]
    band: str = ""
    after: Task | None = None
    finetune: Finetune | None = None

    def __post_init__(self) -> None:
        if self.after and not set(self.after.forget) <= set(self.forget):
            lacking = ", ".join(concept for concept in self.after.forget if concept not in self.forget)
            raise ValueError(
                f"task {self.name!r} starts from {self.after.name!r}, so its forget must contain {lacking} as well"
            )
        if bool(self.finetune) == bool(self.request):
            raise ValueError(f"task {self.name!r} must either forget new concepts or train its model further")

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept that the task evaluates."""
        return self.forget + self.in_domain + self.out_of_domain

    @property
    def request(self) -> tuple[str, ...]:
        """The concepts that this task forgets and the task before it did not."""
        return tuple(c for c in self.forget if self.after is None or c not in self.after.forget)

    @property
    def chain(self) -> tuple[Task, ...]:
        """The requests that lead to this task's weights, from the first to this task; without further training."""
        return (*(self.after.chain if self.after else ()), *(() if self.finetune else (self,)))
