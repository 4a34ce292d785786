import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.exhibits import ALL, whole

from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec
from bench.cells import probe
from bench.worlds import World
from metrics import METRICS, Evidence, Probe
from metrics.base import MissingEvidence, Score

MI = METRICS.get("mi")


def probed(gaps: torch.Tensor, logsnr: torch.Tensor) -> Evidence:
    base = whole({c: c * len(gaps) for c in ALL})
    return dataclasses.replace(base, probe=Probe(("a",) * len(gaps), gaps, logsnr))


class TestMetric:
    def test_mi_equals_integral_computed_by_hand(self) -> None:
        # trapezoids: (2 + 4) / 2 * 1 + (4 + 0) / 2 * 3 = 9, and 0; half of their mean
        given = probed(torch.tensor([[0.0, 4.0, 2.0], [0.0, 0.0, 0.0]]), torch.tensor([4.0, 1.0, 0.0]))
        assert MI.compute(given) == Score(9 / 2 / 2, 2)

    @given(st.floats(0.1, 5))
    def test_mi_of_gaussians_is_their_divergence(self, mean: float) -> None:
        """p(x|c) = N(m, 1), p(x) = N(0, 1): the optimal predictions differ by sqrt(s(l) s(-l)) m; KL is m^2 / 2."""
        logsnr = torch.linspace(14, -14, 200, dtype=torch.float64)
        gaps = (torch.sigmoid(logsnr) * torch.sigmoid(-logsnr) * mean**2).unsqueeze(0)
        found = MI.compute(probed(gaps, logsnr))
        assert found is not None
        assert found.value == pytest.approx(mean**2 / 2, rel=1e-4)

    def test_mi_is_zero_if_prompt_changes_no_prediction(self) -> None:
        assert MI.compute(probed(torch.zeros(2, 5), torch.arange(5.0))) == Score(0, 2)

    def test_mi_with_missing_image_or_probe_raises(self) -> None:
        short = dataclasses.replace(probed(torch.zeros(2, 5), torch.arange(5.0)), counts={"a": 3})
        with pytest.raises(MissingEvidence, match="a has 2, expected 3"):
            MI.compute(short)
        with pytest.raises(MissingEvidence, match="not probed"):
            MI.compute(dataclasses.replace(short, probe=None))


class TestProbe:
    @pytest.fixture
    def look(self, model: Backbone, world: World) -> Callable[..., torch.Tensor]:
        name = world.concepts[0]
        wanted = [ImageSpec(prompt, 0) for prompt in world.prompts("evaluate", name)[:3]]
        latents = torch.randn(3, *model.latent_shape)

        def look(specs: list[ImageSpec] = wanted, batch: int = 64) -> torch.Tensor:
            return probe.gaps(model, specs, latents, seed=1, count=4, batch_size=batch)["gaps"]

        return look

    def test_noise_levels_are_even_in_log_snr(self, model: Backbone) -> None:
        times, logsnr = probe.timesteps(model, 10)
        assert (times[0], times[-1]) == (0, 999)
        steps = logsnr[:-1] - logsnr[1:]
        assert steps.min() > 0
        assert steps.max() / steps.min() < 1.6  # as even as whole timesteps allow
        alphas = model.pipeline.scheduler.alphas_cumprod
        assert logsnr[-1].item() == pytest.approx(torch.logit(alphas[999]).item(), abs=1e-4)

    def test_probe_does_not_depend_on_batch_size(self, look: Callable[..., torch.Tensor]) -> None:
        whole_batch = look()
        assert whole_batch.shape == (3, 4)
        assert (whole_batch > 0).all()
        assert torch.allclose(look(batch=5), whole_batch, rtol=1e-3)

    def test_probe_of_null_prompt_is_zero(self, look: Callable[..., torch.Tensor]) -> None:
        assert look([ImageSpec("", i) for i in range(3)]).max() < 1e-9

    def test_probe_is_distance_of_predictions_with_same_noise(
        self, model: Backbone, look: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[torch.Tensor] = []
        original = model.unet.forward

        def spy(sample: torch.Tensor, *args: object, **kwargs: object) -> object:
            out = original(sample, *args, **kwargs)
            seen.append(torch.cat([sample, out[0]]))
            return out

        monkeypatch.setattr(model.unet, "forward", spy)
        found = look()
        with_prompt, without, eps_c, eps_null = seen[0].chunk(4)
        assert torch.equal(with_prompt, without)
        assert torch.allclose((eps_c - eps_null).square().sum((1, 2, 3)).double(), found.flatten(), rtol=1e-4)
        noise = seen[0].chunk(4)[0].clone()
        with torch.no_grad():
            model.unet.conv_out.weight.mul_(2)
        look()
        assert torch.equal(seen[1].chunk(4)[0], noise)  # paired: another model is asked under the same noise
