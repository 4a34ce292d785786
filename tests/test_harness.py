import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bench.backbone import Backbone
from bench.forget_set import LatentSet
from bench.harness import Batch, Harness, NonFiniteLoss
from bench.suites import Task
from bench.worlds import World
from methods.base import Method, MethodConfig

Make = Callable[..., Harness]


class Towards(Method):
    """Pulls the student towards the teacher's null prediction, on fixed noise, so that runs can be compared."""

    about = source = "a test"
    fidelity = "control"

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        timesteps = torch.full((len(batch),), 500)
        target = harness.teacher(batch.latents, timesteps, harness.null(len(batch)))
        return F.mse_loss(harness.student(batch.latents, timesteps, batch.prompt_embeds), target)


def method(**settings: object) -> Towards:
    return Towards(MethodConfig(**{"lr": 1e-3, "epochs": 2, "batch_size": 4, **settings}))  # type: ignore[arg-type]


@pytest.fixture
def make(world: World, model: Backbone) -> Make:
    """A harness for the first concept, with 8 forget and 4 retain examples of random latents."""
    names = world.concepts[:3]
    task = Task("t", names[:1], names[1:2], names[2:])
    examples = LatentSet(torch.randn(8, *model.latent_shape), names[:1] * 8, (0, 1) * 4)
    kept = LatentSet(torch.randn(4, *model.latent_shape), names[1:] * 2, (0,) * 4)
    prompts = {name: world.prompts("forget", name) for name in names}

    def build(seed: int = 0, **changes: object) -> Harness:
        return Harness(model, task, **{"forget": examples, "retain": lambda: kept, "prompts": prompts,
                                       "seed": seed, **changes})  # type: ignore[arg-type]  # fmt: skip

    return build


def state(model: Backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}


def test_the_swapped_teacher_is_a_copy_of_the_original(make: Make, model: Backbone) -> None:
    original = copy.deepcopy(model.unet)
    latents, timesteps = torch.randn(2, *model.latent_shape), torch.tensor([10, 900])
    seen = []

    class Check(Towards):
        def after_step(self, harness: Harness) -> None:
            embeds = harness.null(2)
            expected = original(latents, timesteps, encoder_hidden_states=embeds).sample
            seen.append((harness.teacher(latents, timesteps, embeds), expected))
            assert not torch.allclose(harness.student(latents, timesteps, embeds), expected, atol=1e-4)

    harness = make()
    harness.run(Check(MethodConfig(lr=1e-2, epochs=1, batch_size=4)))
    assert len(seen) == 2
    for swapped, copied in seen:
        assert torch.equal(swapped, copied)


def test_training_does_not_depend_on_how_the_teacher_is_held(make: Make, model: Backbone) -> None:
    original = copy.deepcopy(model.unet)

    class Copied(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            timesteps = torch.full((len(batch),), 500)
            with torch.no_grad():
                target = original(batch.latents, timesteps, encoder_hidden_states=harness.null(len(batch))).sample
            return F.mse_loss(harness.student(batch.latents, timesteps, batch.prompt_embeds), target)

    swapped, copied = make().run(method()).delta, make().run(Copied(method().config)).delta
    assert swapped.keys() == copied.keys()
    assert all(torch.equal(swapped[name], copied[name]) for name in swapped)


def test_the_teacher_holds_only_what_trains(make: Make, model: Backbone) -> None:
    harness = make()
    harness.run(method())
    assert set(harness.frozen) == {n for n, _ in model.unet.named_parameters() if ".attn2." in n}
    assert 0 < sum(t.numel() for t in harness.frozen.values()) < sum(p.numel() for p in model.unet.parameters()) / 2


def test_the_network_is_left_as_it_was_found(make: Make, model: Backbone) -> None:
    before = state(model)
    make().run(method())

    class Breaks(Towards):
        def after_step(self, harness: Harness) -> None:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        make().run(Breaks(method().config))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.unet.parameters())


def test_the_delta_reproduces_the_trained_network(make: Make, model: Backbone) -> None:
    latents, timesteps = torch.randn(1, *model.latent_shape), torch.tensor([400])
    trained = []

    class Keep(Towards):
        def finish(self, harness: Harness) -> None:
            with torch.no_grad():
                trained.append(harness.student(latents, timesteps, harness.null(1)))

    delta = make().run(Keep(method().config)).delta
    with model.weights(delta), torch.no_grad():
        again = model.unet(latents, timesteps, encoder_hidden_states=model.embed([""])).sample
    assert torch.equal(again, trained[0])


