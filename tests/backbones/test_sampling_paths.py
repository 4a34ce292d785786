import copy

import pytest
import torch
from support.towards import Make

from bench.backbones.pipeline import Backbone
from bench.training.harness import Harness


class TestSampledPaths:
    """`Harness.sampled`: latents of a network's own sampling path."""

    @pytest.fixture
    def moved(self, make: Make, model: Backbone) -> tuple[Harness, dict[str, torch.nn.Module]]:
        """A harness whose student and average have left the teacher, and a separate copy of each network."""
        harness = make()
        harness.trained = {n: p for n, p in model.unet.named_parameters() if ".attn2." in n}
        harness.teacher_weights = {n: p.detach().clone() for n, p in harness.trained.items()}
        copies = {"teacher": copy.deepcopy(model.unet)}
        for name in ("average", "student"):
            with torch.no_grad():
                for parameter in harness.trained.values():
                    parameter.add_(0.1 * torch.randn_like(parameter))
            copies[name] = copy.deepcopy(model.unet)
            if name == "average":
                harness.average_weights = {n: p.detach().clone() for n, p in harness.trained.items()}
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
                c, null = (
                    copies[network](z, t, encoder_hidden_states=e).sample for e in (embeds, harness.null_embeds(2))
                )
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
        with pytest.raises(ValueError, match=r"must be within 1\.\.999, not 0"):
            harness.sampled(embeds, steps=0)
        with pytest.raises(ValueError, match=r"no sampling path of 50 steps stops within timesteps 0\.\.0"):
            harness.sampled(embeds, high=0)
        with pytest.raises(ValueError, match="not within"):
            harness.sampled(embeds, high=1000)
