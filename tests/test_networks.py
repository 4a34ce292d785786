import copy

import torch
import torch.nn.functional as F
from towards import Make, Towards, method

from bench.backbone import Backbone
from bench.harness import Batch, Harness
from bench.unlearning import unlearn
from methods.base import MethodConfig


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
    unlearn(harness, Check(MethodConfig(lr=1e-2, epochs=1, batch_size=4)))
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

    swapped, copied = unlearn(make(), method()).delta, unlearn(make(), Copied(method().config)).delta
    assert swapped.keys() == copied.keys()
    assert all(torch.equal(swapped[name], copied[name]) for name in swapped)


def test_the_teacher_holds_only_what_trains(make: Make, model: Backbone) -> None:
    harness = make()
    unlearn(harness, method())
    assert set(harness.frozen) == {n for n, _ in model.unet.named_parameters() if ".attn2." in n}
    assert 0 < sum(t.numel() for t in harness.frozen.values()) < sum(p.numel() for p in model.unet.parameters()) / 2


def test_the_average_is_a_network_while_training_goes_on(make: Make) -> None:
    latents, timesteps, seen = torch.randn(1, 4, 16, 16), torch.tensor([300]), []

    class Look(Towards):
        def after_step(self, harness: Harness) -> None:
            embeds = harness.null(1)
            seen.append(harness.average(latents, timesteps, embeds))
            assert not torch.equal(seen[-1], harness.student(latents, timesteps, embeds).detach())

        def finish(self, harness: Harness) -> None:
            seen.append(harness.student(latents, timesteps, harness.null(1)).detach())

    unlearn(make(), Look(method(epochs=2, batch_size=8, ema_decay=0.5).config))
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert torch.allclose(seen[1], seen[2], atol=1e-6)  # the result is the average
