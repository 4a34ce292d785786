"""The settings of a training, the training loop, and running a method."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from support.towards import Make, Towards, method

from bench.backbones.pipeline import Backbone
from bench.training import regularisers
from bench.training.forget_set import Batch
from bench.training.harness import Harness
from bench.training.loop import CHANGED_NOTHING, NonFiniteLoss, TrainConfig, unlearn
from bench.worlds import World


def test_gradient_accumulation_equals_one_large_batch(make: Make) -> None:
    whole, parts = [], []

    def recorder(into: list[torch.Tensor]) -> type[Towards]:
        class Record(Towards):
            def after_backward(self, harness: Harness) -> None:
                into.append(torch.cat([p.grad.flatten() for p in harness.trained.values() if p.grad is not None]))

        return Record

    unlearn(make(), recorder(whole)(method(batch_size=8, epochs=1).config))
    harness = make()
    unlearn(harness, recorder(parts)(method(batch_size=2, grad_accumulation=4, epochs=1).config))
    assert len(whole) == len(parts) == harness.meter.steps == 1
    assert torch.allclose(whole[0], parts[0], rtol=1e-4, atol=1e-7)


def test_gradient_accumulation_averages_an_incomplete_last_step(make: Make) -> None:
    norms: list[float] = []

    class Record(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            return 3 * next(iter(harness.trained.values())).sum()  # a gradient of 3 everywhere

        def after_backward(self, harness: Harness) -> None:
            gradient = next(iter(harness.trained.values())).grad
            assert gradient is not None
            norms.append(gradient.mean().item())

    unlearn(make(), Record(method(batch_size=3, grad_accumulation=2, epochs=1).config))
    assert norms == pytest.approx([3, 3])  # two batches, then one


def test_fit_clips_gradients(make: Make) -> None:
    norms = []

    class Norm(Towards):
        def after_backward(self, harness: Harness) -> None:
            for parameter in harness.trained.values():
                if parameter.grad is not None:
                    parameter.grad.mul_(1e6)

        def after_step(self, harness: Harness) -> None:
            change = [(p - harness.teacher_weights[n]).flatten() for n, p in harness.trained.items()]
            norms.append(torch.cat(change).norm().item())

    # Adam divides the size of the gradient out, except against its epsilon: compare at a gradient far below it
    unlearn(make(), Norm(method(max_grad_norm=1e-10, epochs=1, batch_size=8).config))
    unlearn(make(), Norm(method(epochs=1, batch_size=8).config))
    assert norms[0] < norms[1] / 10


def test_moving_average_starts_from_the_original_weights(make: Make) -> None:
    def run(epochs: int, ema_decay: float | None) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        harness = make()
        delta = unlearn(harness, method(epochs=epochs, batch_size=8, ema_decay=ema_decay)).delta
        return delta, harness.teacher_weights

    (one, original), (two, _), (averaged, _) = run(1, None), run(2, None), run(2, 0.9)
    for name in two:
        first = original[name] * 0.9 + one[name] * 0.1
        assert torch.allclose(averaged[name], first * 0.9 + two[name] * 0.1, atol=1e-7)


def test_divergence_raises_non_finite_loss(make: Make) -> None:
    class Diverges(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            return super().loss(harness, batch) * (float("nan") if harness.meter.steps == 2 else 1.0)

    with pytest.raises(NonFiniteLoss, match="step 3 of 4"):
        unlearn(make(), Diverges(method().config))

    class Poisons(Towards):
        def edit(self, harness: Harness) -> None:
            with torch.no_grad():
                next(iter(harness.trained.values())).fill_(float("inf"))

    with pytest.raises(NonFiniteLoss, match="infinite weights"):
        unlearn(make(), Poisons(method().config))


def test_fit_reports_each_step(make: Make) -> None:
    told: list[tuple[int, int]] = []
    harness = make(on_step=lambda step, steps, loss: told.append((step, steps)))
    unlearn(harness, method(batch_size=3, grad_accumulation=2))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]  # 3 batches of 8 examples, 2 steps a pass


def test_fit_refuses_a_method_without_trained_parameters(make: Make) -> None:
    class Nothing(Towards):
        def trains(self, parameter: str) -> bool:
            return False

    with pytest.raises(ValueError, match="no parameter"):
        unlearn(make(), Nothing(method().config))


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        method().config.lr = 1.0  # type: ignore[misc]


def test_fit_stops_after_the_configured_steps(make: Make) -> None:
    told: list[tuple[int, int]] = []
    settings = {"batch_size": 3, "grad_accumulation": 2}  # 2 steps a pass, the second of a single batch
    harness = make(on_step=lambda step, steps, loss: told.append((step, steps)))
    steps = unlearn(harness, method(epochs=None, steps=2, **settings)).delta
    passes = unlearn(make(), method(epochs=1, **settings)).delta
    assert all(torch.equal(passes[name], steps[name]) for name in passes)
    assert told == [(1, 2), (2, 2)]
    harness = make()
    unlearn(harness, method(epochs=None, steps=3, **settings))  # breaks off in the middle of the second pass
    assert harness.meter.steps == 3
    assert harness.meter.student_forwards == 5


@pytest.mark.parametrize("wrong", [{"steps": 3}, {"epochs": None}, {"epochs": 0}, {"epochs": None, "steps": 0}])
def test_config_takes_either_epochs_or_steps(wrong: dict[str, int | None]) -> None:
    with pytest.raises(ValueError, match=r"epochs|steps"):
        method(**wrong)


def test_config_length_counts_steps_for_each_concept() -> None:
    assert TrainConfig(epochs=None, steps=7).length(batches=3, concepts=4) == 28
    assert TrainConfig(epochs=5).length(batches=3, concepts=4) == 15
    assert TrainConfig(epochs=5, grad_accumulation=2).length(batches=3) == 10


@pytest.mark.parametrize("name", ["l1", "l2", "projection"])
def test_fit_applies_the_regulariser_of_the_config(make: Make, model: Backbone, name: str) -> None:
    free = unlearn(make(), method()).delta
    harness = make()
    held = unlearn(harness, method(regulariser=name, regulariser_weight=1e3)).delta
    original = model.unet.state_dict()
    far = {n: float((free[n] - original[n]).norm()) for n in free}
    near = {n: float((held[n] - original[n]).norm()) for n in free if n in held}
    if name == "projection":
        states = make().retained_token_states()
        keys = next(n for n in free if n.endswith("attn2.to_k.weight"))
        assert (states @ (held[keys] - original[keys]).T).norm() < 0.3 * (
            states @ (free[keys] - original[keys]).T
        ).norm()
        assert harness.data_use.anchor_prompts
    else:
        assert sum(near.values()) < sum(far.values())
        assert not harness.data_use.anchor_prompts
    with pytest.raises(ValueError, match="unknown regulariser 'l3'; known: none, l1, l2, projection"):
        method(regulariser="l3")


@pytest.mark.parametrize(
    "settings", [{"regulariser_weight": -1.0}, {"regulariser_energy": 0.0}, {"regulariser_energy": 2.0}]
)
def test_config_refuses_regulariser_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"regulariser_(weight must be at least 0|energy must be more than 0)"):
        method(regulariser="l2", **settings)


def test_penalty_pulls_to_the_start_and_not_to_the_original(make: Make, model: Backbone) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    start = {name: model.unet.state_dict()[name] + 0.5}
    held = unlearn(make(start=start), method(regulariser="l2", regulariser_weight=1e4, lr=1e-4)).delta
    assert (held[name] - start[name]).abs().max() < 0.01


def test_default_weight_divides_the_authors_by_the_number_of_values() -> None:
    trained = {"w": torch.nn.Parameter(torch.zeros(10, 10))}
    assert regularisers.default_weight("l1", trained) == 0.5
    assert regularisers.default_weight("l2", trained) == 250


def state(model: Backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}


def test_unlearn_restores_the_original_network(make: Make, model: Backbone) -> None:
    before = state(model)
    unlearn(make(), method())

    class Breaks(Towards):
        def after_step(self, harness: Harness) -> None:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        unlearn(make(), Breaks(method().config))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.unet.parameters())


def test_unlearn_delta_reproduces_the_trained_network(make: Make, model: Backbone) -> None:
    latents, timesteps = torch.randn(1, *model.latent_shape), torch.tensor([400])
    trained = []

    class Keep(Towards):
        def finish(self, harness: Harness) -> None:
            with torch.no_grad():
                trained.append(harness.student(latents, timesteps, harness.null_embeds(1)))

    delta = unlearn(make(), Keep(method().config)).delta
    with model.weights(delta), torch.no_grad():
        again = model.unet(latents, timesteps, encoder_hidden_states=model.embed([""])).sample
    assert torch.equal(again, trained[0])


def test_unlearn_depends_only_on_the_seed(make: Make) -> None:
    class Noisy(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            latents, noise, timesteps = harness.noised(batch.latents)
            return F.mse_loss(harness.student(latents, timesteps, batch.prompt_embeds), noise)

    def run(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed + 100)  # the global generator must not matter
        return unlearn(make(seed=seed), Noisy(method().config)).delta

    first, again, other = run(0), unlearn(make(seed=0), Noisy(method().config)).delta, run(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_unlearn_counts_cost_and_data_use(make: Make, world: World) -> None:
    class Uses(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            harness.retain_batch(3)
            harness.anchor_embeds([world.concepts[1]] * len(batch), batch.templates)
            return super().loss(harness, batch)

    harness = make()
    outcome = unlearn(harness, Uses(method().config))
    assert {k: outcome.cost[k] for k in ("steps", "student_forwards", "teacher_forwards")} == {
        "steps": 4, "student_forwards": 4, "teacher_forwards": 4
    }  # fmt: skip
    assert outcome.cost["seconds"] > 0
    assert outcome.cost["delta_bytes"] == sum(t.numel() * 4 for t in outcome.delta.values())
    assert outcome.data_use.counts()["forget_images"] == 8
    assert 3 <= outcome.data_use.counts()["retain_images"] <= 4
    assert outcome.data_use.counts()["anchor_prompts"] == 2
    assert outcome.data_use.compensation == "retain images + anchor prompts"
    assert unlearn(make(), method()).data_use.compensation == "none"


@pytest.mark.parametrize(("lr", "told"), [(0.0, [CHANGED_NOTHING]), (1e-3, [])])
@pytest.mark.parametrize("follows", [False, True], ids=["from the backbone", "after an earlier request"])
def test_unlearn_warns_of_a_method_that_changes_nothing(make: Make, lr: float, told: list[str], follows: bool) -> None:
    start = unlearn(make(), method(epochs=1)).delta if follows else {}
    warnings: list[str] = []
    unlearn(make(start=start, warn=warnings.append), method(lr=lr, epochs=1))
    assert warnings == told


def test_unlearn_expects_a_control_that_trains_nothing_to_change_nothing(make: Make) -> None:
    class Untouched(Towards):
        def trains(self, parameter: str) -> bool:
            return False

        def edit(self, harness: Harness) -> None:
            pass

    for fidelity, told in (("control", []), ("published", [CHANGED_NOTHING])):
        warnings: list[str] = []
        cls = type("Other", (Untouched,), {"fidelity": fidelity})
        unlearn(make(warn=warnings.append), cls(method().config))
        assert warnings == told
