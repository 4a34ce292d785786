"""RECE: UCE, and then the erasure of the embeddings that still produce the concept, each found in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.base import Harness
from methods.uce import Uce, UceConfig, solve


@dataclass(frozen=True)
class ReceConfig(UceConfig):
    """Settings of UCE, and those of the rounds after it. The defaults are the authors' for objects.

    Args:
        rounds: how often adversarial embeddings are found and erased, at least 0.
        embedding_penalty: lambda_r, the weight of the embedding's squared norm, more than 0.
        round_lamb: lambda of UCE within a round, more than 0.
        round_preserve_scale: weight of the null prompt's states, which a round keeps, at least 0.
    """

    rounds: int = 1
    embedding_penalty: float = 1e-3
    round_lamb: float = 0.1
    round_preserve_scale: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 0:
            raise ValueError(f"rounds must be at least 0, not {self.rounds}")
        if min(self.embedding_penalty, self.round_lamb) <= 0:
            raise ValueError(
                f"embedding_penalty and round_lamb must be more than 0, not {self.embedding_penalty} and "
                f"{self.round_lamb}: they make the linear systems solvable"
            )
        if self.round_preserve_scale < 0:
            raise ValueError(f"round_preserve_scale must be at least 0, not {self.round_preserve_scale}")


class Rece(Uce):
    """UCE, and then in each round: c' = (lambda_r I + sum_l W_l^T W_l)^-1 (sum_l W_l^T W*_l) c, and UCE of c' -> "".

    W_l are the present key and value matrices of layer l, W*_l those of the teacher, and c the text states of the
    concepts to forget. c' minimises sum_l || W_l c' - W*_l c ||^2 + lambda_r || c' ||^2: it is the embedding with which
    the edited model comes closest to the concept. A round maps c' to the null prompt's states and keeps the null
    prompt's states.

    The authors' code edits the states of all tokens of a prompt, the start token and the padding among them
    (`tokens="all"`), and saves only rounds that lower the rate of a detector. Here the last token of the concept's name
    is edited, and every round counts.
    """

    about = "UCE, repeated for the embeddings that still bring the concept back; linear systems, no training"
    source = "Gong et al., ECCV 2024, arXiv 2407.12383"
    fidelity = "published"
    Config = ReceConfig
    config: ReceConfig

    def edit(self, harness: Harness) -> None:
        """UCE, and `config.rounds` rounds of Gong et al., 2024."""
        super().edit(harness)
        config, every = self.config, self.config.tokens == "all"
        c = harness.subject_states(harness.task.forget, every)
        null = harness.null_embeds(1)[0] if every else harness.null_embeds(1)[0, :1]
        p = null.expand(1, 1, *null.shape)
        for _ in range(config.rounds):
            adversarial = self.adversarial(harness, c)
            g = null.expand_as(adversarial)
            solve(harness, adversarial, g, p, config.erase_scale, config.round_preserve_scale, config.round_lamb)

    @torch.no_grad()
    def adversarial(self, harness: Harness, c: torch.Tensor) -> torch.Tensor:
        """c' for each state in `c`, float32 (K, P, T, width)."""
        right = self.config.embedding_penalty * torch.eye(c.shape[-1], device=c.device)
        left = torch.zeros_like(right)
        for name, weight in harness.trained.items():
            right = right + weight.T @ weight
            left = left + weight.T @ harness.teacher_weights[name]
        return c @ torch.linalg.solve(right, left).T
