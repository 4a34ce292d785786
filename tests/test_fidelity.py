"""Methods against their papers: losses, gradients, masks and whole trainings, worked out in plain PyTorch.

On the plain side nothing of bench/ or methods/ takes part. Networks are deep copies; prompts are encoded, latents
noised, sampling paths walked, and random numbers drawn, in the order that a training takes them, by what is written here.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from workplace import small

from bench import backbone
from bench.backbone import Backbone
from bench.forget_set import LatentSet
from bench.harness import Harness
from bench.suites import Task
from bench.unlearning import unlearn
from bench.worlds import World
from methods import METHODS, Method

# Stable Diffusion's noise schedule
ABAR = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
STEPS, GUIDANCE = 4, 3.0  # of a sampling path: it stands at t = 751, 501, 251, 1
SEED, LR = 11, 1e-2
Net = torch.nn.Module


def predict(net: Net, z: torch.Tensor, t: torch.Tensor | int, embeds: torch.Tensor) -> torch.Tensor:
    return net(z, torch.as_tensor(t).expand(len(z)), encoder_hidden_states=embeds).sample


def at(t: torch.Tensor | int) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(abar_t) and sqrt(1 - abar_t), to multiply a batch by."""
    abar = ABAR[t].reshape(-1, 1, 1, 1)
    return abar.sqrt(), (1 - abar).sqrt()


