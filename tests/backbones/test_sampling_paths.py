import copy

import pytest
import torch
from support.towards import Make

from bench.backbones import sampling_paths
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


class TestPathsDrawnAhead:
    """`Harness.sampled_ahead`: the paths of several batches, drawn at once."""

    def draws(self, harness: Harness, path_batch: int, batch_size: int = 1) -> list[bool]:
        """For each batch of a pass, whether it drew random numbers."""
        drew = []
        for batch in harness.forget_batches(batch_size):
            before = harness.generator.get_state()
            z, t = harness.sampled_ahead(batch, "student", 3.0, 4, path_batch)
            assert z.shape[0] == t.shape[0] == len(batch)
            drew.append(not torch.equal(before, harness.generator.get_state()))
        return drew

    @pytest.mark.parametrize(
        ("path_batch", "drew"), [(1, "11111111"), (3, "10010010"), (8, "10000000"), (99, "10000000")]
    )
    def test_every_path_batch_th_batch_of_a_pass_draws(self, make: Make, path_batch: int, drew: str) -> None:
        harness = make()
        for _ in range(2):  # a new pass draws anew
            assert self.draws(harness, path_batch) == [number == "1" for number in drew]

    def test_path_batch_of_1_is_the_published_method_bit_for_bit(self, make: Make) -> None:
        one, other = make(), make()
        for batch, twin in zip(one.forget_batches(3), other.forget_batches(3), strict=True):
            ahead = one.sampled_ahead(batch, "student", 3.0, 4, 1)
            at_once = other.sampled(twin.prompt_embeds, "student", 3.0, 4)
            assert all(torch.equal(*pair) for pair in zip(ahead, at_once, strict=True))
        assert one.meter.student_forwards == other.meter.student_forwards

    def test_each_batch_has_its_own_stop_and_the_path_that_it_would_have_alone(
        self, make: Make, model: Backbone
    ) -> None:
        scheduler, predict = sampling_paths.ddim(model.noise_schedule, 5), make().student
        starts = [
            sampling_paths.Start(torch.randn(2, *model.latent_shape), model.embed([p] * 2), model.embed([""] * 2), k)
            for p, k in (("a cat", 1), ("a dog", 4), ("a rose", 0), ("a jay", 4), ("a fox", 2))
        ]
        together = sampling_paths.follow(predict, scheduler, starts, 3.0)
        for start, latents in zip(starts, together, strict=True):
            alone = sampling_paths.follow(predict, scheduler, [start], 3.0)[0]
            assert torch.allclose(latents, alone, atol=1e-5)
        assert torch.equal(together[2], starts[2].noise)

    def test_paths_that_stopped_are_no_longer_computed(self, make: Make, model: Backbone) -> None:
        rows = []

        def predict(latents: torch.Tensor, t: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
            assert len(latents) == len(t) == len(embeds)
            rows.append(len(latents))
            return latents

        prompt, null = model.embed(["a cat"]), model.embed([""])
        noise = torch.randn(1, *model.latent_shape)
        starts = [sampling_paths.Start(noise, prompt, null, steps) for steps in (1, 3, 3, 0)]
        sampling_paths.follow(predict, sampling_paths.ddim(model.noise_schedule, 5), starts, 3.0)
        assert rows == [6, 4, 4]

    @pytest.mark.parametrize(("path_batch", "same"), [(1, False), (2, True)])
    def test_later_batches_use_the_network_that_drew_their_paths(
        self, make: Make, model: Backbone, path_batch: int, same: bool
    ) -> None:
        drawn = []
        for moves in (False, True):
            harness, found = make(), []
            with harness.trainable(lambda name: ".attn2." in name):
                for batch in harness.forget_batches(4):  # 2 of them
                    found.append(harness.sampled_ahead(batch, "student", 3.0, 50, path_batch)[0])
                    with torch.no_grad():
                        for parameter in harness.trained.values() if moves else ():
                            parameter.add_(0.5)
            drawn.append(found)
        assert torch.equal(drawn[0][0], drawn[1][0])
        assert torch.equal(drawn[0][1], drawn[1][1]) is same
