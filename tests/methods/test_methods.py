"""What each method uses and returns. test_contract.py tests what all methods have in common."""

from collections.abc import Callable

import pytest
import torch
from support.towards import Make
from support.workplace import midway, small

from bench.backbones.pipeline import Backbone
from bench.training.harness import Harness
from bench.training.loop import unlearn
from methods.base import PARAMETERS, MethodConfig


def test_mimmu_retain_counts_retained_images_as_compensation(harness: Callable[[int], Harness]) -> None:
    data_use = unlearn(harness(0), small("mimmu-retain")).data_use
    assert data_use.retain_images
    assert data_use.compensation == "retain images"


@pytest.mark.parametrize("name", ["esd-x", "esd-u", "sdd"])
def test_esd_and_sdd_use_no_image(name: str, harness: Callable[[int], Harness]) -> None:
    outcome = unlearn(harness(0), small(name))
    assert set(outcome.data_use.counts().values()) == {0}
    assert outcome.data_use.compensation == "none"


def test_sdd_returns_the_moving_average(harness: Callable[[int], Harness]) -> None:
    workplace = harness(0)
    delta = unlearn(workplace, small("sdd", ema_decay=0.5)).delta
    assert delta
    assert all(torch.equal(delta[name], workplace.average_weights[name]) for name in delta)


def test_esd_variants_train_disjoint_parameters(model: Backbone) -> None:
    x, u = ({n for n, _ in model.unet.named_parameters() if small(v).trains(n)} for v in ("esd-x", "esd-u"))
    assert x
    assert not x & u
    left = {n.partition(".")[0] for n, _ in model.unet.named_parameters() if n not in x | u}
    assert left == {"time_embedding", "conv_norm_out", "conv_out"}


def test_controls_change_what_they_declare(harness: Callable[[int], Harness], model: Backbone) -> None:
    assert unlearn(harness(0), small("pretrained")).delta == {}
    delta = unlearn(harness(0), small("wrecked")).delta
    z = torch.randn(2, *model.latent_shape)
    with model.weights(delta), torch.no_grad():
        assert not model.unet(z, 500, encoder_hidden_states=model.embed(["a photo", ""])).sample.any()


def test_parameter_groups_select_stable_diffusion_layers(model: Backbone) -> None:
    names = [name for name, _ in model.unet.named_parameters()]
    groups = {group: {n for n in names if chosen(n)} for group, chosen in PARAMETERS.items()}
    blocks = {n.partition(".attn2.")[0] for n in names if ".attn2." in n}
    assert len(groups["attn2-kv"]) == 2 * len(blocks) > 0
    assert groups["attn2-kv"] < groups["attn2"] < groups["unet"] == set(names)
    with pytest.raises(ValueError, match="unknown parameters"):
        MethodConfig(parameters="attn3")


NO_PATH = {"path_steps": 1}  # a path of one step stops before it, at pure noise


@pytest.mark.parametrize(
    ("name", "settings", "student", "teacher"),
    [
        ("esd-x", NO_PATH, 1, 2),
        ("esd-x", {**NO_PATH, "eta": 0.0}, 1, 1),
        ("esd-u", NO_PATH, 1, 2),
        ("sdd", NO_PATH, 2, 0),
        ("salun", {}, 3, 0),
        ("mimmu", {}, 1, 1),
        ("mimmu", {"target": "rest"}, 1, 1),
        ("mimmu", {"objective": "sds"}, 2, 1),
        ("mimmu-retain", {}, 2, 2),
    ],
)
def test_loss_makes_no_forward_twice(
    name: str, settings: dict[str, object], student: int, teacher: int, harness: Callable[[int], Harness]
) -> None:
    workplace, method = harness(0), small(name, **settings)
    batch = next(workplace.forget_batches(2))
    with midway(workplace, method):
        method.loss(workplace, batch)
    assert (workplace.meter.student_forwards, workplace.meter.teacher_forwards) == (student, teacher)


@pytest.mark.parametrize("name", ["esd-x", "esd-u", "sdd"])
def test_a_path_batch_of_more_than_1_is_declared_in_the_rows_warnings(name: str, make: Make) -> None:
    for path_batch, said in ((1, 0), (2, 1)):
        warnings: list[str] = []
        unlearn(make(warn=warnings.append), small(name, path_batch=path_batch, epochs=None, steps=1))
        assert [warning.startswith("path_batch=2 is not the published method") for warning in warnings] == [True] * said
    with pytest.raises(ValueError, match="path_batch must be at least 1, not 0"):
        small(name, path_batch=0)