def noised(x: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """q(x_t | x_0), equation 4 of the DDIM paper."""
    signal, sigma = at(t)
    return signal * x + sigma * noise


@torch.no_grad()
def path(net: Net, noise: torch.Tensor, c: torch.Tensor, null: torch.Tensor, taken: int) -> torch.Tensor:
    """Latents after `taken` steps of DDIM: equation 12 of Song et al. (2021) with sigma = 0, under guidance."""
    stands, z = [1 + 1000 // STEPS * i for i in reversed(range(STEPS))], noise
    for now, then in itertools.pairwise(stands[: taken + 1]):
        unconditional, conditional = predict(net, torch.cat([z, z]), now, torch.cat([null, c])).chunk(2)
        eps = (1 - GUIDANCE) * unconditional + GUIDANCE * conditional
        (signal, sigma), (next_signal, next_sigma) = at(now), at(then)
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
        """Integers uniform in low..high, both included."""
        return torch.randint(low, high + 1, (count,), generator=self.generator)

    def normal(self, count: int) -> torch.Tensor:
        return torch.randn(count, 4, 16, 16, generator=self.generator)

    def path(self, count: int) -> tuple[int, torch.Tensor, torch.Tensor]:
        """Steps taken, uniform; t, uniform from where the path then stands up to where it stood before; the noise."""
        taken = self.among(0, STEPS - 1, 1).item()
        low = 1 + 1000 // STEPS * (STEPS - 1 - taken)
        t = self.among(low, min(low + 1000 // STEPS - 1, 999), count)
        return int(taken), t, self.normal(count)

    def level(self, count: int, low: int = 0, high: int = 999) -> tuple[torch.Tensor, torch.Tensor]:
        t = self.among(low, high, count)
        return t, self.normal(count)


def stopping(taken: int) -> int:
    """The first seed whose first path takes so many steps."""
    return next(seed for seed in itertools.count() if Draws(seed).path(1)[0] == taken)


@dataclass
class Bench:
    """Raw data of one task, and the networks' untouched original."""

    model: Backbone
    original: Net
    world: World
    names: tuple[str, ...] = field(init=False)  # one to forget, two of its domain, one of another
    forget: torch.Tensor = field(init=False)
    kept: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        near, far = self.world.domains.values().__iter__().__next__()[:3], self.world.concepts[-1]
        self.names = (*near, far)
        self.forget = torch.randn(4, 4, 16, 16, generator=generator)
        self.kept = torch.randn(6, 4, 16, 16, generator=generator)

    def harness(self, seed: int = SEED) -> Harness:
        forgotten, *near, far = self.names
        forget = LatentSet(self.forget, (forgotten,) * 4, (0, 1) * 2)
        kept = LatentSet(self.kept, (*near, far) * 2, (0, 1) * 3)
        task = Task("t", (forgotten,), tuple(near), (far,))
        prompts = {name: self.world.prompts("forget", name) for name in self.names}
        made = Harness(self.model, task, forget, lambda: kept, prompts, seed=0)
        made.generator.manual_seed(seed)
        return made

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> torch.Tensor:
        words = self.model.pipeline.tokenizer(prompts, padding="max_length", max_length=20, return_tensors="pt")
        return self.model.pipeline.text_encoder(words.input_ids)[0]

    def asked(self, concept: str, template: int) -> str:
        return self.world.prompts("forget", concept)[template]

    def forgotten(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and prompts of these examples of the forget set."""
        return self.forget[indices], self.encode([self.asked(self.names[0], i % 2) for i in indices])

    def retained(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.kept[indices], self.encode([self.asked(self.names[1:][i % 3], i % 2) for i in indices])

    def null(self, count: int) -> torch.Tensor:
        return self.encode([""] * count)


@pytest.fixture(scope="module")
def bench(pipeline_folder: Path, world: World) -> Bench:
    model = backbone.load(pipeline_folder, torch.device("cpu"), precision="fp32")
    with torch.no_grad():  # to random weights prompts hardly matter, and losses are differences between prompts
        for name, parameter in model.unet.named_parameters():
            parameter.mul_(3 if ".attn2.to_" in name else 1)
    return Bench(model, copy.deepcopy(model.unet), world)


# which parameters of a Stable Diffusion U-Net train, as papers and their code have it
CROSS_ATTENTION = "attn2"
HELD_BY_ESD_U = ("attn2", "time_embedding", "conv_norm_out", "conv_out")


def trained(name: str, net: Net) -> set[str]:
    names = {n for n, _ in net.named_parameters()}
    if name == "salun":
        return names
    if name == "esd-u":
        return {n for n in names if not set(n.split(".")) & set(HELD_BY_ESD_U)}
    return {n for n in names if "attn2" in n.split(".")}


@dataclass
class Networks:
    student: Net
    teacher: Net
    average: Net


def made(name: str, **settings: object) -> Method:
    paths = {"path_steps": STEPS} if name in ("esd-x", "esd-u", "sdd") else {}
    return small(name, **paths, **settings)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Equal up to `tolerance`, of each entry or of the largest."""
    print("REL", ((found - expected).norm() / expected.norm()).item(), ((found - expected).abs().max() / expected.abs().max()).item())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


Formula = Callable[..., torch.Tensor]


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


def on_path(expected: torch.Tensor, seen: list[torch.Tensor]) -> torch.Tensor:
    """The latents that the method learnt from, which are as expected up to the rounding of a few steps."""
    close(seen[0], expected, 1e-5)
    return seen.pop(0)  # so that no gradient has to be compared at two slightly different places


@contextmanager
def midway(bench: Bench, harness: Harness, method: Method) -> Iterator[Networks]:
    """The harness in the middle of a training, student and average off the original; and a copy of each network."""
    generator = torch.Generator().manual_seed(7)
    with harness.trainable(method.trains):
        copies = {}
        for name in ("average", "student"):
            with torch.no_grad():
                for parameter in harness.trained.values():
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.3 * parameter.std(correction=0) * noise)
            if name == "average":
                harness.averaged = {n: p.detach().clone() for n, p in harness.trained.items()}
            copies[name] = copy.deepcopy(bench.model.unet)
        yield Networks(teacher=bench.original, **copies)


def esd(bench: Bench, nets: Networks, draws: Draws, indices: list[int], seen: list[torch.Tensor]) -> torch.Tensor:
    """Gandikota et al. 2023, equations 6 and 7, eta = 1; paths of the student."""
    (_, c), null = bench.forgotten(indices), bench.null(len(indices))
    taken, t, noise = draws.path(len(indices))
    z = on_path(path(nets.student, noise, c, null, taken), seen)
    with torch.no_grad():
        unconditional, conditional = predict(nets.teacher, z, t, null), predict(nets.teacher, z, t, c)
    return squared(predict(nets.student, z, t, c), unconditional - 1.0 * (conditional - unconditional))


def sdd(bench: Bench, nets: Networks, draws: Draws, indices: list[int], seen: list[torch.Tensor]) -> torch.Tensor:
    """Kim et al. 2023: the student's conditional noise against its own unconditional; paths of the average."""
    (_, c), null = bench.forgotten(indices), bench.null(len(indices))
    taken, t, noise = draws.path(len(indices))
    z = on_path(path(nets.average, noise, c, null, taken), seen)
    return squared(predict(nets.student, z, t, c), predict(nets.student, z, t, null).detach())


def salun(bench: Bench, nets: Networks, draws: Draws, indices: list[int], seen: object = None) -> torch.Tensor:
    """Fan et al. 2024: relabelled noise of the network itself, and the denoising loss on what stays, alpha = 0.5."""
    x, c = bench.forgotten(indices)
    t, noise = draws.level(len(indices))
    z = noised(x, noise, t)
    others = [bench.names[1 + int(draws.among(0, 1, 1).item())] for _ in indices]  # of the two in the domain
    relabelled = bench.encode([bench.asked(name, i % 2) for name, i in zip(others, indices, strict=True)])
    forget = squared(predict(nets.student, z, t, c), predict(nets.student, z, t, relabelled).detach())
    r, c_r = bench.retained(draws.order(6)[: len(indices)])
    t, noise = draws.level(len(indices))
    return forget + 0.5 * squared(predict(nets.student, noised(r, noise, t), t, c_r), noise)


def mimmu(bench: Bench, nets: Networks, draws: Draws, indices: list[int], seen: object = None) -> torch.Tensor:
    """The aligned loss: the student's conditional noise against the original's unconditional."""
    x, c = bench.forgotten(indices)
    t, noise = draws.level(len(indices), 50, 950)
    z = noised(x, noise, t)
    return squared(predict(nets.student, z, t, c), predict(nets.teacher, z, t, bench.null(len(indices))).detach())


def mimmu_retain(bench: Bench, nets: Networks, draws: Draws, indices: list[int], seen: object = None) -> torch.Tensor:
    """The same plus gamma = 1 times the distance from the original's own predictions on retained images."""
    r, c_r = bench.retained(draws.order(6)[: len(indices)])
    t, noise = draws.level(len(indices), 50, 950)
    z = noised(r, noise, t)
    matched = squared(predict(nets.student, z, t, c_r), predict(nets.teacher, z, t, c_r).detach())
    return mimmu(bench, nets, draws, indices) + 1.0 * matched


@pytest.mark.parametrize(
    ("name", "formula", "seed"),
    [
        pytest.param("esd-x", esd, stopping(0), id="esd-x-from-noise"),
        pytest.param("esd-x", esd, stopping(3), id="esd-x"),
        pytest.param("esd-u", esd, stopping(2), id="esd-u"),
        pytest.param("sdd", sdd, stopping(0), id="sdd-from-noise"),
        pytest.param("sdd", sdd, stopping(3), id="sdd"),
        pytest.param("salun", salun, SEED, id="salun"),
        pytest.param("mimmu", mimmu, SEED, id="mimmu"),
        pytest.param("mimmu-retain", mimmu_retain, SEED, id="mimmu-retain"),
    ],
)
def test_loss_and_every_gradient_are_the_papers(bench: Bench, name: str, formula: Formula, seed: int) -> None:
    method, harness = made(name), bench.harness()
    batch, indices = next(harness.forget_batches(2)), Draws().order(4)[:2]
    with midway(bench, harness, method) as nets:
        harness.generator.manual_seed(seed)
        with watched(bench.model.unet) as seen:
            loss = method.loss(harness, batch)
        loss.backward()
        expected = formula(bench, nets, Draws(seed), indices, seen)
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        gradients = {n: p.grad for n, p in bench.model.unet.named_parameters() if p.grad is not None}
        assert gradients.keys() == trained(name, bench.original)
        for parameter, gradient in gradients.items():
            theirs = nets.student.get_parameter(parameter).grad
            assert theirs is not None
            assert theirs.any()
            close(gradient, theirs, 1e-6)


def steer(
    weights: dict[str, torch.Tensor],
    gradients: dict[str, torch.Tensor],
    moments: dict[str, list[torch.Tensor]],
    step: int,
    lr: float,
    decay: float = 0.0,
) -> None:
    """One step of Adam (Kingma & Ba, 2015, algorithm 1); with `decay`, AdamW (Loshchilov & Hutter, 2019)."""
    for name, w in weights.items():
        g, (m, v) = gradients[name], moments.setdefault(name, [torch.zeros(()), torch.zeros(())])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        moments[name] = [m, v]
        w.copy_((1 - lr * decay) * w - lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))


@dataclass
class Training:
    """Three steps of two examples each, by hand: a pass over the forget set, and half of another."""

    bench: Bench
    name: str
    formula: Formula
    draws: Draws
    seen: list[torch.Tensor]
    decay: float = 0.0
    clip: float = float("inf")
    average_decay: float = 0.0
    mask: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        student, average = (copy.deepcopy(self.bench.original) for _ in range(2))
        names = sorted(trained(self.name, student))
        weights = {n: student.get_parameter(n).requires_grad_(True) for n in names}
        nets, moments, self.norms, order = Networks(student, self.bench.original, average), {}, [], []
        for step in (1, 2, 3):
            order = order or self.draws.order(4)
            indices, order = order[:2], order[2:]
            loss = self.formula(self.bench, nets, self.draws, indices, self.seen)
            gradients = dict(zip(names, torch.autograd.grad(loss, list(weights.values())), strict=True))
            with torch.no_grad():
                if self.mask:
                    gradients = {n: g * self.mask[n] for n, g in gradients.items()}
                self.norms.append(sum((g**2).sum() for g in gradients.values()).sqrt().item())
                kept = min(1.0, self.clip / (self.norms[-1] + 1e-6))  # PyTorch guards its division so
                gradients = {n: kept * g for n, g in gradients.items()}
                steer(weights, gradients, moments, step, LR, self.decay)
                for n, w in weights.items():
                    mean = average.get_parameter(n)
                    mean.copy_(self.average_decay * mean + (1 - self.average_decay) * w)
        self.student = {n: w.detach() for n, w in weights.items()}
        self.average = {n: average.get_parameter(n) for n in names}


def same_way(bench: Bench, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Both went the same way from the original: what lies between them is rounding."""
    assert found.keys() == expected.keys()
    for name, end in expected.items():
        way = end - bench.original.get_parameter(name)
        print("REL 0", ((found[name] - end).norm() /way.norm()).item())
        assert (found[name] - end).norm() < 1e-5 * way.norm() + 2e-7 * end.norm()


THREE = {"lr": LR, "epochs": None, "steps": 3, "batch_size": 2}


def test_three_steps_of_esd_are_adams(bench: Bench) -> None:
    with watched(bench.model.unet) as seen:
        delta = unlearn(bench.harness(), made("esd-x", **THREE)).delta
    same_way(bench, delta, Training(bench, "esd-x", esd, Draws(), seen).student)


def test_three_steps_of_sdd_are_adamws_and_clipped_and_the_result_is_their_average(bench: Bench) -> None:
    """theta_ema <- m theta_ema + (1 - m) theta from the original on, without the warm-up of diffusers' own average."""
    harness, settings = bench.harness(), {"weight_decay": 0.1, "max_grad_norm": 2e-4, "ema_decay": 0.7}
    with watched(bench.model.unet) as seen:
        delta = unlearn(harness, made("sdd", **THREE, **settings)).delta
    by_hand = Training(bench, "sdd", sdd, Draws(), seen, decay=0.1, clip=2e-4, average_decay=0.7)
    print(by_hand.norms)
    assert min(by_hand.norms) > 2e-4
    same_way(bench, delta, by_hand.average)


def saliency(bench: Bench, draws: Draws, in_place_of_null: str = "") -> list[dict[str, torch.Tensor]]:
    """Gradients of - || eps - [(1 + g) eps_theta(z_t, c) - g eps_theta(z_t, null)] ||^2, g = 7.5, batch by batch."""
    net, order, gradients = copy.deepcopy(bench.original).requires_grad_(True), draws.order(4), []
    names, parameters = zip(*net.named_parameters(), strict=True)
    for indices in (order[:2], order[2:]):
        x, c = bench.forgotten(indices)
        t, noise = draws.level(2)
        z, null = noised(x, noise, t), bench.encode([in_place_of_null] * 2)
        guided = (1 + 7.5) * predict(net, z, t, c) - 7.5 * predict(net, z, t, null)
        gradients.append(dict(zip(names, torch.autograd.grad(-squared(noise, guided), parameters), strict=True)))
    return gradients


def largest(sizes: dict[str, torch.Tensor], fraction: float) -> dict[str, torch.Tensor]:
    """Where the size is among the largest `fraction` of all of the network's."""
    ranked = torch.cat([s.flatten() for s in sizes.values()]).sort(descending=True).values
    return {name: s >= ranked[round(fraction * len(ranked)) - 1] for name, s in sizes.items()}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The share of weights on which two masks differ."""
    assert a.keys() == b.keys()
    return sum(int((a[n] != b[n]).sum()) for n in a) / sum(m.numel() for m in a.values())


def test_salun_moves_the_weights_of_largest_summed_gradient_alone(bench: Bench) -> None:
    method = made("salun", **THREE, mask_fraction=0.3)
    delta = unlearn(bench.harness(), method).delta
    mask, draws = method.mask, Draws()  # type: ignore[attr-defined]
    first, second = saliency(bench, draws)
    sizes = {n: (first[n] + second[n]).abs() for n in first}
    by_hand = Training(bench, "salun", salun, draws, [], mask=largest(sizes, 0.3))
    assert apart(mask, largest(sizes, 0.3)) < 1e-5  # rounding may swap neighbours in size
    same_way(bench, delta, {n: w for n, w in by_hand.student.items() if mask[n].any()})
    for name, tensor in delta.items():
        assert torch.equal(tensor[~mask[name]], bench.original.get_parameter(name)[~mask[name]])

    # what scripts did and the method does not: keep the smallest, or take the concept's prompt for the null prompt
    assert apart(mask, {n: ~m for n, m in largest(sizes, 0.7).items()}) == pytest.approx(0.6, abs=1e-3)
    named = saliency(bench, Draws(), in_place_of_null=bench.asked(bench.names[0], 0))
    assert apart(mask, largest({n: (named[0][n] + named[1][n]).abs() for n in first}, 0.3)) > 0.01
    # nor are sizes summed over batches
    assert apart(mask, largest({n: first[n].abs() + second[n].abs() for n in first}, 0.3)) > 0.01


def test_the_target_of_esd_is_that_of_the_later_script(bench: Bench) -> None:
    """Its negative guidance counts from eps*(c): 2 there is eta = 1, and 1 is the null prediction, eta = 0."""
    for eta, negative_guidance in ((1.0, 2.0), (0.0, 1.0)):
        method, harness = made("esd-x", eta=eta), bench.harness()
        batch, draws = next(harness.forget_batches(2)), Draws()
        indices = draws.order(4)[:2]
        with midway(bench, harness, method) as nets, watched(bench.model.unet) as seen, torch.no_grad():
            with torch.enable_grad():
                loss = method.loss(harness, batch).item()
            (_, c), null, (taken, t, noise) = bench.forgotten(indices), bench.null(2), draws.path(2)
            z = on_path(path(nets.student, noise, c, null, taken), seen)
            unconditional, conditional = predict(nets.teacher, z, t, null), predict(nets.teacher, z, t, c)
            target = conditional - negative_guidance * (conditional - unconditional)
            assert loss == pytest.approx(squared(predict(nets.student, z, t, c), target).item(), rel=1e-5)
