import dataclasses

import pytest
import torch
from support.towards import Make, Towards, method

from bench.backbones.pipeline import Backbone
from bench.training import regularisers
from bench.training.harness import Batch, Harness
from bench.training.loop import NonFiniteLoss, TrainConfig, unlearn


def test_accumulated_gradients_are_those_of_the_whole_batch(make: Make) -> None:
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


def test_a_last_step_of_fewer_batches_weighs_them_fully(make: Make) -> None:
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


def test_gradients_are_clipped(make: Make) -> None:
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


def test_the_moving_average_starts_at_the_original(make: Make) -> None:
    def run(epochs: int, ema_decay: float | None) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        harness = make()
        delta = unlearn(harness, method(epochs=epochs, batch_size=8, ema_decay=ema_decay)).delta
        return delta, harness.teacher_weights

    (one, original), (two, _), (averaged, _) = run(1, None), run(2, None), run(2, 0.9)
    for name in two:
        first = original[name] * 0.9 + one[name] * 0.1
        assert torch.allclose(averaged[name], first * 0.9 + two[name] * 0.1, atol=1e-7)


def test_divergence_is_an_error(make: Make) -> None:
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


def test_progress_is_told_step_by_step(make: Make) -> None:
    told: list[tuple[int, int]] = []
    harness = make(on_step=lambda step, steps, loss: told.append((step, steps)))
    unlearn(harness, method(batch_size=3, grad_accumulation=2))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]  # 3 batches of 8 examples, 2 steps a pass


def test_a_method_that_trains_nothing_by_training_is_refused(make: Make) -> None:
    class Nothing(Towards):
        def trains(self, parameter: str) -> bool:
            return False

    with pytest.raises(ValueError, match="no parameter"):
        unlearn(make(), Nothing(method().config))


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        method().config.lr = 1.0  # type: ignore[misc]


def test_steps_are_an_alternative_to_epochs(make: Make) -> None:
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
def test_training_is_so_many_epochs_or_so_many_steps(wrong: dict[str, int | None]) -> None:
    with pytest.raises(ValueError, match="epochs"):
        method(**wrong)


def test_steps_are_for_each_concept_and_epochs_grow_with_the_images() -> None:
    assert TrainConfig(epochs=None, steps=7).length(batches=3, concepts=4) == 28
    assert TrainConfig(epochs=5).length(batches=3, concepts=4) == 15
    assert TrainConfig(epochs=5, grad_accumulation=2).length(batches=3) == 10


@pytest.mark.parametrize("name", ["l1", "l2", "projection"])
def test_any_method_can_be_held_where_the_request_found_it(make: Make, model: Backbone, name: str) -> None:
    free = unlearn(make(), method()).delta
    harness = make()
    held = unlearn(harness, method(regulariser=name, regulariser_weight=1e3)).delta
    own = model.unet.state_dict()
    far = {n: float((free[n] - own[n]).norm()) for n in free}
    near = {n: float((held[n] - own[n]).norm()) for n in free if n in held}
    if name == "projection":
        states = make().retained_token_states()
        keys = next(n for n in free if n.endswith("attn2.to_k.weight"))
        assert (states @ (held[keys] - own[keys]).T).norm() < 0.3 * (states @ (free[keys] - own[keys]).T).norm()
        assert harness.data_use.anchor_prompts
    else:
        assert sum(near.values()) < sum(far.values())
        assert not harness.data_use.anchor_prompts
    with pytest.raises(ValueError, match="unknown regulariser 'l3'; known: none, l1, l2, projection"):
        method(regulariser="l3")


@pytest.mark.parametrize(
    "settings", [{"regulariser_weight": -1.0}, {"regulariser_energy": 0.0}, {"regulariser_energy": 2.0}]
)
def test_a_regulariser_out_of_range_is_refused_before_anything_runs(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="regulariser_weight must be at least 0, and regulariser_energy within"):
        method(regulariser="l2", **settings)


def test_it_is_held_at_the_start_and_not_at_the_original(make: Make, model: Backbone) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    start = {name: model.unet.state_dict()[name] + 0.5}
    held = unlearn(make(start=start), method(regulariser="l2", regulariser_weight=1e4, lr=1e-4)).delta
    assert (held[name] - start[name]).abs().max() < 0.01


def test_the_usual_weight_of_a_penalty_is_the_authors_over_the_number_of_values() -> None:
    trained = {"w": torch.nn.Parameter(torch.zeros(10, 10))}
    assert regularisers.default_weight("l1", trained) == 0.5
    assert regularisers.default_weight("l2", trained) == 250
