"""The embeddings of a task's prompts that a method asks for, and the account of those that it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from bench.backbones.pipeline import Backbone
from bench.core.task import Task
from bench.training import subject_tokens
from bench.training.accounting import DataUse
from bench.training.student_teacher import StudentTeacher


class Prompts(StudentTeacher):
    """The part of a `Harness` that answers with embeddings of prompts. Arguments and attributes as there."""

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        prompts: Mapping[str, tuple[str, ...]],
        superclass_prompts: Mapping[str, tuple[str, ...]] | None = None,
        words: Mapping[str, str] | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
        teacher: str = "original",
    ) -> None:
        super().__init__(backbone, start, teacher)
        self.task, self.data_use = task, DataUse()
        self._prompts, self._superclass_prompts, self._words = prompts, superclass_prompts or {}, words or {}

    def anchor_embeds(self, concepts: Sequence[str], templates: Sequence[int]) -> torch.Tensor:
        """Embeddings of prompts for other concepts, float32 (B, tokens, width). They count as anchor prompts.

        Args:
            concepts: B concepts of the task.
            templates: for each, the index of the prompt: `batch.templates` for the templates of a batch.

        Example: the batch's prompts with the name of another concept.
            >>> batch = next(harness.forget_batches(4))
            >>> others = [harness.siblings[concept][0] for concept in batch.concepts]
            >>> harness.anchor_embeds(others, batch.templates).shape
            torch.Size([4, 20, 32])
            >>> harness.data_use.compensation
            'anchor prompts'
        """
        return self._anchor_embeds(self._prompts, concepts, templates)

    def superclass_embeds(self, concepts: Sequence[str], templates: Sequence[int]) -> torch.Tensor:
        """Embeddings of prompts that name the superclass in place of the concept, float32 (B, tokens, width).

        Arguments as in `anchor_embeds`. The prompts count as anchor prompts. Raises ValueError if the world has no
        such prompts for a concept.

        Example:
            >>> batch = next(harness.forget_batches(4))
            >>> harness.superclass_embeds(batch.concepts, batch.templates).shape
            torch.Size([4, 20, 32])
        """
        if missing := [c for c in concepts if not self._superclass_prompts.get(c)]:
            raise ValueError(f"this world has no prompts that leave out {missing[0]!r}")
        return self._anchor_embeds(self._superclass_prompts, concepts, templates)

    def subject_states(self, concepts: Sequence[str], all_tokens: bool = False) -> torch.Tensor:
        """Text states of the training prompts of `concepts`, for methods that edit weights by text states.

        Args:
            concepts: K concepts of the task. The prompts of concepts to keep count as anchor prompts.
            all_tokens: True for the states of all tokens, False for the last token of the concept's name.

        Returns float32 (K, P, T, width) for P prompts of each concept; T is 1 or the number of tokens.

        Raises ValueError if a prompt does not name its concept.

        Example:
            >>> harness.subject_states(harness.task.forget).shape
            torch.Size([1, 5, 1, 32])
        """
        prompts = [prompt for concept in concepts for prompt in self._prompts[concept]]
        kept = [concept for concept in concepts if concept not in self.task.forget]
        self.data_use.anchor_prompts.update(prompt for concept in kept for prompt in self._prompts[concept])
        states = self._backbone.embed(prompts)
        if not all_tokens:
            tokenizer = self._backbone.pipeline.tokenizer
            words = {concept: self._words.get(concept, concept) for concept in concepts}
            pairs = [(prompt, words[concept]) for concept in concepts for prompt in self._prompts[concept]]
            ends = [subject_tokens.last_subject_token(tokenizer, *pair) for pair in pairs]
            states = states[torch.arange(len(ends)), torch.tensor(ends)].unsqueeze(1)
        return states.unflatten(0, (len(concepts), -1))

    def retained_token_states(self) -> torch.Tensor:
        """Token states of all prompts of the concepts to keep, float32 (N, width). They count as anchor prompts."""
        prompts = [prompt for c in self.task.in_domain + self.task.out_of_domain for prompt in self._prompts[c]]
        self.data_use.anchor_prompts.update(prompts)
        return self._backbone.embed(prompts).flatten(0, 1)

    def _anchor_embeds(
        self, prompts: Mapping[str, tuple[str, ...]], concepts: Sequence[str], templates: Sequence[int]
    ) -> torch.Tensor:
        anchors = [prompts[c][t] for c, t in zip(concepts, templates, strict=True)]
        self.data_use.anchor_prompts.update(anchors)
        return self._backbone.embed(anchors)
