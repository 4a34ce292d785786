from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.towards import Make, Towards, method
from transformers import CLIPTextModel, CLIPTokenizer

from bench.training import regularisers
from bench.training.harness import Harness
from bench.training.loop import unlearn
from bench.training.regularisers import Projection, Regulariser, basis, build
from bench.worlds import WORLDS

KEY, VALUE = "mid_block.attn2.to_k.weight", "mid_block.attn2.to_v.weight"
OTHERS = ("mid_block.attn1.to_k.weight", "mid_block.attn2.to_q.weight", "mid_block.attn2.to_k.bias")
WIDTH = 12


def parameters() -> dict[str, torch.nn.Parameter]:
    """Keys and values for token states of WIDTH, what else an attention layer may have, and a convolution."""
    matrices = {name: torch.nn.Parameter(torch.randn(7, WIDTH)) for name in (KEY, VALUE, *OTHERS[:2])}
    bias, kernel = torch.nn.Parameter(torch.randn(7)), torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    return matrices | {OTHERS[2]: bias, "conv_in.weight": kernel}


def copies(trained: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained.items()}


def made(name: str, trained: dict[str, torch.nn.Parameter], **changed: object) -> Regulariser | None:
    states = torch.randn(5, WIDTH)
    given = {"weight": 0.3, "energy": 1.0, "start": copies(trained), "token_states": lambda: states, **changed}
    return build(name, trained=trained, **given)  # type: ignore[arg-type]


def unread() -> torch.Tensor:
    raise AssertionError("read the token states")


