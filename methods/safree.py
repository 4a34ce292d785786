"""SAFREE: projects the prompt's tokens that carry the concept out of the concept's subspace, for the first steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from methods.base import (
    Embed,
    Guidance,
    Method,
    MethodConfig,
    Predict,
    PredictStep,
    conditions,
    predict_each,
    require_known,
)
from methods.skip_filter import SkipFilter

if TYPE_CHECKING:
    from bench.backbones.pipeline import Backbone

STEPS = 50  # sampling steps of the publication, in which t' is counted
ORDERS = ("paper", "code")
VALIDATIONS = ("paper", "code", "none")
STEEPNESS, MIDDLE = 2 * 2.5, 5.333  # 2 k and m of the authors' code, in t' = round(gamma sigma(2 k (10 z - m)))


@dataclass(frozen=True)
class SafreeConfig(MethodConfig):
    """Settings. Those of the training loop have no effect.

    Args:
        strength: share of the way from a trigger token's state to its projection, in [0, 1]. 0 is the untouched model.
        alpha: how much further than the other tokens a trigger lies from the concept's subspace, at least 0.
        order: "paper" projects with P_I (I - P_C), "code" with (I - P_C) P_I.
        validation: "paper" for t' = round(gamma sigma(z)), "code" for the steeper form of the authors' code, "none" to
            project in every step.
        gamma: the largest t', in steps of 50, at least 0.
        reattention: whether to filter the skip features of the U-Net as well.
        deepest_scale: factor of the filter for the features of the deepest width, in [0, 1].
        next_scale: factor of the filter for the features of the next width, in [0, 1].
    """

    strength: float = 1.0
    alpha: float = 0.01
    order: str = "paper"
    validation: str = "paper"
    gamma: float = 10.0
    reattention: bool = False
    deepest_scale: float = 0.9
    next_scale: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("order", self.order, ORDERS)
        require_known("validation", self.validation, VALIDATIONS)
        for name in ("alpha", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("strength", "deepest_scale", "next_scale"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be at least 0 and at most 1, not {getattr(self, name)}")


class Safree(Method):
    """Classifier-free guidance with another text state in place of the prompt's, in each step i <= t'.

        P_C = C C^+, with the pooled text states of the concepts as columns of C
        P_I = J J^+, with the pooled states p_1 ... p_n of the prompt as columns of J, token j replaced in p_j
        d_j = ||(I - P_C) p_j||;  token j is a trigger where d_j >= (1 + alpha) mean_(k != j) d_k
        e_j <- P_I (I - P_C) e_j for the state e_j of each trigger; all other states stay
        z = 1 - mean_j cos(e_j, P_I (I - P_C) e_j) over BOS, tokens and EOS;  t' = round(gamma sigma(z))

    A pooled state is the one at EOS. The token that replaces another one has the id 0. sigma is the logistic function.
    The published steps are 50, and t' counts these: with S steps in all, step i stands at 50 i / S.

    The authors' code differs, and settings give its forms: it projects with (I - P_C) P_I (`order`), and its t' is
    nearly 0 or gamma (`validation`). Its constants are for nudity; it has others for artists. Their re-attention
    (`reattention`, off by default) is inert in their code: the hooks get no filter. Here it follows the paper, see
    `methods.skip_filter`. Their code always uses the concepts as negative prompt as well, which is another method:
    here the null prompt stays. A prompt of one token has no others to compare with, so its token is a trigger, as in
    their code. Weights do not change.
    """

    about = "projects trigger tokens out of the concept's subspace, while sampling; no weight changes"
    source = "Yoon et al., ICLR 2025, arXiv 2410.12761"
    fidelity = "published"
    multi = "closed_form"
    tags = ("inference",)
    Config = SafreeConfig
    config: SafreeConfig

    def attach(
        self, backbone: Backbone, concepts: Sequence[str], tensors: Mapping[str, torch.Tensor]
    ) -> AbstractContextManager[object]:
        """The guidance of the class's formulas; nothing at strength 0."""
        if self.config.strength == 0:
            return nullcontext()
        return backbone.guided_by(ProjectedPrompts(backbone, concepts, self.config))

    def passes(self, scale: float) -> int:
        """Those of classifier-free guidance, and with re-attention one for the prompt as it was."""
        more = self.config.reattention and self.config.strength and scale
        return len(conditions(scale, None, None)) + bool(more)


