import torch

from bench.backbones import sampler
from bench.training import forget_set
from bench.worlds import World


def test_joined_latents_keep_concepts_and_prompts() -> None:
    latents = {"dog": torch.zeros(3, 1, 2, 2), "cat": torch.ones(2, 1, 2, 2)}
    both = forget_set.joined(latents, {"dog": ("a dog", "the dog"), "cat": ("a cat", "the cat")})
    assert both.latents.flatten(1).mean(1).tolist() == [0, 0, 0, 1, 1]
    assert both.concepts == ("dog",) * 3 + ("cat",) * 2
    assert both.templates == (0, 1, 0, 0, 1)


def test_processes_share_concepts_without_leaving_one_out() -> None:
    assert sorted(forget_set.in_own_order(["a", "b", "c"])) == ["a", "b", "c"]


def test_forget_set_shares_no_prompt_and_no_noise_with_evaluation(world: World) -> None:
    for concept in world.concepts:
        training_prompts, evaluation_prompts = world.prompts("forget", concept), world.prompts("evaluate", concept)
        assert not set(training_prompts) & set(evaluation_prompts)
        noise = sampler.initial_latents((1, 2, 2), world.protocol.forget_seed, sampler.image_specs(training_prompts, 4))
        other = sampler.initial_latents(
            (1, 2, 2), world.protocol.evaluation_seed, sampler.image_specs(evaluation_prompts, 4)
        )
        assert not torch.isin(noise, other).any()


def test_latent_set_take_keeps_latents_and_labels_together() -> None:
    examples = forget_set.LatentSet(torch.arange(4.0).view(4, 1, 1, 1), ("a", "b", "c", "d"), (0, 1, 2, 3))
    taken = examples.take([2, 0])
    assert (taken.latents.flatten().tolist(), taken.concepts, taken.templates) == ([2.0, 0.0], ("c", "a"), (2, 0))
