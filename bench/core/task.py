"""What is to be forgotten, what must stay, and what came before or comes after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finetune:
    """How an unlearned model is trained further, by somebody who has nothing to do with the unlearning.

    Args:
        data: what it is shown: pictures of "retained" concepts, "unrelated" ones, or some of what was forgotten
            ("concept").
        how: which weights move: "full", the whole U-Net, or "lora", low-rank adapters on its attention.
        pictures: of the forgotten concept, where it is shown; else 0.
    """

    data: Literal["retained", "unrelated", "concept"]
    how: Literal["full", "lora"] = "full"
    pictures: int = 0

    def __post_init__(self) -> None:
        if (self.data == "concept") != (self.pictures > 0):
            raise ValueError("pictures are those of the forgotten concept: at least one where it is shown, else 0")

    @property
    def harmless(self) -> bool:
        """Whether it never shows what was forgotten."""
        return self.data != "concept"

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.pictures} pictures" if self.pictures else f"{self.data}, {self.how}"


@dataclass(frozen=True)
class Task:
    """One request to forget.

    Args:
        name: unique within its suite.
        forget: concepts that must go.
        in_domain: concepts of the same domain, which must stay: the near neighbours.
        out_of_domain: concepts of other domains, which must stay.
        band: what sets tasks of a suite apart: how close the nearest neighbour of the forgotten concept is ("far",
            "middle", "near"), how many are forgotten, how the model is trained further; or "".
        after: the task whose weights this one starts from; what that forgot is in `forget` too. None: untouched ones.
        finetune: how these weights are trained further, in place of forgetting more.
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
            raise ValueError(f"task {self.name!r} must count what {self.after.name!r} forgot as forgotten")
        if bool(self.finetune) == bool(self.request):
            raise ValueError(f"task {self.name!r} must either forget something new or train its model further")

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept that the task evaluates."""
        return self.forget + self.in_domain + self.out_of_domain

    @property
    def request(self) -> tuple[str, ...]:
        """What this task forgets besides what the one before it did."""
        return tuple(c for c in self.forget if self.after is None or c not in self.after.forget)

    @property
    def chain(self) -> tuple[Task, ...]:
        """The requests that lead to this task's weights, itself the last."""
        return (*(self.after.chain if self.after else ()), *(() if self.finetune else (self,)))
