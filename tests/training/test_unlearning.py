import pytest
import torch
import torch.nn.functional as F
from support.towards import Make, Towards, method

from bench.backbones.pipeline import Backbone
from bench.training.harness import Batch, Harness
from bench.training.loop import unlearn
from bench.worlds import World


def state(model: Backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}


def test_the_network_is_left_as_it_was_found(make: Make, model: Backbone) -> None:
    before = state(model)
    unlearn(make(), method())

    class Breaks(Towards):
        def after_step(self, harness: Harness) -> None:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        unlearn(make(), Breaks(method().config))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.unet.parameters())


def test_the_delta_reproduces_the_trained_network(make: Make, model: Backbone) -> None:
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


def test_the_seed_decides_everything(make: Make) -> None:
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


def test_the_meter_and_the_ledger_count_what_was_used(make: Make, world: World) -> None:
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
