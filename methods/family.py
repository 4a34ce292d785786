"""The loss that most erasure methods share, with its switches."""

from __future__ import annotations

import torch

from bench.training.harness import Harness


def erasure_target(
    harness: Harness,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    prompt_embeds: torch.Tensor,
    anchor_embeds: torch.Tensor | None = None,
    eta: float = 0.0,
    anchor: str = "teacher",
) -> torch.Tensor:
    """target = eps_A(z_t, a) - eta * (eps*(z_t, c) - eps*(z_t, null)), without gradient.

    Args:
        latents: z_t, float32 (B, C, h, w); timesteps: int64 (B,).
        prompt_embeds: c, the prompts to forget, (B, tokens, width).
        anchor_embeds: a, what the prediction should become, (B, tokens, width); None: the null prompt.
        eta: how far past the anchor, away from the concept; 0 stops at it.
        anchor: A, "teacher" (the frozen original), "student" (the weights being trained) or "average" (their moving
            average). Raises ValueError for anything else.

    Returns float32 (B, C, h, w). (A=teacher, a=null): eta 0 is MiM-MU, eta 1 ESD (Gandikota et al. 2023).
    (A=student, eta 0): a=null is SDD (Kim et al. 2023), a=another concept is Concept Ablation (Kumari et al. 2023) and
    SalUn's relabelling (Fan et al. 2024).
    """
    network, null = harness.network(anchor), harness.null(len(latents))
    with torch.no_grad():
        target = network(latents, timesteps, null if anchor_embeds is None else anchor_embeds)
        if eta:
            concept = harness.teacher(latents, timesteps, prompt_embeds)
            # with eps*(null) for an anchor, the term is there already: one forward less
            known = anchor == "teacher" and anchor_embeds is None
            target = target - eta * (concept - (target if known else harness.teacher(latents, timesteps, null)))
    return target