class ProjectedPrompts(Guidance):
    """The guidance of SAFREE.

    Args:
        backbone: the pipeline, whose text encoder encodes the prompts.
        concepts: the phrases of the concepts to forget.
        config: the settings.
    """

    def __init__(self, backbone: Backbone, concepts: Sequence[str], config: SafreeConfig) -> None:
        self._pipeline, self._config = backbone.pipeline, config
        self._concepts = tuple(concepts)
        self._known: dict[str, tuple[torch.Tensor, float]] = {}  # prompt -> what `projected` returns

    def start(
        self, prompts: Sequence[str], predict: Predict, embed: Embed, scale: float, timesteps: torch.Tensor
    ) -> PredictStep:
        """As in Guidance."""
        if scale == 0:
            return super().start(prompts, predict, embed, scale, timesteps)
        original, config = embed(prompts), self._config
        each = [self.projected(prompt) for prompt in prompts]
        projected = torch.stack([states.to(original) for states, _ in each])
        last = torch.tensor([t for _, t in each], device=original.device)  # t' of each image
        null = embed([""] * len(prompts))
        skips = SkipFilter(self._pipeline.unet, (config.deepest_scale, config.next_scale))

        def predict_step(latents: torch.Tensor, t: torch.Tensor, step: int) -> torch.Tensor:
            now = STEPS * step / len(timesteps) <= last
            embeds = conditions(scale, null, projected.where(now.view(-1, 1, 1), original))
            if config.reattention:
                with skips.filtering(len(prompts)):
                    *eps, _ = predict_each(predict, latents, t, [*embeds, original])
            else:
                eps = [*predict_each(predict, latents, t, embeds)]
            # eps(z_t, null) + s (eps(z_t, p) - eps(z_t, null))
            return eps[0] if len(eps) == 1 else eps[0] + scale * (eps[1] - eps[0])

        return predict_step

    def projected(self, prompt: str) -> tuple[torch.Tensor, float]:
        """The text states of a prompt with its triggers projected, float32 (tokens, width), and t'."""
        if prompt not in self._known:
            self._known[prompt] = self._project(prompt)
        return self._known[prompt]

    def _project(self, prompt: str) -> tuple[torch.Tensor, float]:
        config = self._config
        ids, count = self._tokens([prompt])[0], self._length(prompt)
        states = self._encode(ids.unsqueeze(0))[0][0]
        if not count:  # the null prompt
            return states, -1.0
        concepts = self._encode(self._tokens(self._concepts))[1]
        masked = ids.repeat(count, 1)
        positions = torch.arange(count)
        masked[positions, positions + 1] = 0  # BOS stands first
        pooled = self._encode(masked)[1]
        # P_C and P_I
        away, onto = torch.eye(states.shape[1], dtype=torch.float64) - projector(concepts), projector(pooled)
        trigger = triggers((away @ pooled.T).norm(dim=0), config.alpha)
        # P_I (I - P_C), or (I - P_C) P_I
        project = onto @ away if config.order == "paper" else away @ onto
        moved = states @ project.T
        result = states.clone()
        rows = 1 + trigger.nonzero().flatten()
        result[rows] = states[rows] + config.strength * (moved[rows] - states[rows])
        attended = slice(0, count + 2)
        z = 1 - float(F.cosine_similarity(states[attended], moved[attended], dim=1).mean())
        return result.float(), last_step(z, config)

    def _tokens(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token ids, int64 (len(prompts), tokens): BOS, the tokens of the prompt, EOS and padding."""
        words = self._pipeline.tokenizer
        length = words.model_max_length
        found = words([*prompts], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return torch.as_tensor(found.input_ids)

    def _length(self, prompt: str) -> int:
        """The number of tokens of a prompt that the text encoder reads, without BOS and EOS."""
        words = self._pipeline.tokenizer
        return len(words(prompt, max_length=words.model_max_length, truncation=True).input_ids) - 2

    @torch.no_grad()
    def _encode(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states, float64 (N, tokens, width), and pooled states, float64 (N, width), on the CPU."""
        encoder = self._pipeline.text_encoder
        found = encoder(ids.to(encoder.device))
        return found.last_hidden_state.double().cpu(), found.pooler_output.double().cpu()


def projector(rows: torch.Tensor) -> torch.Tensor:
    """The orthogonal projector on the span of some vectors, float64 (N, D) -> (D, D).

    >>> projector(torch.tensor([[2.0, 0.0], [4.0, 0.0]], dtype=torch.float64))
    tensor([[1., 0.],
            [0., 0.]], dtype=torch.float64)
    """
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    kept = directions[sizes > sizes[0] * max(rows.shape) * torch.finfo(torch.float32).eps]  # states are float32
    return kept.T @ kept


def triggers(distances: torch.Tensor, alpha: float) -> torch.Tensor:
    """Which tokens are triggers, bool (n,), from their distances d_j, float (n,).

    >>> triggers(torch.tensor([1.0, 1.0, 1.2]), 0.01)
    tensor([False, False,  True])
    >>> triggers(torch.tensor([1.0]), 0.01)
    tensor([True])
    """
    if len(distances) == 1:
        return torch.ones(1, dtype=torch.bool)
    others = (distances.sum() - distances) / (len(distances) - 1)
    return distances >= (1 + alpha) * others


def last_step(z: float, config: SafreeConfig) -> float:
    """t', the last of 50 steps that gets the projected prompt; infinite without validation.

    >>> last_step(0.3, SafreeConfig()), last_step(0.3, SafreeConfig(validation="code"))
    (6.0, 0.0)
    """
    if config.validation == "none":
        return math.inf
    x = z if config.validation == "paper" else STEEPNESS * (10 * z - MIDDLE)
    return float(round(config.gamma / (1 + math.exp(-x))))
