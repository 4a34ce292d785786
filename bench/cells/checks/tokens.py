"""Whether the text encoder sees the whole of each prompt, and whether it can tell the prompts of two concepts apart."""

from __future__ import annotations

import reprlib
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.backbones import folder
from bench.plan.plan import Plan
from bench.plan.plugin_checks import InvalidEntry
from bench.worlds import World
from bench.worlds.base import SPLITS

short = reprlib.Repr()
short.maxstring = 100
shown = short.repr


class Tokens:
    """The token ids of prompts for the text encoder of a pipeline folder, before it cuts off what is too long.

    Args:
        pipeline: the folder.
    """

    def __init__(self, pipeline: Path) -> None:
        from transformers import CLIPTokenizer  # this import takes a second, and commands that list names need it not

        self._tokenizer = CLIPTokenizer.from_pretrained(pipeline / "tokenizer", local_files_only=True)
        self.limit = min(int(self._tokenizer.model_max_length), folder.text_length(pipeline))
        self._ids: dict[str, tuple[int, ...]] = {}

    def of(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each prompt, with those of its start and its end, without padding. Nothing is cut off."""
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._ids]:
            ids = self._tokenizer(new, truncation=False, verbose=False).input_ids
            self._ids.update(zip(new, map(tuple, ids), strict=True))
        return [self._ids[prompt] for prompt in prompts]

    def seen(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of the part of each prompt that the text encoder sees, without those of its start and its end."""
        return [ids[1:-1][: self.limit - 2] for ids in self.of(prompts)]

    def lost(self, prompt: str) -> str:
        """The end of a prompt that the text encoder does not see; "" if it sees all but punctuation."""
        (ids,) = self.of([prompt])
        end = self._tokenizer.decode(ids[self.limit - 1 : -1]).strip() if len(ids) > self.limit else ""
        return end if end.strip(string.punctuation + string.whitespace) else ""


def require_different_prompts(plan: Plan) -> None:
    """Raise InvalidEntry if a prompt is too long for the text encoder, or if two concepts have the same tokens.

    Checked are all prompts of the concepts that the run evaluates: those of both splits, of superclasses, of head
    nouns, and bare names. Two concepts of a domain must share no sequence of tokens in a split, nor two styles.
    Concepts of different domains may share some, as an object and a style do, and must not share all. The two splits
    of a concept must share none, nor a concept and its superclass.
    """
    world, tokens = plan.world, Tokens(plan.folder)
    for concept in plan.concepts:
        for call, prompts in _prompts(world, concept):
            for prompt, ids in zip(prompts, tokens.of(prompts), strict=True):
                if lost := tokens.lost(prompt):
                    raise InvalidEntry(
                        f"world {world.name!r}: {call} of {shown(concept)} has {shown(prompt)}, which has {len(ids)} "
                        f"tokens; the text encoder sees {tokens.limit}, so it loses {shown(lost)}; give a shorter "
                        "prompt, or a shorter name for the concept"
                    )
        _require_own(world, concept, tokens)
    for caption in world.captions:
        if lost := tokens.lost(caption):
            raise InvalidEntry(
                f"world {world.name!r}: the caption {shown(caption)} is longer than the {tokens.limit} tokens that the "
                f"text encoder sees, so it loses {shown(lost)}; leave it out, or make it shorter"
            )
    for split in SPLITS:
        _require_apart(plan, split, tokens)


def _prompts(world: World, concept: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A description and the prompts of each kind that asks for a concept."""
    for split in SPLITS:
        yield f"prompts({split!r}, ...)", world.prompts(split, concept)
        yield f"superclass_prompts(..., {split!r})", world.superclass_prompts(concept, split)
    yield "bare_name(...)", (world.bare_name(concept),)
    if noun := world.headnoun(concept):
        yield "headnoun(...)", noun[0]


def _require_own(world: World, concept: str, tokens: Tokens) -> None:
    """Raise InvalidEntry if a concept's splits share a sequence of tokens, or a concept and its superclass do."""
    said = f"world {world.name!r}: to the text encoder"
    forget, evaluate = (dict(zip(tokens.seen(p), p, strict=True)) for p in (world.prompts(s, concept) for s in SPLITS))
    if both := [ids for ids in forget if ids in evaluate]:
        raise InvalidEntry(
            f"{said} {shown(forget[both[0]])} of the split 'forget' is {shown(evaluate[both[0]])} of 'evaluate'; the "
            "splits must share no prompt"
        )
    for split in SPLITS:
        own, above = world.prompts(split, concept), world.superclass_prompts(concept, split)
        for prompt, other in zip(own, above, strict=False):
            if tokens.seen([prompt]) == tokens.seen([other]):
                raise InvalidEntry(
                    f"{said} {shown(other)} of superclass_prompts is the prompt {shown(prompt)} of {shown(concept)} "
                    "itself; they must differ"
                )


def _require_apart(plan: Plan, split: str, tokens: Tokens) -> None:
    """Raise InvalidEntry if the prompts of a split don't tell two concepts apart."""
    world = plan.world
    of_prompt: dict[tuple[int, tuple[int, ...]], tuple[str, str]] = {}  # domain and ids -> concept and its prompt
    of_all: dict[frozenset[tuple[int, ...]], tuple[str, str]] = {}  # ids of all prompts -> the same
    domains = (*world.domains.values(), world.styles)
    for concept in plan.concepts:
        prompts = world.prompts(split, concept)  # type: ignore[arg-type]
        domain = next(i for i, members in enumerate(domains) if concept in members)
        ids = tokens.seen(prompts)
        firsts = [of_prompt.setdefault((domain, i), (concept, p)) for i, p in zip(ids, prompts, strict=True)]
        firsts.append(of_all.setdefault(frozenset(ids), (concept, prompts[0])))
        for (other, first), prompt in zip(firsts, (*prompts, prompts[0]), strict=True):
            if other != concept:
                raise InvalidEntry(
                    f"world {world.name!r}: to the text encoder {shown(prompt)} of {shown(concept)} is {shown(first)} "
                    f"of {shown(other)}; in the split {split!r} each concept must have prompts of its own"
                )
