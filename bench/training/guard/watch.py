"""Watches a block of code that others wrote: it must leave the process and the networks as it found them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.backbones.pipeline import Backbone
from bench.training.guard.contents import Contents
from bench.training.guard.libraries import Libraries, settle
from bench.training.guard.objects import Objects
from bench.training.guard.plugin_state import PluginState
from bench.training.guard.settings import Settings
from bench.training.guard.torch_switches import TORCH

SHOWN = 3  # changes that a message names
PATIENCE = 1.0  # seconds that a thread has to end after the block
OWN_THREADS = ("torch", "tqdm", "concurrent", "multiprocessing", "huggingface_hub", "transformers", "diffusers")


class LeftBehind(RuntimeError):
    """A method, a metric or a judge left something changed that would reach the next one. It was put back."""


@cache
def _libraries() -> Libraries:
    settle()
    return Libraries()


class Watch:
    """The process and the networks as they are at the beginning of a block.

    Args:
        who: whose block it is, as messages name it: "method 'esd'".
        backbone: the networks; None to watch only the process.
        roots: name -> further objects that the block gets and must not change.
        own: names of the modules of the plug-in, whose state is put back without a word.
    """

    def __init__(
        self,
        who: str,
        backbone: Backbone | None,
        roots: Mapping[str, Any] | None = None,
        own: Iterable[str] = (),
    ) -> None:
        self.who, self._backbone = who, backbone
        self._roots = {**(roots_of(backbone) if backbone else {}), **(roots or {})}
        self._embeds = backbone._embeds if backbone else {}
        _libraries().refresh()
        self._own = PluginState(own)
        self._settings = Settings()
        self._threads = set(threading.enumerate())
        self._words = self._vocabulary()
        self._objects = self._take()
        self._contents = Contents(self._objects.tensors)

    def _take(self) -> Objects:
        # prompts may be encoded in the block, so `begin` sets the cache of embeddings aside
        return Objects(self._roots, {id(self._backbone): frozenset({"_embeds"})})

    def begin(self) -> None:
        """Give the block a cache of embeddings of its own, since it may encode prompts with changed networks."""
        self._put_embeds({})

    def _put_embeds(self, embeds: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Give the backbone this cache. Returns the one that it had."""
        if self._backbone is None:
            return {}
        before, self._backbone._embeds = self._backbone._embeds, embeds
        return before

    def _vocabulary(self) -> str:
        """The tokenizer without its settings for the length of texts, which every call sets anew."""
        rust = getattr(getattr(self._backbone and self._backbone.pipeline, "tokenizer", None), "_tokenizer", None)
        return "" if rust is None else rust.to_str().partition('"added_tokens"')[2]

    def restore(self) -> tuple[list[str], list[str], bool]:
        """Put back everything that differs.

        Returns the changes that fail a cell, those that a cell is warned of, and whether the networks are whole again.
        """
        failing: list[str] = []
        warning: list[str] = []
        imported = self._settings.imported()
        for switch, then, now in self._settings.restore():
            if switch.grade == "silent" or (switch.imports and imported):
                continue
            (failing if switch.grade == "fails" else warning).append(_difference(switch.name, then, now))
        replaced = list(_libraries().replaced())
        for one in replaced:
            one.put()
        failing += [f"{one.name} replaced" for one in replaced]
        failing += self._objects.restore()
        changed, whole = self._contents.restore()
        failing += [f"{name} with other values" for name in changed]
        if self._vocabulary() != self._words:
            whole = False
            failing.append("another vocabulary in the tokenizer")
        running = self._running()
        failing += [f"the thread {thread.name!r} running" for thread in running]
        self._own.restore()
        self._put_embeds(self._embeds)
        return failing, warning, whole and not running

    def _running(self) -> list[threading.Thread]:
        """The threads that the block began and that go on, without those of libraries."""
        until = time.monotonic() + PATIENCE
        new = [one for one in threading.enumerate() if one not in self._threads and not _of_library(one)]
        for thread in new:
            thread.join(max(0.0, until - time.monotonic()))
        return [thread for thread in new if thread.is_alive()]

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within the block, everything but the trained weights is as it was at the beginning of the watch.

        For computations of Lethe in the middle of a training, whose results other cells use too. The parameters must
        have the weights of the backbone already. Raises LeftBehind if a tensor has other contents than before, that is
        if the method changed a parameter that it does not train.
        """
        if changed := self._contents.changed():
            raise LeftBehind(f"{self.who} changed {_listed(changed)}, which it does not train")
        settings, replaced, objects = Settings(), list(_libraries().replaced()), self._take()
        self._settings.restore()
        for one in replaced:
            one.put()
        self._objects.restore(tensors=False)
        embeds = self._put_embeds(self._embeds)
        try:
            yield
        finally:
            self._put_embeds(embeds)
            objects.restore(tensors=False)
            for one in replaced:
                one.again()
            settings.restore()


@contextmanager
def watched(watch: Watch, warn: Callable[[str], None], lost: Callable[[], None]) -> Iterator[Watch]:
    """Afterwards everything is as at the beginning of `watch`, also after an exception of the block.

    Args:
        watch: made just before.
        warn: is called with a sentence for each change that was put back and does not matter.
        lost: is called if the networks can't be put back, so that they must be loaded anew.

    Raises LeftBehind if the block left something changed that could reach another cell.
    """
    failing: list[str] = []
    try:
        watch.begin()
        yield watch
    finally:
        failing, warning, whole = watch.restore()
        if not whole:
            lost()
        for one in warning:
            warn(f"{watch.who} left {one}; it was put back")
    if failing:
        raise LeftBehind(f"{watch.who} left {_listed(failing)}")


@contextmanager
def unpatched(who: str) -> Iterator[None]:
    """For a block that loads a plug-in: it may set the process up as it likes, but for what decides every figure.

    Raises LeftBehind if the block replaced a function or class of a library, or changed a setting of torch.
    """
    _libraries().refresh()
    settings = Settings(TORCH)
    yield
    imported = settings.imported()
    failing = [_difference(s.name, then, now) for s, then, now in settings.restore() if not (s.imports and imported)]
    for one in list(_libraries().replaced()):
        one.put()
        failing.append(f"{one.name} replaced")
    if failing:
        raise LeftBehind(f"{who} left {_listed(failing)}")


def seeded(seed: int) -> None:
    """Seed the global random generators, so that code that draws from them does not depend on what ran before it."""
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))


def roots_of(backbone: Backbone) -> dict[str, Any]:
    """The networks and the other parts of a backbone by the names that messages use."""
    pipeline = backbone.pipeline
    parts = {name: getattr(pipeline, name, None) for name in ("text_encoder", "tokenizer", "scheduler")}
    return {"unet": backbone.unet, "vae": backbone.vae, **parts, "pipeline": pipeline, "backbone": backbone}


def _of_library(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    homes = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(home.partition(".")[0] in OWN_THREADS for home in homes)


def _difference(name: str, then: Any, now: Any) -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        keys = [str(key) for key in {**then, **now} if then.get(key) != now.get(key)]
        return f"{name} changed ({_listed(keys)})"
    if isinstance(then, (bool, int, float, str, torch.dtype)):
        return f"{name} changed from {then} to {now}"
    return f"{name} changed"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
