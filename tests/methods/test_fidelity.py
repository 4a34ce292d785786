"""Methods against their papers: losses, gradients, masks and whole trainings, worked out in plain PyTorch.

On the plain side nothing of bench/ or methods/ takes part. Networks are deep copies; prompts are encoded, latents
noised, sampling paths walked, weights moved, and random numbers drawn in the order of a training, by what is written
here.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from support.workplace import NetworkCopies, midway, small

from bench.backbones import pipeline
from bench.backbones.pipeline import Backbone
from bench.core.task import Task
from bench.training.forget_set import LatentSet
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World
from methods import METHODS, Method

Net = torch.nn.Module
Weights = dict[str, torch.Tensor]

# Stable Diffusion's noise schedule, which the tiny pipeline shares
ABAR = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
STEPS, GUIDANCE = 4, 3.0  # of a sampling path
STANDS = [751, 501, 251, 1]  # where it stands, in t, after 0, 1, 2 and 3 steps
SEED = 11


def predict(net: Net, z: torch.Tensor, t: torch.Tensor | int, embeds: torch.Tensor) -> torch.Tensor:
    return net(z, torch.as_tensor(t).expand(len(z)), encoder_hidden_states=embeds).sample


def scales(t: torch.Tensor | int) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), to multiply a batch by."""
    abar = ABAR[t].reshape(-1, 1, 1, 1)
    return abar.sqrt(), (1 - abar).sqrt()