def test_the_seed_decides_everything(make: Make) -> None:
    class Noisy(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            latents, noise, timesteps = harness.noised(batch.latents)
            return F.mse_loss(harness.student(latents, timesteps, batch.prompt_embeds), noise)

    def run(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed + 100)  # the global generator must not matter
        return make(seed=seed).run(Noisy(method().config)).delta

    first, again, other = run(0), make(seed=0).run(Noisy(method().config)).delta, run(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_accumulated_gradients_are_those_of_the_whole_batch(make: Make) -> None:
    whole, parts = [], []

    def recorder(into: list[torch.Tensor]) -> type[Towards]:
        class Record(Towards):
            def after_backward(self, harness: Harness) -> None:
                into.append(torch.cat([p.grad.flatten() for p in harness.trained.values() if p.grad is not None]))

        return Record

    make().run(recorder(whole)(method(batch_size=8, epochs=1).config))
    harness = make()
    harness.run(recorder(parts)(method(batch_size=2, grad_accumulation=4, epochs=1).config))
    assert len(whole) == len(parts) == harness.meter.steps == 1
    assert torch.allclose(whole[0], parts[0], rtol=1e-4, atol=1e-7)


def test_a_last_step_of_fewer_batches_weighs_them_fully(make: Make) -> None:
    norms: list[float] = []

    class Record(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            return 3 * next(iter(harness.trained.values())).sum()  # a gradient of 3 everywhere

        def after_backward(self, harness: Harness) -> None:
            gradient = next(iter(harness.trained.values())).grad
            assert gradient is not None
            norms.append(gradient.mean().item())

    make().run(Record(method(batch_size=3, grad_accumulation=2, epochs=1).config))
    assert norms == pytest.approx([3, 3])  # two batches, then one


def test_gradients_are_clipped(make: Make) -> None:
    norms = []

    class Norm(Towards):
        def after_backward(self, harness: Harness) -> None:
            for parameter in harness.trained.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(1e6)

        def after_step(self, harness: Harness) -> None:
            change = [(p - harness.frozen[n]).flatten() for n, p in harness.trained.items()]
            norms.append(torch.cat(change).norm().item())

    # Adam divides the size of the gradient out, except against its epsilon: compare at a gradient far below it
    make().run(Norm(method(max_grad_norm=1e-10, epochs=1, batch_size=8).config))
    make().run(Norm(method(epochs=1, batch_size=8).config))
    assert norms[0] < norms[1] / 10


def test_the_moving_average_starts_at_the_original(make: Make) -> None:
    def run(epochs: int, ema_decay: float | None) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        harness = make()
        delta = harness.run(method(epochs=epochs, batch_size=8, ema_decay=ema_decay)).delta
        return delta, harness.frozen

    (one, original), (two, _), (averaged, _) = run(1, None), run(2, None), run(2, 0.9)
    for name in two:
        first = original[name] * 0.9 + one[name] * 0.1
        assert torch.allclose(averaged[name], first * 0.9 + two[name] * 0.1, atol=1e-7)


def test_divergence_is_an_error(make: Make) -> None:
    class Diverges(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            return super().loss(harness, batch) * (float("nan") if harness.meter.steps == 2 else 1.0)

    with pytest.raises(NonFiniteLoss, match="step 3 of 4"):
        make().run(Diverges(method().config))

    class Poisons(Towards):
        def edit(self, harness: Harness) -> None:
            with torch.no_grad():
                next(iter(harness.trained.values())).fill_(float("inf"))

    with pytest.raises(NonFiniteLoss, match="infinite weights"):
        make().run(Poisons(method().config))


def test_the_meter_and_the_ledger_count_what_was_used(make: Make, world: World) -> None:
    class Uses(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            harness.retain_batch(3)
            harness.anchors([world.concepts[1]] * len(batch), batch.templates)
            return super().loss(harness, batch)

    harness = make()
    outcome = harness.run(Uses(method().config))
    assert {k: outcome.cost[k] for k in ("steps", "student_forwards", "teacher_forwards")} == {
        "steps": 4, "student_forwards": 4, "teacher_forwards": 4
    }  # fmt: skip
    assert outcome.cost["seconds"] > 0
    assert outcome.cost["delta_bytes"] == sum(t.numel() * 4 for t in outcome.delta.values())
    assert outcome.ledger.facts()["forget_images"] == 8
    assert 3 <= outcome.ledger.facts()["retain_images"] <= 4
    assert outcome.ledger.facts()["anchor_prompts"] == 2
    assert outcome.ledger.compensation == "retain images + anchor prompts"
    assert make().run(method()).ledger.compensation == "none"


def test_retained_data_is_made_only_when_asked_for(make: Make) -> None:
    def refuse() -> LatentSet:
        raise AssertionError("nobody asked")

    make(retain=refuse).run(method())


def test_noise_is_added_as_the_scheduler_says(make: Make, model: Backbone) -> None:
    harness = make()
    clean = torch.randn(64, *model.latent_shape)
    latents, noise, timesteps = harness.noised(clean, 50, 60)
    assert (timesteps.min().item(), timesteps.max().item()) == (50, 60)
    alpha = harness.noise_scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    assert torch.allclose(latents, alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, atol=1e-5)
    _, _, everywhere = harness.noised(clean)
    assert everywhere.max() > 900
    for low, high in ((-1, 10), (20, 10), (0, 1000)):
        with pytest.raises(ValueError, match="timesteps"):
            harness.noised(clean, low, high)


def test_every_pass_sees_every_example_once_in_another_order(make: Make) -> None:
    harness = make()
    passes = [torch.cat([b.latents for b in harness.forget_batches(3)]) for _ in range(2)]
    assert [p.shape[0] for p in passes] == [8, 8]
    assert not torch.equal(*passes)
    assert torch.equal(passes[0].flatten(1).sum(1).sort().values, passes[1].flatten(1).sum(1).sort().values)


def test_progress_is_told_step_by_step(make: Make) -> None:
    told: list[tuple[int, int]] = []
    make(on_step=lambda step, steps, loss: told.append((step, steps))).run(method(batch_size=3, grad_accumulation=2))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]  # 3 batches of 8 examples, 2 steps a pass


def test_a_method_that_trains_nothing_by_training_is_refused(make: Make) -> None:
    class Nothing(Towards):
        def trains(self, parameter: str) -> bool:
            return False

    with pytest.raises(ValueError, match="no parameter"):
        make().run(Nothing(method().config))


def test_other_predictions_than_noise_are_refused(make: Make, model: Backbone) -> None:
    config = {**model.pipeline.scheduler.config, "prediction_type": "v_prediction"}
    model.pipeline.scheduler = type(model.pipeline.scheduler).from_config(config)
    with pytest.raises(ValueError, match="noise prediction"):
        make()


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        method().config.lr = 1.0  # type: ignore[misc]


def test_steps_are_an_alternative_to_epochs(make: Make) -> None:
    told: list[tuple[int, int]] = []
    settings = {"batch_size": 3, "grad_accumulation": 2}  # 2 steps a pass, the second of a single batch
    harness = make(on_step=lambda step, steps, loss: told.append((step, steps)))
    steps = harness.run(method(epochs=None, steps=2, **settings)).delta
    passes = make().run(method(epochs=1, **settings)).delta
    assert all(torch.equal(passes[name], steps[name]) for name in passes)
    assert told == [(1, 2), (2, 2)]
    harness = make()
    harness.run(method(epochs=None, steps=3, **settings))  # breaks off in the middle of the second pass
    assert harness.meter.steps == 3
    assert harness.meter.student_forwards == 5


@pytest.mark.parametrize("wrong", [{"steps": 3}, {"epochs": None}, {"epochs": 0}, {"epochs": None, "steps": 0}])
def test_training_is_so_many_epochs_or_so_many_steps(wrong: dict[str, int | None]) -> None:
    with pytest.raises(ValueError, match="epochs"):
        method(**wrong)


def test_images_are_used_once_they_are_read(make: Make) -> None:
    class Prompts(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            latents, timesteps = harness.sampled(batch.prompt_embeds, steps=2)
            return harness.student(latents, timesteps, batch.prompt_embeds).square().mean()

    harness = make()
    facts = harness.run(Prompts(method().config)).ledger.facts()
    assert set(facts.values()) == {0}
    kept = harness.retain_batch(3)
    assert len(harness.ledger.retain_images) == 3  # its prompts are there to be used at once
    assert kept.latents is kept.latents


class TestSampledPaths:
    """`Harness.sampled`: latents of a network's own sampling path."""

    @pytest.fixture
    def moved(self, make: Make, model: Backbone) -> tuple[Harness, dict[str, torch.nn.Module]]:
        """A harness whose student and average have left the teacher, and a separate copy of each network."""
        harness = make()
        harness.trained = {n: p for n, p in model.unet.named_parameters() if ".attn2." in n}
        harness.frozen = {n: p.detach().clone() for n, p in harness.trained.items()}
        copies = {"teacher": copy.deepcopy(model.unet)}
        for name in ("average", "student"):
            with torch.no_grad():
                for parameter in harness.trained.values():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            copies[name] = copy.deepcopy(model.unet)
            if name == "average":
                harness.averaged = {n: p.detach().clone() for n, p in harness.trained.items()}
        return harness, copies

    @pytest.mark.parametrize("network", ["student", "teacher", "average"])
    @pytest.mark.parametrize("guidance", [3.0, 1.0])
    def test_it_is_ddim_under_guidance(
        self, moved: tuple[Harness, dict[str, torch.nn.Module]], model: Backbone, network: str, guidance: float
    ) -> None:
        harness, copies = moved
        # the only bin of a path of 10 steps within 615..640 is that of its fourth step, which begins at 601
        embeds, start = model.embed(["a photo", "a dog"]), harness.generator.get_state()
        latents, timesteps = harness.sampled(embeds, network, guidance, steps=10, low=615, high=640)

        twin = torch.Generator()
        twin.set_state(start)
        torch.randint(1, (1,), generator=twin)
        assert torch.equal(timesteps, torch.randint(615, 641, (2,), generator=twin))
        z = torch.randn(2, *model.latent_shape, generator=twin)
        alphas = harness.noise_scheduler.alphas_cumprod
        with torch.no_grad():
            for t in (901, 801, 701):
                c, null = (copies[network](z, t, encoder_hidden_states=e).sample for e in (embeds, harness.null(2)))
                noise = null + guidance * (c - null)
                clean = (z - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
                z = alphas[t - 100].sqrt() * clean + (1 - alphas[t - 100]).sqrt() * noise
        assert torch.allclose(latents, z, rtol=1e-4, atol=1e-4)

    def test_stopping_at_once_leaves_pure_noise_at_the_highest_t(self, make: Make, model: Backbone) -> None:
        harness = make()
        latents, timesteps = harness.sampled(model.embed([""] * 64), steps=50, low=981)
        assert harness.meter.student_forwards == 0
        assert 981 <= timesteps.min() < timesteps.max() <= 999
        assert latents.std().item() == pytest.approx(1, abs=0.02)

    def test_t_is_in_the_bin_of_the_step(self, make: Make, model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
        harness, visited, seen = make(), [], {}

        def predict(latents: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
            visited.append(timesteps[0].item())
            return torch.zeros_like(latents)

        monkeypatch.setattr(harness, "student", predict)
        for _ in range(100):
            visited.clear()
            _, timesteps = harness.sampled(model.embed([""] * 4), steps=5)
            assert visited == [801, 601, 401, 201, 1][: len(visited)]
            seen.setdefault(len(visited), []).extend(timesteps.tolist())
        # after k steps the path stands at 801, 601, ..., and each bin reaches up to where it stood before
        assert seen.keys() == {0, 1, 2, 3, 4}
        for taken, drawn in seen.items():
            low, high = 801 - 200 * taken, min(1000 - 200 * taken, 999)
            assert low <= min(drawn) < low + 30
            assert high - 30 < max(drawn) <= high

    def test_it_has_no_gradient_and_follows_the_seed(self, make: Make, model: Backbone) -> None:
        embeds = model.embed(["a photo"])
        model.unet.requires_grad_(True)
        results = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed + 7)  # the global generator must not matter
            results.append(make(seed=seed).sampled(embeds, steps=4))
        assert not results[0][0].requires_grad
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        assert not torch.equal(results[0][0], results[2][0])

    def test_what_cannot_be_sampled_is_refused(self, make: Make, model: Backbone) -> None:
        harness, embeds = make(), model.embed(["a photo"])
        with pytest.raises(ValueError, match="unknown network 'ema'; known: student, teacher, average"):
            harness.sampled(embeds, "ema")
        with pytest.raises(ValueError, match="no moving average"):
            harness.sampled(embeds, "average", low=0, high=20)
        with pytest.raises(ValueError, match="at least 1 step"):
            harness.sampled(embeds, steps=0)
        with pytest.raises(ValueError, match=r"no sampling path of 50 steps stops within timesteps 0\.\.0"):
            harness.sampled(embeds, high=0)
        with pytest.raises(ValueError, match="not within"):
            harness.sampled(embeds, high=1000)


def test_the_average_is_a_network_while_training_goes_on(make: Make) -> None:
    latents, timesteps, seen = torch.randn(1, 4, 16, 16), torch.tensor([300]), []

    class Look(Towards):
        def after_step(self, harness: Harness) -> None:
            embeds = harness.null(1)
            seen.append(harness.average(latents, timesteps, embeds))
            assert not torch.equal(seen[-1], harness.student(latents, timesteps, embeds).detach())

        def finish(self, harness: Harness) -> None:
            seen.append(harness.student(latents, timesteps, harness.null(1)).detach())

    make().run(Look(method(epochs=2, batch_size=8, ema_decay=0.5).config))
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert torch.allclose(seen[1], seen[2], atol=1e-6)  # the result is the average
