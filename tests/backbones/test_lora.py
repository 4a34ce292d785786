import copy
import math

import pytest
import torch

from bench.backbones import pipeline
from bench.backbones.lora import TARGETS, adapted, merged
from bench.backbones.pipeline import Backbone
from bench.worlds.pocket import weights


def predict(model: Backbone, unet: torch.nn.Module | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, *model.latent_shape, generator=generator)
    embeds = model.embed(["a photo of a poodle", ""])
    return (unet or model.unet)(latents, torch.tensor([100, 700]), encoder_hidden_states=embeds).sample


def learn(model: Backbone, parameters: dict[str, torch.nn.Parameter], steps: int = 3) -> None:
    """A few steps towards predictions of zero."""
    optimizer = torch.optim.Adam(parameters.values(), lr=1e-2)
    for _ in range(steps):
        predict(model).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def anatomy(unet: torch.nn.Module) -> tuple[object, ...]:
    """All that adapters must leave as they found it; modules, parameters and processors by identity."""
    return (
        [(name, id(module), type(module), module.training) for name, module in unet.named_modules()],
        [(name, id(p), p.requires_grad) for name, p in unet.named_parameters()],
        [(name, id(processor)) for name, processor in unet.attn_processors.items()],
        sorted(unet.__dict__),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_network_is_restored_after_the_block(model: Backbone, fails: bool) -> None:
    model.unet.conv_in.requires_grad_(True)  # a flag of its own, to be found again
    before, state = anatomy(model.unet), copy.deepcopy(model.unet.state_dict())
    output, numbers = predict(model), torch.get_rng_state()

    def work() -> None:
        with adapted(model.unet, 2, seed=1) as parameters:
            assert anatomy(model.unet) != before
            learn(model, parameters, steps=1)
            if fails:
                raise RuntimeError("on purpose")

    if fails:
        with pytest.raises(RuntimeError, match="on purpose"):
            work()
    else:
        work()
    assert anatomy(model.unet) == before
    assert list(model.unet.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.unet.state_dict().items())
    assert torch.equal(predict(model), output)
    assert torch.equal(torch.get_rng_state(), numbers)


def test_new_adapters_do_not_change_predictions(model: Backbone) -> None:
    with torch.no_grad():
        plain = predict(model)
        with adapted(model.unet, 4, seed=0):
            assert torch.equal(predict(model), plain)
            assert all(torch.equal(w, model.unet.get_parameter(_held(n))) for n, w in merged(model.unet).items())


def _held(name: str) -> str:
    return name.removesuffix("weight") + "base_layer.weight"


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_merged_weights_predict_like_the_trained_adapters(model: Backbone, alpha: float | None) -> None:
    plain, before = copy.deepcopy(model.unet), predict(model)
    with adapted(model.unet, 2, alpha, seed=0) as parameters:
        learn(model, parameters)
        after, tensors = predict(model), merged(model.unet)
    assert not torch.allclose(after, before, atol=1e-2)
    expected = [n for n, m in plain.named_modules() if n.endswith(TARGETS) and isinstance(m, torch.nn.Linear)]
    assert list(tensors) == [f"{name}.weight" for name in expected]
    assert all(t.dtype == torch.float32 and t.is_contiguous() and not t.requires_grad for t in tensors.values())
    plain.load_state_dict(tensors, strict=False)
    assert torch.allclose(predict(model, plain), after, atol=1e-5)
    with model.weights(tensors):
        assert torch.allclose(predict(model), after, atol=1e-5)


def test_the_factor_is_alpha_over_rank(model: Backbone) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    moved = {}
    for alpha in (None, 2.0, 8.0):
        with adapted(model.unet, 4, alpha, seed=0) as parameters:
            torch.nn.init.ones_(parameters[name.replace("weight", "lora_B.default.weight")])
            moved[alpha] = merged(model.unet)[name] - model.unet.get_parameter(_held(name))
    assert torch.allclose(moved[None], moved[2.0] * 2, atol=1e-6)
    assert torch.allclose(moved[8.0], moved[2.0] * 4, atol=1e-6)


def test_only_adapters_have_gradients(model: Backbone) -> None:
    layers = sum(name.endswith(TARGETS) for name, m in model.unet.named_modules() if isinstance(m, torch.nn.Linear))
    model.unet.requires_grad_(True)
    with adapted(model.unet, 2, seed=0) as parameters:
        assert len(parameters) == 2 * layers
        assert all(".lora_A." in name or ".lora_B." in name for name in parameters)
        predict(model).square().mean().backward()
        graded = {name for name, p in model.unet.named_parameters() if p.grad is not None}
        assert graded == set(parameters)
        assert any(p.grad.abs().sum() > 0 for p in parameters.values())
        assert all(p.dtype == torch.float32 for p in parameters.values())


def test_initial_adapters_depend_only_on_the_seed(model: Backbone) -> None:
    def start(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(seed + 1)  # what was drawn before makes no difference
        with adapted(model.unet, 3, seed=seed) as parameters:
            return {name: p.detach().clone() for name, p in parameters.items()}

    first, again, other = start(0), start(0), start(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    downs = [name for name in first if ".lora_A." in name]
    assert all(not torch.equal(first[name], other[name]) for name in downs)
    assert all(not first[name].any() for name in first if name not in downs)
    for name in downs:  # Kaiming-uniform with a = sqrt(5) stays within 1 / sqrt(inputs)
        assert first[name].abs().max() <= 1 / math.sqrt(first[name].shape[1])


def test_targets_select_layers(model: Backbone) -> None:
    with adapted(model.unet, 2, targets=("attn2.to_k", "attn2.to_v"), seed=0):
        names = set(merged(model.unet))
    assert names == {n for n in model.unet.state_dict() if n.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}


def test_invalid_adapters_raise(model: Backbone) -> None:
    before = anatomy(model.unet)
    with pytest.raises(ValueError, match=r"'to_x'; names that fit: .*to_k, to_out\.0, to_q, to_v"):
        adapted(model.unet, 2, targets=("to_q", "to_x"), seed=0).__enter__()
    with pytest.raises(ValueError, match="names that fit"):
        adapted(model.unet, 2, targets=("o_q",), seed=0).__enter__()  # half a word
    with pytest.raises(ValueError, match="at least one target"):
        adapted(model.unet, 2, targets=(), seed=0).__enter__()
    with pytest.raises(ValueError, match="found 0"):
        adapted(model.unet, 0, seed=0).__enter__()
    with pytest.raises(ValueError, match="no adapters"):
        merged(model.unet)
    assert anatomy(model.unet) == before
    with adapted(model.unet, 2, seed=0), pytest.raises(ValueError, match="already"):
        adapted(model.unet, 2, seed=0).__enter__()
    assert anatomy(model.unet) == before


def test_the_pocket_pipeline_takes_adapters(device: torch.device) -> None:
    pocket = pipeline.load(weights.pipeline_folder(), device, precision="fp32")
    before, plain = anatomy(pocket.unet), predict(pocket)
    with adapted(pocket.unet, 2, seed=0) as parameters:
        learn(pocket, parameters, steps=1)
        after, tensors = predict(pocket), merged(pocket.unet)
    assert anatomy(pocket.unet) == before
    assert not torch.allclose(after, plain, atol=1e-3)
    with pocket.weights(tensors):
        assert torch.allclose(predict(pocket), after, atol=1e-5)
