"""UCE: unified concept editing. Cross-attention maps the concept's text states to those of a guide, in one solution."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.base import PARAMETERS, Harness, Method, MethodConfig, require_known

TOKENS = ("last", "all")


@dataclass(frozen=True)
class UceConfig(MethodConfig):
    """Settings. The defaults are those of the authors' present script.

    Args:
        erase_scale: a, the weight of the concepts to forget, at least 0.
        preserve_scale: b, the weight of the concepts to keep, at least 0. At 0 no other concept is used.
        lamb: lambda, the weight of the present weights, more than 0.
        tokens: "last" edits the state of the last token of a concept's name, "all" the states of all tokens of a
            prompt, like the authors' first release.
    """

    erase_scale: float = 1.0
    preserve_scale: float = 1.0
    lamb: float = 0.5
    tokens: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("tokens", self.tokens, TOKENS)
        if self.lamb <= 0:
            raise ValueError(
                f"lamb must be more than 0, not {self.lamb}: it keeps the matrix of the solution invertible"
            )
        if min(self.erase_scale, self.preserve_scale) < 0:
            raise ValueError(
                f"erase_scale and preserve_scale must be at least 0, not {self.erase_scale} and {self.preserve_scale}"
            )


class Uce(Method):
    """W' = (lambda W + a sum_E (W* g) c^T + b sum_P (W p) p^T) (lambda I + a sum_E c c^T + b sum_P p p^T)^-1.

    W are the key and value matrices of cross-attention, W* those of the teacher. E are the concepts to forget, with
    text states c and the guide's states g, and P are the concepts to keep, with text states p. W' is the minimum of
    a sum_E || W' c - W* g ||^2 + b sum_P || W' p - W p ||^2 + lambda || W' - W ||^2. A sum over a concept's prompts is
    a mean, so that the scales do not depend on the number of prompts.

    The guide is the null prompt, as in the authors' default for objects. With `tokens="last"` its state is that of the
    start token, the only token before the end of the null prompt. The prompts are the harness's sentences about the
    concept, where the authors use only its name.
    """

    about = "maps the concept's text states to the null prompt's in cross-attention; one linear system, no training"
    source = "Gandikota et al., WACV 2024, arXiv 2308.14761"
    fidelity = "published"
    multi = "closed_form"
    tags = ("closed-form", "compensation")
    Config = UceConfig
    config: UceConfig

    def trains(self, parameter: str) -> bool:
        """Whether the parameter is a key or value matrix of cross-attention."""
        return bool(PARAMETERS["attn2-kv"](parameter))

    def edit(self, harness: Harness) -> None:
        """The closed-form solution of Gandikota et al., 2024, for each key and value matrix."""
        config, every = self.config, self.config.tokens == "all"
        c = harness.subject_states(harness.task.forget, every)
        guide = harness.null_embeds(1)[0] if every else harness.null_embeds(1)[0, :1]
        g = guide.expand_as(c)
        kept = harness.task.in_domain + harness.task.out_of_domain if config.preserve_scale else ()
        p = harness.subject_states(kept, every) if kept else c[:0]
        solve(harness, c, g, p, config.erase_scale, config.preserve_scale, config.lamb)


@torch.no_grad()
def solve(harness: Harness, c: torch.Tensor, g: torch.Tensor, p: torch.Tensor, a: float, b: float, lamb: float) -> None:
    """Replace each matrix W in `harness.trained` by the W' of `Uce`.

    Args:
        c, g: states of the concepts to forget and of their guides, float32 (K, P, T, width).
        p: states of the concepts to keep, float32 (N, P, T, width).
        a, b, lamb: the scales.
    """
    identity = torch.eye(c.shape[-1], device=c.device)
    right = lamb * identity + a * products(c, c) + b * products(p, p)
    for name, weight in harness.trained.items():
        left = lamb * weight + a * harness.teacher_weights[name] @ products(g, c) + b * weight @ products(p, p)
        weight.copy_(torch.linalg.solve(right, left, left=False))


def products(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """sum x y^T over concepts and tokens, mean over the prompts of a concept: (width, width).

    Args:
        x, y: states, float32 (K, P, T, width).
    """
    return torch.einsum("kpti,kptj->ij", x, y) / max(1, x.shape[1])