def noised(x: torch.Tensor, t: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    signal, sigma = scales(t)
    return signal * x + sigma * noise


@torch.no_grad()
def path(net: Net, noise: torch.Tensor, c: torch.Tensor, null: torch.Tensor, taken: int) -> torch.Tensor:
    """Latents after `taken` steps of DDIM: equation 12 of Song et al. (2021) with eta = 0, under guidance."""
    z = noise
    for now, then in itertools.pairwise(STANDS[: taken + 1]):
        unconditional, conditional = predict(net, z, now, null), predict(net, z, now, c)
        eps = unconditional + GUIDANCE * (conditional - unconditional)
        (signal, sigma), (next_signal, next_sigma) = scales(now), scales(then)
        z = next_signal * (z - sigma * eps) / signal + next_sigma * eps
    return z


def squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ((a - b) ** 2).mean()


class Draws:
    """A training's random numbers, drawn again."""

    def __init__(self, seed: int = SEED) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def order(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self.generator).tolist()

    def among(self, low: int, high: int, count: int) -> torch.Tensor:
        """Uniform in low..high, both included."""
        return torch.randint(low, high + 1, (count,), generator=self.generator)

    def level(self, count: int, low: int = 0, high: int = 999) -> tuple[torch.Tensor, torch.Tensor]:
        """t, and noise."""
        return self.among(low, high, count), torch.randn(count, 4, 16, 16, generator=self.generator)

    def path(self, count: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        """Steps taken, from 0 on; t, from where the path then stands up to where it stood before; and noise."""
        taken = int(self.among(0, STEPS - 1, 1))
        return taken, *self.level(count, STANDS[taken], [1000, *STANDS][taken] - 1)


def stopping(taken: int) -> int:
    """A seed whose first path takes so many steps."""
    return next(seed for seed in itertools.count() if Draws(seed).path(1)[0] == taken)


@dataclass(frozen=True)
class Plain:
    """One task's raw data, and the network before any training.

    Args:
        names: a concept to forget, two of its domain, one of another.
        asks: concept -> the prompts of training.
        forget, kept: latents; what they show, and which prompt asked for it, goes round.
    """

    model: Backbone
    original: Net
    names: tuple[str, ...]
    asks: dict[str, tuple[str, ...]]
    forget: torch.Tensor
    kept: torch.Tensor

    def harness(self) -> Harness:
        forgotten, *near, far = self.names
        forget = LatentSet(self.forget, (forgotten,) * 4, (0, 1) * 2)
        kept = LatentSet(self.kept, (*near, far) * 2, (0, 1) * 3)
        made = Harness(self.model, Task("t", (forgotten,), tuple(near), (far,)), forget, lambda: kept, self.asks, 0)
        made.generator.manual_seed(SEED)
        return made

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> torch.Tensor:
        words = self.model.pipeline.tokenizer(prompts, padding="max_length", max_length=20, return_tensors="pt")
        return self.model.pipeline.text_encoder(words.input_ids)[0]

    def forgotten(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and prompts of examples to forget."""
        return self.forget[indices], self.encode([self.asks[self.names[0]][i % 2] for i in indices])

    def retained(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.kept[indices], self.encode([self.asks[self.names[1 + i % 3]][i % 2] for i in indices])

    def null(self, count: int) -> torch.Tensor:
        return self.encode([""] * count)


@pytest.fixture(scope="module")
def plain(pipeline_folder: Path, world: World) -> Plain:
    model = pipeline.load(pipeline_folder, torch.device("cpu"), precision="fp32")
    with torch.no_grad():  # prompts hardly matter to random weights: losses would be little more than rounding
        for name, parameter in model.unet.named_parameters():
            parameter.mul_(3 if ".attn2.to_" in name else 1)
    names = (*next(iter(world.domains.values()))[:3], world.concepts[-1])
    asks = {name: world.prompts("forget", name) for name in names}
    generator = torch.Generator().manual_seed(5)
    forget, kept = (torch.randn(count, 4, 16, 16, generator=generator) for count in (4, 6))
    return Plain(model, copy.deepcopy(model.unet), names, asks, forget, kept)


def made(name: str, **settings: object) -> Method:
    paths = {"path_steps": STEPS} if name in ("esd-x", "esd-x-present", "esd-u", "sdd") else {}
    return small(name, **paths, **settings)


def trained(name: str, net: Net) -> list[str]:
    """Parameters by the methods' publications: all; all but these; or cross-attention."""
    held = {"salun": set(), "esd-u": {"attn2", "time_embedding", "conv_norm_out", "conv_out"}}.get(name)
    parts = {n: set(n.split(".")) for n, _ in net.named_parameters()}
    return [n for n, part in parts.items() if ("attn2" in part if held is None else not part & held)]


@contextmanager
def watched(net: Net) -> Iterator[list[torch.Tensor]]:
    """The latents that `net` is given to learn from, in order."""
    seen: list[torch.Tensor] = []

    def look(module: Net, inputs: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            seen.append(inputs[0])

    handle = net.register_forward_pre_hook(look)
    yield seen
    handle.remove()


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Equal up to `tolerance` of the largest entry."""
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def on_path(expected: torch.Tensor, seen: list[torch.Tensor]) -> torch.Tensor:
    """The latents that the method learnt from: as expected, but for the rounding of a few steps.

    With these in hand, gradients are compared at one and the same place.
    """
    close(seen[0], expected, 1e-5)
    return seen.pop(0)


def esd(
    plain: Plain,
    nets: NetworkCopies,
    draws: Draws,
    indices: list[int],
    seen: list[torch.Tensor],
    sampler: Net | None = None,
) -> torch.Tensor:
    """Gandikota et al. (2023): towards the null prediction and eta = 1 times as far again; paths of the student."""
    (_, c), null, (taken, t, noise) = plain.forgotten(indices), plain.null(len(indices)), draws.path(len(indices))
    z = on_path(path(sampler or nets.student, noise, c, null, taken), seen)
    with torch.no_grad():
        unconditional, conditional = predict(nets.teacher, z, t, null), predict(nets.teacher, z, t, c)
    return squared(predict(nets.student, z, t, c), unconditional - 1.0 * (conditional - unconditional))


def esd_present(
    plain: Plain, nets: NetworkCopies, draws: Draws, indices: list[int], seen: list[torch.Tensor]
) -> torch.Tensor:
    """The authors' present script: the same target, on paths of the original."""
    return esd(plain, nets, draws, indices, seen, nets.teacher)


def sdd(plain: Plain, nets: NetworkCopies, draws: Draws, indices: list[int], seen: list[torch.Tensor]) -> torch.Tensor:
    """Kim et al. (2023): towards the student's own null prediction; paths of the average."""
    (_, c), null, (taken, t, noise) = plain.forgotten(indices), plain.null(len(indices)), draws.path(len(indices))
    z = on_path(path(nets.average, noise, c, null, taken), seen)
    return squared(predict(nets.student, z, t, c), predict(nets.student, z, t, null).detach())


def salun(plain: Plain, nets: NetworkCopies, draws: Draws, indices: list[int], seen: object) -> torch.Tensor:
    """Fan et al. (2024): towards the student's own prediction for another concept; and denoising, alpha = 0.5."""
    (x, c), (t, noise) = plain.forgotten(indices), draws.level(len(indices))
    z = noised(x, t, noise)
    others = [plain.names[int(draws.among(1, 2, 1))] for _ in indices]  # of the domain, and never c
    relabelled = plain.encode([plain.asks[name][i % 2] for name, i in zip(others, indices, strict=True)])
    forget = squared(predict(nets.student, z, t, c), predict(nets.student, z, t, relabelled).detach())
    (r, c_r), (t, noise) = plain.retained(draws.order(6)[: len(indices)]), draws.level(len(indices))
    return forget + 0.5 * squared(predict(nets.student, noised(r, t, noise), t, c_r), noise)


def mimmu(plain: Plain, nets: NetworkCopies, draws: Draws, indices: list[int], seen: object) -> torch.Tensor:
    """Towards the original's null prediction, w(t) = 1 for t in 50..950."""
    (x, c), (t, noise) = plain.forgotten(indices), draws.level(len(indices), 50, 950)
    z = noised(x, t, noise)
    return squared(predict(nets.student, z, t, c), predict(nets.teacher, z, t, plain.null(len(indices))).detach())


def mimmu_retain(plain: Plain, nets: NetworkCopies, draws: Draws, indices: list[int], seen: object) -> torch.Tensor:
    """And towards the original's own prediction on retained images, gamma = 1."""
    (r, c_r), (t, noise) = plain.retained(draws.order(6)[: len(indices)]), draws.level(len(indices), 50, 950)
    z = noised(r, t, noise)
    matched = squared(predict(nets.student, z, t, c_r), predict(nets.teacher, z, t, c_r).detach())
    return mimmu(plain, nets, draws, indices, seen) + 1.0 * matched


@pytest.mark.parametrize(
    ("name", "formula", "seed"),
    [
        pytest.param("esd-x", esd, stopping(3), id="esd-x"),
        pytest.param("esd-x-present", esd_present, stopping(3), id="esd-x-present"),
        pytest.param("esd-u", esd, stopping(2), id="esd-u"),
        pytest.param("sdd", sdd, stopping(3), id="sdd"),
        # here SDD's script runs the whole path and keeps the high t, and ESD's goes a step at least
        pytest.param("esd-x", esd, stopping(0), id="esd-x from noise"),
        pytest.param("sdd", sdd, stopping(0), id="sdd from noise"),
        pytest.param("salun", salun, SEED, id="salun"),
        pytest.param("mimmu", mimmu, SEED, id="mimmu"),
        pytest.param("mimmu-retain", mimmu_retain, SEED, id="mimmu-retain"),
    ],
)
def test_method_has_the_loss_and_gradients_of_its_paper(
    plain: Plain, name: str, formula: Callable[..., torch.Tensor], seed: int
) -> None:
    method, harness = made(name), plain.harness()
    batch, indices = next(harness.forget_batches(2)), Draws().order(4)[:2]
    with midway(harness, method) as nets:
        harness.generator.manual_seed(seed)
        with watched(plain.model.unet) as seen:
            loss = method.loss(harness, batch)
        loss.backward()
        expected = formula(plain, nets, Draws(seed), indices, seen)
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        gradients = {n: p.grad for n, p in plain.model.unet.named_parameters() if p.grad is not None}
        assert list(gradients) == trained(name, plain.original)
        for parameter, gradient in gradients.items():
            theirs = nets.student.get_parameter(parameter).grad
            assert theirs is not None
            assert theirs.any()
            close(gradient, theirs, 2e-6)


def test_esd_has_the_target_of_the_authors_later_script(plain: Plain) -> None:
    """Its negative guidance counts from eps*(c): 2 there is eta = 1, and 1 is the null prediction, eta = 0."""
    harness = plain.harness()
    batch, indices = next(harness.forget_batches(2)), Draws().order(4)[:2]
    with midway(harness, made("esd-x")) as nets:
        for eta, negative_guidance in ((1.0, 2.0), (0.0, 1.0)):
            harness.generator.manual_seed(stopping(0))
            loss = made("esd-x", eta=eta).loss(harness, batch)
            (_, c), (_, t, z) = plain.forgotten(indices), Draws(stopping(0)).path(2)
            with torch.no_grad():
                null, concept = predict(nets.teacher, z, t, plain.null(2)), predict(nets.teacher, z, t, c)
                expected = squared(predict(nets.student, z, t, c), concept - negative_guidance * (concept - null))
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


LR = 1e-2
THREE_STEPS = {"lr": LR, "epochs": None, "steps": 3, "batch_size": 2}  # a pass over the forget set, and half of another


def step_of_adam(w: torch.Tensor, g: torch.Tensor, moments: list[torch.Tensor], step: int, decay: float) -> None:
    """Algorithm 1 of Kingma & Ba (2015); with `decay`, algorithm 2 of Loshchilov & Hutter (2019)."""
    moments[:] = 0.9 * moments[0] + 0.1 * g, 0.999 * moments[1] + 0.001 * g**2
    m, v = moments[0] / (1 - 0.9**step), moments[1] / (1 - 0.999**step)
    w.copy_((1 - LR * decay) * w - LR * m / (v.sqrt() + 1e-8))


def three_steps(
    plain: Plain,
    name: str,
    formula: Callable[..., torch.Tensor],
    draws: Draws,
    seen: list[torch.Tensor],
    decay: float = 0.0,
    clip: float | None = None,
    average_decay: float = 0.0,
    mask: Weights | None = None,
) -> tuple[Weights, Weights]:
    """The student's trained weights after THREE_STEPS, and their average's."""
    student, average = copy.deepcopy(plain.original), copy.deepcopy(plain.original)
    weights = {n: student.get_parameter(n).requires_grad_(True) for n in trained(name, student)}
    averages = {n: average.get_parameter(n) for n in weights}
    moments = {n: [torch.zeros(()), torch.zeros(())] for n in weights}
    order: list[int] = []
    for step in (1, 2, 3):
        order = order or draws.order(4)
        indices, order = order[:2], order[2:]
        loss = formula(plain, NetworkCopies(student, plain.original, average), draws, indices, seen)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        if clip is not None:
            assert norm > clip
            gradients = tuple(clip / (norm + 1e-6) * g for g in gradients)  # torch guards its division so
        with torch.no_grad():
            for (n, w), g in zip(weights.items(), gradients, strict=True):
                step_of_adam(w, g if mask is None else g * mask[n], moments[n], step, decay)
                averages[n].copy_(average_decay * averages[n] + (1 - average_decay) * w)
    return {n: w.detach() for n, w in weights.items()}, {n: mean.detach() for n, mean in averages.items()}


def same_way(plain: Plain, actual: Weights, expected: Weights) -> None:
    """Both went the same way from the original; what lies between them is rounding."""
    assert actual.keys() == expected.keys()
    for name, end in expected.items():
        way = end - plain.original.get_parameter(name)
        assert (actual[name] - end).norm() < 3e-5 * way.norm() + 2e-7 * end.norm()


def test_esd_trains_with_adam(plain: Plain) -> None:
    with watched(plain.model.unet) as seen:
        delta = unlearn(plain.harness(), made("esd-x", **THREE_STEPS)).delta
    student, _ = three_steps(plain, "esd-x", esd, Draws(), seen)
    same_way(plain, delta, student)


def test_sdd_trains_with_clipped_adamw_and_returns_the_average(plain: Plain) -> None:
    """theta_ema <- m theta_ema + (1 - m) theta, from the original on and at the same m throughout."""
    settings = {"weight_decay": 0.1, "max_grad_norm": 2e-4, "ema_decay": 0.7}
    with watched(plain.model.unet) as seen:
        delta = unlearn(plain.harness(), made("sdd", **THREE_STEPS, **settings)).delta
    _, average = three_steps(plain, "sdd", sdd, Draws(), seen, decay=0.1, clip=2e-4, average_decay=0.7)
    same_way(plain, delta, average)


def saliency(plain: Plain, draws: Draws, in_place_of_null: str = "") -> list[Weights]:
    """Gradients of - || eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2, g = 7.5, batch by batch."""
    net, order, gradients = copy.deepcopy(plain.original).requires_grad_(True), draws.order(4), []
    names, parameters = zip(*net.named_parameters(), strict=True)
    for indices in (order[:2], order[2:]):
        (x, c), (t, noise) = plain.forgotten(indices), draws.level(2)
        z, null = noised(x, t, noise), plain.encode([in_place_of_null] * 2)
        guided = (1 + 7.5) * predict(net, z, t, c) - 7.5 * predict(net, z, t, null)
        gradients.append(dict(zip(names, torch.autograd.grad(-squared(noise, guided), parameters), strict=True)))
    return gradients


def largest(sizes: Weights, fraction: float) -> Weights:
    """Where the size is among the largest `fraction` of all of the network's."""
    ranked = torch.cat([s.flatten() for s in sizes.values()]).sort(descending=True).values
    return {name: s >= ranked[round(fraction * len(ranked)) - 1] for name, s in sizes.items()}


def apart(a: Weights, b: Weights) -> float:
    """The share of weights on which two masks differ."""
    assert a.keys() == b.keys()
    return sum(int((a[n] != b[n]).sum()) for n in a) / sum(m.numel() for m in a.values())


def test_salun_moves_only_weights_with_the_largest_summed_gradient(plain: Plain) -> None:
    method, draws = made("salun", **THREE_STEPS, mask_fraction=0.3), Draws()
    delta = unlearn(plain.harness(), method).delta
    mask: Weights = method.mask  # type: ignore[attr-defined]
    first, second = saliency(plain, draws)
    sizes = {n: (first[n] + second[n]).abs() for n in first}
    assert apart(mask, largest(sizes, 0.3)) < 1e-5  # rounding may swap neighbours in size

    student, _ = three_steps(plain, "salun", salun, draws, [], mask=mask)
    same_way(plain, delta, {n: w for n, w in student.items() if mask[n].any()})
    for name, tensor in delta.items():
        assert torch.equal(tensor[~mask[name]], plain.original.get_parameter(name)[~mask[name]])

    # what scripts have done and the method does not: keep the smallest, take the concept's prompt for the null prompt
    assert apart(mask, {n: ~kept for n, kept in largest(sizes, 0.7).items()}) == pytest.approx(0.6, abs=1e-3)
    named_1, named_2 = saliency(plain, Draws(), in_place_of_null=plain.asks[plain.names[0]][0])
    assert apart(mask, largest({n: (named_1[n] + named_2[n]).abs() for n in first}, 0.3)) > 0.01
    # nor does it sum sizes
    assert apart(mask, largest({n: first[n].abs() + second[n].abs() for n in first}, 0.3)) > 0.01


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("esd-x", {"steps": 1000, "eta": 1.0, "path_guidance": 3.0, "path_steps": 50, "parameters": "attn2"}),
        ("esd-x-present", {"steps": 200, "eta": 1.0, "paths": "teacher", "path_guidance": 3.0, "path_steps": 50}),
        ("esd-u", {"steps": 1000, "eta": 1.0, "path_guidance": 3.0, "path_steps": 50, "parameters": "not-attn2"}),
        ("sdd", {"steps": 1500, "weight_decay": 1e-4, "max_grad_norm": 1.0, "ema_decay": 0.999, "path_guidance": 3.0}),
        ("salun", {"epochs": 5, "batch_size": 8, "alpha": 0.5, "mask_fraction": 0.5, "mask_guidance": 7.5}),
    ],
)
def test_method_defaults_are_those_of_the_authors(name: str, published: dict[str, object]) -> None:
    config = METHODS.get(name).Config()
    one_prompt = {} if name == "salun" else {"batch_size": 1}
    optimizer = {"optimizer": "adamw" if name == "sdd" else "adam", "lr": 5e-5 if name == "esd-x-present" else 1e-5}
    expected = published | one_prompt | optimizer
    assert {setting: getattr(config, setting) for setting in expected} == expected
