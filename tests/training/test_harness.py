import pytest
import torch
from support.towards import Make, Towards, method

from bench.backbones.pipeline import Backbone
from bench.core.task import Task
from bench.training.forget_set import Batch, LatentSet
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.worlds import World


def test_retained_images_are_sampled_only_on_request(make: Make) -> None:
    def refuse() -> LatentSet:
        raise AssertionError("the method did not ask for retained images")

    unlearn(make(retain=refuse), method())


def test_retained_images_are_sampled_with_the_original_weights_within_a_step(make: Make, model: Backbone) -> None:
    seen: list[bool] = []
    original = {name: p.detach().clone() for name, p in model.unet.named_parameters()}

    def draw() -> LatentSet:
        seen.append(all(torch.equal(p, original[name]) for name, p in model.unet.named_parameters()))
        return make(0)._forget

    class Late(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            loss = super().loss(harness, batch)
            if harness.meter.steps:  # weights have moved, and a gradient through them is under way
                moved = {n: p.detach().clone() for n, p in harness.trained.items()}
                harness.retain_batch(2)
                assert any(not torch.equal(p, original[n]) for n, p in moved.items())
                assert all(torch.equal(p, moved[n]) for n, p in harness.trained.items())
            return loss

    assert unlearn(make(0, retain=draw), Late(method().config)).delta
    assert seen == [True]


def test_noised_follows_the_noise_schedule(make: Make, model: Backbone) -> None:
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


def test_forget_batches_show_each_example_once_in_a_new_order(make: Make) -> None:
    harness = make()
    passes = [torch.cat([b.latents for b in harness.forget_batches(3)]) for _ in range(2)]
    assert [p.shape[0] for p in passes] == [8, 8]
    assert not torch.equal(*passes)
    assert torch.equal(passes[0].flatten(1).sum(1).sort().values, passes[1].flatten(1).sum(1).sort().values)


def test_harness_refuses_backbones_that_do_not_predict_noise(make: Make, model: Backbone) -> None:
    config = {**model.pipeline.scheduler.config, "prediction_type": "v_prediction"}
    model.pipeline.scheduler = type(model.pipeline.scheduler).from_config(config)
    with pytest.raises(ValueError, match="noise prediction"):
        make()


def test_data_use_counts_images_when_they_are_read(make: Make) -> None:
    class Prompts(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            latents, timesteps = harness.sampled(batch.prompt_embeds, steps=2)
            return harness.student(latents, timesteps, batch.prompt_embeds).square().mean()

    harness = make()
    counts = unlearn(harness, Prompts(method().config)).data_use.counts()
    assert set(counts.values()) == {0}
    retained = harness.retain_batch(3)
    assert len(harness.data_use.retain_images) == 3  # the prompts alone count as use
    assert retained.latents is retained.latents


def test_forget_batches_mix_concepts_or_alternate_between_them(make: Make, world: World, model: Backbone) -> None:
    names = world.concepts[:3]
    task = Task("t", names[:2], names[2:], ())
    examples = LatentSet(torch.randn(10, *model.latent_shape), names[:1] * 6 + names[1:2] * 4, (0,) * 10)

    def shown(alternate: bool) -> list[tuple[str, ...]]:
        harness = make(task=task, forget=examples, alternate=alternate)
        batches = [batch.concepts for batch in harness.forget_batches(4)]
        assert len(batches) == harness.batch_count(4)
        assert sorted(c for batch in batches for c in batch) == sorted(examples.concepts)
        return batches

    assert any(len(set(batch)) == 2 for batch in shown(alternate=False))
    turns = shown(alternate=True)
    assert [set(batch) for batch in turns] == [{names[0]}, {names[1]}, {names[0]}]
    assert len(shown(alternate=False)) == 3


def test_retained_token_states_count_as_anchor_prompts(make: Make, world: World) -> None:
    harness = make()
    states = harness.retained_token_states()
    prompts = {p for name in world.concepts[1:3] for p in world.prompts("forget", name)}
    assert states.shape[0] == len(prompts) * harness.null_embeds(1).shape[1]
    assert harness.data_use.anchor_prompts == prompts
    assert harness.data_use.compensation == "anchor prompts"
