"""SPEED: a closed-form edit of cross-attention in the null space of the text states to keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.cluster.vq import kmeans2

from methods.base import Harness, Method, MethodConfig, require_known

MATRICES = {"v": (".attn2.to_v.",), "kv": (".attn2.to_k.", ".attn2.to_v.")}


@dataclass(frozen=True)
class SpeedConfig(MethodConfig):
    """Settings. The defaults are the authors' for a few concepts.

    Args:
        matrices: "v" edits the value matrices of cross-attention, "kv" the key matrices too.
        threshold: tau, at least 0. Directions in which the retained states' mean squared length is below it may change.
        rho: weight of the squared size of the edit, more than 0.
        lamb: lambda, at least 0: how far the states of the null prompt may move. 0: not at all.
        filtered: whether only the retained states are kept that an edit without constraints would move most.
        copies: randomly moved copies of each retained state, at least 0.
        centres: centres of the null prompt's states that the edit keeps, besides its start token, at least 1.
    """

    matrices: str = "v"
    threshold: float = 0.1
    rho: float = 1.0
    lamb: float = 0.0
    filtered: bool = True
    copies: int = 10
    centres: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("matrices", self.matrices, MATRICES)
        if self.rho <= 0:
            raise ValueError(f"rho must be more than 0, not {self.rho}: it makes the linear system solvable")
        if min(self.threshold, self.lamb, self.copies) < 0 or self.centres < 1:
            found = f"{self.threshold}, {self.lamb}, {self.copies} and {self.centres}"
            raise ValueError(f"threshold, lamb and copies must be at least 0, and centres at least 1, not {found}")


class Speed(Method):
    """W' = W + W (A - T) P [I - M K (K^T P M K + lambda I)^-1 K^T P] M, with M = (T P + rho I)^-1.

    W is a value matrix of cross-attention. T = mean e e^T and A = mean a e^T over the concepts to forget, with the text
    states e and the anchor's state a. P projects onto the eigenvectors of R = mean r r^T whose eigenvalue is below tau,
    where r are retained states. The columns of K are states of the null prompt. W' minimises
    mean || W' e - W a ||^2 + rho || W' - W ||^2 among all W' = W + X with X = X P and, for lambda = 0, X K = 0.

    The retained states are those of the concepts to keep that the edit without constraints would move by more than the
    mean. To these come copies, moved along the direction that W shrinks most, which are filtered in the same way.

    The anchor is the null prompt, as the authors have it for objects. Its state is that of the start token. The prompts
    are the harness's sentences about the concepts, where the authors use only the names.
    """

    about = "maps the concept's text states to the null prompt's in the null space of other prompts; no training"
    source = "Li et al., 2025, arXiv 2503.07392"
    fidelity = "published"
    multi = "closed_form"
    tags = ("closed-form", "compensation")
    Config = SpeedConfig
    config: SpeedConfig

    def trains(self, parameter: str) -> bool:
        """Whether the parameter is one of `config.matrices`."""
        return any(part in parameter for part in MATRICES[self.config.matrices])

    @torch.no_grad()
    def edit(self, harness: Harness) -> None:
        """The closed-form solution of Li et al., 2025, for each matrix."""
        e = harness.subject_states(harness.task.forget).flatten(0, 2)
        null = harness.null_embeds(1)[0]
        a = null[:1].expand_as(e)
        kept = harness.task.in_domain + harness.task.out_of_domain
        retained = harness.subject_states(kept).flatten(0, 2) if kept else e[:0]
        target, anchor = e.T @ e / len(e), a.T @ e / len(e)
        fixed = self.null_states(harness, null)
        for weight in harness.trained.values():
            r = self.retained(harness, weight, anchor - target, target, retained)
            weight.add_(self.update(weight, anchor - target, target, self.projector(r, len(null.T)), fixed))

    def null_states(self, harness: Harness, null: torch.Tensor) -> torch.Tensor:
        """K: the state of the start token, and the centres of the other states of the null prompt: (width, 1 + C)."""
        others = null[1:].cpu().double()
        distinct = min(self.config.centres, len(others.unique(dim=0)))
        first = others[torch.randperm(len(others), generator=harness.generator)[:distinct]]
        centres, _ = kmeans2(others.numpy(), first.numpy(), minit="matrix")
        return torch.cat([null[:1], torch.from_numpy(centres).to(null)]).T

    def retained(
        self, harness: Harness, weight: torch.Tensor, change: torch.Tensor, target: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        """The retained states r for one matrix, (N, width): filtered states, and filtered copies of these."""
        identity = torch.eye(len(target), device=target.device)
        free = torch.linalg.solve(identity + target, weight @ change, left=False)  # the edit without constraints

        def moved_most(rows: torch.Tensor) -> torch.Tensor:
            moved = (rows @ free.T).norm(dim=1)
            return rows[moved > moved.mean()] if self.config.filtered and len(rows) else rows

        kept = moved_most(states)
        smallest = torch.linalg.svd(weight, full_matrices=True).Vh[-1]
        noise = torch.randn(self.config.copies, *kept.shape, generator=harness.generator).to(kept.device)
        copies = (kept + (noise @ smallest).unsqueeze(-1) * smallest).flatten(0, 1)
        return torch.cat([kept, moved_most(copies)])

    def projector(self, retained: torch.Tensor, width: int) -> torch.Tensor:
        """P: onto the eigenvectors of R whose eigenvalue is below the threshold, (width, width)."""
        mean = retained.T @ retained / max(1, len(retained)) if len(retained) else retained.new_zeros(width, width)
        values, vectors = torch.linalg.eigh(mean.double())
        free = vectors[:, values < self.config.threshold]
        return (free @ free.T).to(retained)

    def update(
        self, weight: torch.Tensor, change: torch.Tensor, target: torch.Tensor, P: torch.Tensor, K: torch.Tensor
    ) -> torch.Tensor:
        """X = W (A - T) P [I - M K (K^T P M K + lambda I)^-1 K^T P] M, in the shape of W. `change` is A - T."""
        config = self.config
        change, target, P, K = (one.double() for one in (change, target, P, K))
        identity = torch.eye(len(P), dtype=P.dtype, device=P.device)
        M = torch.linalg.inv(target @ P + config.rho * identity)
        # the pseudo-inverse, because null states within the retained states' span make the matrix singular
        inner = torch.linalg.pinv(K.T @ P @ M @ K + config.lamb * torch.eye(K.shape[1], dtype=K.dtype, device=K.device))
        X = weight.double() @ change @ P @ (identity - M @ K @ inner @ K.T @ P) @ M
        return X.to(weight)
