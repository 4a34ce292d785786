"""Settings out of their range are refused by name, with the value that was found, before anything is computed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_type_hints

import pytest

from bench.commands import main
from bench.core.config import Protocol, RunConfig
from bench.core.flag_values import parse_seeds
from bench.core.overrides import apply
from bench.plan.plan import resolve
from methods import METHODS

NAMES = METHODS.names()
ANY = {"eta", "threshold"}  # settings for which every finite number has a meaning
WRONG = {float: ("nan", "-inf", "-1"), int: ("-1", "1.5"), bool: ("maybe",), str: ("nonsense",)}


def kinds(config: object) -> dict[str, type]:
    """Field -> its type without None."""
    hints: dict[str, Any] = get_type_hints(type(config))
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    return {n: next(kind for kind in WRONG if str(kind.__name__) in str(hints[n])) for n in names}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_of_every_method_refuses_values_out_of_range(name: str) -> None:
    config = METHODS.get(name).Config()
    tried = 0
    for field, kind in kinds(config).items():
        for text in WRONG[kind]:
            if field in ANY and math.isfinite(float(text)):
                continue
            values = {field: text} | ({"steps": "none"} if field == "epochs" else {})
            if field == "path_steps":  # the backbone's schedule bounds it: bench.plan.noise_limits
                continue
            with pytest.raises(ValueError, match=field) as refused:
                apply(config, values, name)
            assert text.rstrip("0.") in str(refused.value) or "known: " in str(refused.value)
            tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("field", "text", "right"),
    [
        ("images_per_concept", "1000000000000", "at most 1000000"),
        ("images_per_prompt", "1000001", "at most 1000000"),
        ("reference_per_concept", "9" * 30, "at most 1000000"),
        ("forget_images", "10000000", "at most 1000000"),
        ("finetune_steps", "0", "at least 1"),
        ("finetune_lr", "-1.0", "at least 0"),
        ("finetune_lr", "nan", "a finite number"),
        ("lora_lr", "-0.5", "at least 0"),
        ("noise_seeds", "(-1, 2)", "within 0.."),
        ("noise_seeds", "(1, 36893488147419103232)", "within 0.."),
        ("noise_seeds", "(4, 4)", "must be different"),
        ("probe_timesteps", "9999999", "at most 1000000"),
        ("guidance_scale", "inf", "a finite number"),
    ],
)
def test_protocol_refuses_values_out_of_range(field: str, text: str, right: str) -> None:
    with pytest.raises(ValueError, match=field) as refused:
        apply(Protocol(), {field: text}, "protocol")
    assert right in str(refused.value)
    assert text.strip("()").split(", ")[-1] in str(refused.value) or text == "(-1, 2)"


@pytest.mark.parametrize("text", ["1000000000000", "99999999999999999999,", "1,18446744073709551616"])
def test_seeds_that_no_memory_or_generator_holds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most"):
        parse_seeds(text)


def test_curve_has_a_largest_number_of_checkpoints() -> None:
    with pytest.raises(ValueError, match="--curve must be at most 1000, not 1000000"):
        RunConfig(curve=1_000_000)


@pytest.mark.parametrize("flag", ["overrides", "sweep"])
def test_settings_of_the_training_are_refused_for_methods_that_train_nothing(world: object, flag: str) -> None:
    def resolved(**fields: str) -> object:
        values: Any = {n: (text, f"0{text}") if flag == "sweep" else text for n, text in fields.items()}
        more: Any = {flag: {"safree": values}}
        return resolve(RunConfig(("safree",), "smoke", "tiny", **more))

    with pytest.raises(
        ValueError, match=r"safree\.epochs\.\.\.: safree trains nothing.* safree has strength, alpha, order"
    ):
        resolved(epochs="3", alpha="0.5")
    if flag == "overrides":
        assert resolved(alpha="0.5")


def test_settings_of_the_training_are_refused_for_a_closed_form_that_uses_only_the_teacher(world: object) -> None:
    def resolved(**values: str) -> object:
        return resolve(RunConfig(("uce",), "smoke", "tiny", overrides={"uce": values}))

    with pytest.raises(
        ValueError, match=r"uce\.lr\.\.\.: uce solves a formula and has no training.* uce has teacher, "
    ):
        resolved(lr="1e-3")
    assert resolved(teacher="previous", lamb="0.1")


def test_methods_that_train_nothing_are_not_tuned(world: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["tune", "--world", "tiny", "--methods", "sld", "uce"]) == 2
    assert "a method that trains nothing has no learning rate" in capsys.readouterr().out