def test_regulariser_reads_token_states_only_for_projection() -> None:
    trained = parameters()
    assert made("none", trained, token_states=unread) is None
    for name in ("l1", "l2"):
        assert made(name, trained, token_states=unread) is not None
    with pytest.raises(AssertionError, match="read the token states"):
        made("projection", trained, token_states=unread)


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_penalty_adds_the_gradient_of_its_formula(name: str, power: int) -> None:
    trained = parameters()
    start, weights = copies(trained), {n: torch.randn_like(p) for n, p in trained.items()}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.flatten()[::2] += torch.randn(len(parameter.flatten()[::2]))  # every other value has moved
    loss = sum((weights[n] * p.square()).sum() for n, p in trained.items() if n != KEY)  # which KEY is not part of
    penalty = sum((p - start[n]).abs().pow(power).sum() for n, p in trained.items())
    expected = torch.autograd.grad(loss + 0.3 * penalty, list(trained.values()), retain_graph=True)
    loss.backward()  # type: ignore[union-attr]
    held = made(name, trained, start=start)
    assert held is not None
    held.after_backward()
    for parameter, gradient in zip(trained.values(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_penalty_has_no_gradient_at_the_start(name: str) -> None:
    trained = parameters()
    for parameter in trained.values():
        parameter.grad = torch.ones_like(parameter)
    held = made(name, trained, weight=1e6)
    assert held is not None
    held.after_backward()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in trained.values() if p.grad is not None)


class Held(Towards):
    """A training with a regulariser in it."""

    name, weight = "none", 0.0

    def prepare(self, harness: Harness) -> None:
        self.start = copies(harness.trained)
        self.states = harness.anchor_embeds(harness.task.in_domain, (0,)).flatten(0, 1)
        self.held = build(self.name, self.weight, 0.99, harness.trained, self.start, lambda: self.states)

    def after_backward(self, harness: Harness) -> None:
        if self.held:
            self.held.after_backward()
            self.held.before_step()

    def after_step(self, harness: Harness) -> None:
        if self.held:
            self.held.after_step()

    def finish(self, harness: Harness) -> None:
        self.moved = {n: p.detach() - self.start[n] for n, p in harness.trained.items()}


def held(make: Make, name: str, weight: float = 0.0) -> Held:
    trained = Held(method(epochs=3, batch_size=8, weight_decay=0.1, optimizer="adamw").config)
    trained.name, trained.weight = name, weight
    unlearn(make(), trained)
    return trained


def test_penalty_with_a_large_weight_keeps_training_near_the_start(make: Make) -> None:
    free, l1, l2 = (held(make, name, 1e2).moved for name in ("none", "l1", "l2"))
    far = torch.cat([moved.flatten() for moved in free.values()]).norm()
    for moved in (l1, l2):
        assert 0 < torch.cat([m.flatten() for m in moved.values()]).norm() < far / 2


def test_projection_keeps_keys_and_values_along_retained_directions(make: Make) -> None:
    trained = held(make, "projection")
    retained = basis(trained.states)
    assert 0 < retained.shape[1] < len(retained)
    chosen = [n for n in trained.moved if ".attn2.to_k." in n or ".attn2.to_v." in n]
    assert 0 < len(chosen) < len(trained.moved)
    for name in chosen:
        assert (trained.moved[name].double() @ retained).abs().max() < 1e-6
    assert all(moved.abs().max() > 1e-4 for moved in trained.moved.values())  # and so they forget with what is left


def test_projection_of_the_step_holds_where_that_of_the_gradient_fails() -> None:
    states, weights = torch.randn(5, WIDTH), torch.randn(7, WIDTH)
    retained = basis(states, 1.0)

    def moved(gradients: bool) -> torch.Tensor:
        trained = parameters()
        matrix, start = trained[VALUE], copies(trained)
        optimizer, projection = torch.optim.Adam([matrix], lr=0.01), Projection(trained, retained)
        for _ in range(5):
            optimizer.zero_grad()
            (weights * matrix.sin()).sum().backward()
            projection.before_step()
            if gradients:
                assert matrix.grad is not None
                matrix.grad -= matrix.grad @ (retained @ retained.T).float()
            optimizer.step()
            if not gradients:
                projection.after_step()
        return matrix.detach() - start[VALUE]

    assert (moved(gradients=True).double() @ retained).abs().max() > 1e-3
    assert (moved(gradients=False).double() @ retained).abs().max() < 1e-6
    assert moved(gradients=False).abs().max() > 1e-3


@pytest.fixture
def tf32() -> Iterator[None]:
    """CUDA rounds products of fp32, as it does where the harness trains in bfloat16."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    yield
    matmul.allow_tf32 = before


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_projection_changes_only_steps_of_key_and_value_matrices(device: str, tf32: None) -> None:
    trained = {name: torch.nn.Parameter(p.detach().to(device)) for name, p in parameters().items()}
    retained = basis(torch.randn(5, WIDTH, device=device), 1.0)
    projection = Projection(trained, retained)
    for _ in range(2):  # the second from where the first ended
        before = copies(trained)
        projection.before_step()
        step = {n: torch.randn_like(p) for n, p in trained.items()}
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter += step[name]
        moved = copies(trained)
        projection.after_step()
        for name, parameter in trained.items():
            if name in (KEY, VALUE):
                free = step[name].double() - step[name].double() @ retained @ retained.T
                assert torch.allclose(parameter - before[name], free.float(), atol=1e-6)
            else:
                assert torch.equal(parameter, moved[name])
    assert not projection.before  # nothing is held between two steps


SIZES = st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))


@settings(max_examples=40)
@given(SIZES, st.floats(0.01, 1.0))
def test_basis_is_orthonormal_and_the_smallest_with_its_energy(sizes: tuple[int, int, int, int], energy: float) -> None:
    count, width, rank, seed = sizes
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(count, rank, generator=generator), torch.randn(rank, width, generator=generator)
    states = (left * torch.logspace(0, -3, rank)) @ right
    directions = basis(states, energy)
    r = directions.shape[1]
    assert directions.dtype == torch.float64
    assert torch.allclose(directions.T @ directions, torch.eye(r, dtype=torch.float64), atol=1e-12)

    shares = torch.linalg.svdvals(states.double()).square()
    shares = shares / shares.sum()
    assert (states.double() @ directions).square().sum() / states.double().square().sum() >= energy - 1e-9
    assert 1 <= r <= min(count, width)
    assert shares[: r - 1].sum() < energy  # no r - 1 directions hold more than these (Eckart and Young)


def test_basis_with_full_energy_has_the_rank_of_the_states(monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.randn(50, 3, dtype=torch.float64) @ torch.randn(3, WIDTH, dtype=torch.float64)
    whole = basis(states, 1.0)
    assert whole.shape == (WIDTH, 3)
    assert torch.allclose(states @ whole @ whole.T, states)
    monkeypatch.setattr(regularisers, "CHUNK", 7)
    parts = basis(states, 1.0)
    assert torch.allclose(parts @ parts.T, whole @ whole.T)


def test_regulariser_errors_name_the_mistake() -> None:
    trained = parameters()
    with pytest.raises(ValueError, match="'l3'; known: none, l1, l2, projection"):
        made("l3", trained)
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="at least 0"):
            made("l2", trained, weight=weight)
    with pytest.raises(ValueError, match=f"no start of the right shape for '{KEY}'"):
        made("l1", trained, start=copies(trained) | {KEY: torch.zeros(1)})
    with pytest.raises(ValueError, match="trains none of them"):
        made("projection", {name: trained[name] for name in OTHERS})
    with pytest.raises(ValueError, match="token states are 5 wide"):
        made("projection", trained, token_states=lambda: torch.randn(3, 5))


@pytest.mark.parametrize("energy", [0.0, -0.1, 1.1, float("nan")])
def test_basis_refuses_energy_out_of_range(energy: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        basis(torch.randn(4, 3), energy)


@pytest.mark.parametrize("states", [torch.zeros(4, 3), torch.empty(0, 3), torch.full((2, 3), torch.nan), torch.ones(3)])
def test_basis_refuses_states_without_directions(states: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="token states must be"):
        basis(states)


@pytest.mark.parametrize(("forgotten", "left"), [("toucan", 0.18), ("dalmatian", 0.25)])
def test_pocket_concepts_have_token_states_outside_the_retained_basis(
    forgotten: str, left: float
) -> None:  # as docs/methods.md says
    world = WORLDS.get("pocket")
    words = CLIPTokenizer.from_pretrained(world.backbone(), subfolder="tokenizer")
    encoder = CLIPTextModel.from_pretrained(world.backbone(), subfolder="text_encoder")

    @torch.no_grad()
    def states(*concepts: str) -> torch.Tensor:
        prompts = [prompt for concept in concepts for prompt in world.prompts("forget", concept)]
        tokens = words(prompts, padding="max_length", return_tensors="pt").input_ids
        states: torch.Tensor = encoder(tokens).last_hidden_state.flatten(0, 1).double()
        return states

    def outside(given: torch.Tensor) -> float:
        return 1 - ((given @ retained).square().sum() / given.square().sum()).item()

    kept = states(*(concept for concept in world.concepts if concept != forgotten))
    retained = basis(kept)
    assert retained.shape == (128, 22)
    assert outside(kept) == pytest.approx(0.009, abs=0.0005)
    assert outside(states(forgotten)) == pytest.approx(left, abs=0.005)
