"""The training loop: resumes to the same weights, averages, reports what is not finite."""

import pytest
import torch
from torch import nn

from bench.worlds.pocket.recipe import fit as loop
from bench.worlds.pocket.recipe.settings import Fit

SETTINGS = Fit(steps=12, batch=4, lr=1e-2, warmup=2, ema=0.9, seed=3)


def problem():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def loss(step, generator):
        x = torch.randn(4, 3, generator=generator)
        return (model(x) - x[:, :2]).square().mean()

    return model, loss


def test_killed_and_resumed_ends_with_the_same_weights(tmp_path, monkeypatch):
    model, loss = problem()
    loop.fit("whole", model, loss, SETTINGS, tmp_path / "a.pt")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    other, other_loss = problem()

    def dies(step, generator):
        if step == 7:
            raise KeyboardInterrupt
        return other_loss(step, generator)

    with pytest.raises(KeyboardInterrupt):
        loop.fit("killed", other, dies, SETTINGS, tmp_path / "b.pt")
    again, again_loss = problem()
    loop.fit("resumed", again, again_loss, SETTINGS, tmp_path / "b.pt")
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_run_takes_no_step_and_returns_its_ema(tmp_path):
    model, loss = problem()
    loop.fit("first", model, loss, SETTINGS, tmp_path / "a.pt")
    again, _ = problem()

    def never(step, generator):
        raise AssertionError("trained again")

    loop.fit("second", again, never, SETTINGS, tmp_path / "a.pt")
    assert torch.equal(model.weight, again.weight)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    model, _ = problem()
    with pytest.raises(FloatingPointError, match="bad: loss is nan at step 0"):
        loop.fit("bad", model, lambda s, g: model.weight.sum() * float("nan"), SETTINGS, tmp_path / "a.pt")


def test_rate_warms_up_holds_and_decays():
    settings = Fit(steps=100, batch=1, lr=1.0, warmup=10, decay_from=0.5)
    assert loop.rate(settings, 0) == pytest.approx(0.1)
    assert loop.rate(settings, 9) == loop.rate(settings, 50) == pytest.approx(1.0)
    assert loop.rate(settings, 75) == pytest.approx(0.51)
    assert loop.rate(settings, 100) == pytest.approx(0.02)
