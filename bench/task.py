"""What is to be forgotten, and what must stay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One request to forget.

    Args:
        name: unique within its suite.
        forget: concepts that must go.
        in_domain: concepts of the same domain, which must stay: the near neighbours.
        out_of_domain: concepts of other domains, which must stay.
        band: how close the nearest neighbour of the forgotten concept is: "far", "middle", "near" or "".
    """

    name: str
    forget: tuple[str, ...]
    in_domain: tuple[str, ...]
    out_of_domain: tuple[str, ...]
    band: str = ""

    @property
    def concepts(self) -> tuple[str, ...]:
        """Every concept that the task evaluates."""
        return self.forget + self.in_domain + self.out_of_domain
