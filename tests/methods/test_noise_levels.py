"""Loss weights and timesteps, against numbers computed from Stable Diffusion's noise schedule."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from methods.noise_levels import log_snr, log_snr_rate, logistic_timesteps, loss_weights


@pytest.fixture(scope="module")
def alphas() -> torch.Tensor:
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return schedule.alphas_cumprod


def test_log_snr_has_the_range_of_stable_diffusion(alphas: torch.Tensor) -> None:
    levels = log_snr(alphas)
    assert levels[0].item() == pytest.approx(7.07, abs=0.01)
    assert levels[-1].item() == pytest.approx(-5.36, abs=0.01)
    assert (levels.diff() < 0).all()


@pytest.mark.parametrize(
    ("t", "expected"),
    [(0, 0.70), (5, 0.17), (20, 0.051), (50, 0.023), (100, 0.013), (200, 0.0083), (400, 0.0066), (999, 0.012)],
)
def test_log_snr_rate_has_the_values_of_stable_diffusion(alphas: torch.Tensor, t: int, expected: float) -> None:
    assert log_snr_rate(alphas)[t].item() == pytest.approx(expected, rel=0.03)


def test_loss_weights_have_mean_one_and_follow_the_clipped_rate(alphas: torch.Tensor) -> None:
    w = loss_weights(alphas, "snr", 0, 999, clip=0.05)
    assert w.mean().item() == pytest.approx(1)
    assert (w[5] / w[400]).item() == pytest.approx(0.05 / 0.006559, rel=1e-3)  # 0.17 is clipped
    assert (w[100] / w[400]).item() == pytest.approx(0.013122 / 0.006559, rel=1e-3)
    assert loss_weights(alphas, "snr", 50, 950)[50:951].mean().item() == pytest.approx(1)
    assert loss_weights(alphas, "uniform", 50, 950).tolist() == [1.0] * 1000
    with pytest.raises(ValueError, match="logistic"):
        loss_weights(alphas, "logistic", 0, 999)


class TestLogistic:
    uniform = (torch.arange(4000) + 0.5) / 4000

    def test_logistic_timesteps_have_a_truncated_logistic_log_snr(self, alphas: torch.Tensor) -> None:
        timesteps, _ = logistic_timesteps(self.uniform, alphas, 0, 999)
        levels = log_snr(alphas)[timesteps]
        assert levels.min().item() == pytest.approx(-5, abs=0.05)
        assert levels.max().item() == pytest.approx(7, abs=0.8)  # timesteps are far apart there
        assert levels.median().item() == pytest.approx(1, abs=0.02)
        # P(l < -1) of a logistic(1, 2) cut to sigma(-3)..sigma(3)
        low, high, at = (1 / (1 + math.exp(-x)) for x in (-3, 3, -1))
        assert (levels < -1).double().mean().item() == pytest.approx((at - low) / (high - low), abs=0.005)

    def test_logistic_timesteps_weights_give_the_integral_over_log_snr(self, alphas: torch.Tensor) -> None:
        timesteps, w = logistic_timesteps(self.uniform, alphas, 50, 950)
        levels = log_snr(alphas)
        assert 50 <= timesteps.min() < timesteps.max() <= 950
        assert w.mean().item() == pytest.approx(1, abs=0.01)
        a, b = levels[950].item(), levels[50].item()
        assert (w * levels[timesteps]).mean().item() == pytest.approx((a + b) / 2, abs=0.02)
        assert (w * levels[timesteps] ** 2).mean().item() == pytest.approx((b**3 - a**3) / 3 / (b - a), rel=0.01)

    def test_logistic_timesteps_refuse_an_empty_range(self, alphas: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"timesteps 990\.\.999 have no log-SNR within"):
            logistic_timesteps(self.uniform, alphas, 990, 999)
