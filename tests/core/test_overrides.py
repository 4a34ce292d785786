import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import variant

from bench.core.config import Protocol, RunConfig
from bench.core.overrides import apply, convert, grid, is_settable, parse, parse_sweep, require_finite, write_sweep
from bench.plan.plan import resolve
from bench.training.loop import TrainConfig
from bench.worlds import WORLDS, World
from methods.mimmu import MimMu


@dataclass(frozen=True)
class Settings:
    lr: float = 1e-5
    epochs: int = 30
    parameters: str = "attn2"
    on: bool = False
    timesteps: tuple[int, int] = (50, 950)
    clip: float | None = None


def test_values_take_the_types_of_their_fields() -> None:
    texts = {"lr": "1e-3", "epochs": "2", "parameters": "unet", "on": "true", "timesteps": "(0, 999)", "clip": "1"}
    changed = apply(Settings(), texts, "mimmu")
    assert changed == Settings(1e-3, 2, "unet", True, (0, 999), 1.0)
    assert isinstance(changed.clip, float)
    assert apply(changed, {"clip": "none"}, "mimmu").clip is None


@pytest.mark.parametrize(
    "texts",
    [{"lr": "fast"}, {"epochs": "2.5"}, {"epochs": "True"}, {"on": "1"}, {"timesteps": "(1, 2, 3)"}, {"clip": "x"}],
)
def test_a_value_of_another_type_is_refused(texts: dict[str, str]) -> None:
    (name,) = texts
    with pytest.raises(ValueError, match=rf"mimmu\.{name} takes "):
        apply(Settings(), texts, "mimmu")


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"mimmu has no setting 'epoch': did you mean 'epochs'\?"):
        apply(Settings(), {"epoch": "3"}, "mimmu")


def test_items_are_split_by_section() -> None:
    parsed = parse(["mimmu.lr=1e-5", "protocol.scheduler=a=b", "mimmu.epochs=3"], ("mimmu", "protocol"))
    assert parsed == {"mimmu": {"lr": "1e-5", "epochs": "3"}, "protocol": {"scheduler": "a=b"}}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("lr=1", "takes SECTION.FIELD=VALUE"),
        ("mimmu.lr", "takes SECTION.FIELD=VALUE"),
    ],
)
def test_a_malformed_item_is_refused(item: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse([item])


def test_sweep_error_shows_its_form_and_repeated_values_raise() -> None:
    with pytest.raises(ValueError, match=r"--sweep takes METHOD\.FIELD=V1,V2, .* not 'mimmu\.t_max'"):
        parse_sweep(["mimmu.t_max"])
    with pytest.raises(ValueError, match=r"--sweep mimmu\.t_max names '300' twice"):
        parse_sweep(["mimmu.t_max=300,600,300"])


def test_a_field_set_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="given twice"):
        parse(["mimmu.lr=1", "mimmu.lr=2"])


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_printed_values_are_parsed_again(lr: float, epochs: int) -> None:
    changed = apply(Settings(), {"lr": repr(lr), "epochs": repr(epochs)}, "mimmu")
    assert (changed.lr, changed.epochs) == (lr, epochs)


@dataclass(frozen=True)
class Length:
    epochs: int | None = None
    steps: int | None = 100
    lr: float = 1.0
    ALTERNATIVES: ClassVar = (("epochs", "steps"),)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("either epochs or steps")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"epochs": "5"}, Length(5, None)),
        ({"steps": "7"}, Length(None, 7)),
        ({"lr": "2"}, Length(None, 100, 2.0)),
        ({"epochs": "5", "steps": "none"}, Length(5, None)),
        ({"epochs": "none"}, Length(None, 100)),
    ],
)
def test_setting_one_alternative_clears_the_other(texts: dict[str, str], expected: Length) -> None:
    assert apply(Length(), texts, "esd-x") == expected


@pytest.mark.parametrize("texts", [{"epochs": "5", "steps": "7"}, {"steps": "none"}])
def test_error_of_the_class_names_the_section(texts: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^esd-x: either epochs or steps$"):
        apply(Length(), texts, "esd-x")


def test_a_sweep_lists_values_and_keeps_tuples_whole() -> None:
    found = parse_sweep(["a.x=1,2", "a.y=(1, 2),(3,4)"])
    assert found == {"a": {"x": ("1", "2"), "y": ("(1, 2)", "(3,4)")}}
    every = grid(found["a"])
    assert len(every) == 4
    assert every[1] == {"x": "1", "y": "(3,4)"}
    assert parse_sweep(write_sweep(found)) == found


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1" + "0" * 400])
@pytest.mark.parametrize("kind", [float, float | None, tuple[float, ...]])
def test_infinite_and_nan_numbers_raise(text: str, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"^mimmu\.lr must be a finite number, not -?inf$"):
        convert(f"({text},)" if kind == tuple[float, ...] else text, kind, "mimmu.lr")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_config_of_infinite_or_missing_numbers_cannot_be_built(value: float) -> None:
    @dataclass(frozen=True)
    class Own(TrainConfig):
        pairs: tuple[tuple[float, float], ...] = ()

    for make in (
        lambda: TrainConfig(lr=value),
        lambda: TrainConfig(ema_decay=value),
        lambda: MimMu.Config(path_guidance=value),  # type: ignore[call-arg]
        lambda: Own(pairs=((0.5, 1.0), (0.5, value))),
        lambda: Protocol(guidance_scale=value),
        lambda: Protocol(finetune_lr=value),
        lambda: replace(Protocol(), lora_lr=value),
    ):
        with pytest.raises(ValueError, match=r"^\w+ must be a finite number, not (-?inf|nan)$"):
            make()
    require_finite(Own(pairs=((0.5, 1.0),)))


@pytest.mark.parametrize(
    "changes",
    [
        {"overrides": {"mimmu": {"lr": "1e999"}}},
        {"overrides": {"protocol": {"guidance_scale": "1e999"}}},
        {"sweep": {"mimmu": {"lr": ("1e-4", "-1e999")}}},
        {"world": "hasty"},  # its presets
    ],
)
@pytest.mark.usefixtures("plugged")
def test_run_with_an_infinite_setting_raises_with_its_name(
    changes: dict[str, Any], world: World, tmp_path: Path
) -> None:
    presets = {"mimmu": {"lr": math.inf}}
    WORLDS.add("hasty", variant(world, name="hasty", presets=presets))
    given = {"methods": ("mimmu",), "suite": "smoke", "world": "tiny", "out": tmp_path}
    names = r"mimmu\.lr|protocol\.guidance_scale|world 'hasty': presets\['mimmu'\]\.lr"
    message = rf"^({names}) must be a finite number, not (-?inf|nan)$"
    with pytest.raises(ValueError, match=message):
        resolve(RunConfig(**{**given, **changes}))


@dataclass(frozen=True)
class Choices:
    form: Literal["soft", "hard"] = "soft"
    order: Literal[1, 2, None] = 1
    file: Path | None = None
    folders: tuple[Path, ...] = ()


def test_choices_and_paths_are_set_by_text() -> None:
    changed = apply(Choices(), {"form": "hard", "order": "2", "file": "a/b.txt"}, "mine")
    assert changed == Choices("hard", 2, Path("a/b.txt"))
    assert apply(changed, {"order": "none", "file": "none"}, "mine") == Choices("hard", None, None)
    assert apply(changed, {"folders": "('a', 'b')"}, "mine").folders == (Path("a"), Path("b"))
    assert apply(changed, {"file": Path("c"), "form": "soft"}, "mine") == Choices("soft", 2, Path("c"))
    with pytest.raises(ValueError, match=r"^mine\.form takes one of soft, hard, not 'sharp'$"):
        apply(Choices(), {"form": "sharp"}, "mine")
    with pytest.raises(ValueError, match=r"^mine\.order takes one of 1, 2, None, not '3'$"):
        apply(Choices(), {"order": "3"}, "mine")
    with pytest.raises(ValueError, match=r"^mine\.file takes Path, not ''$"):
        apply(Choices(), {"file": ""}, "mine")


@pytest.mark.parametrize("text", ["(" * 1000, "{[]: 1}", "9" * 5000, "1 +", "\0"])
def test_any_text_is_parsed_or_raises_with_the_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"^mimmu\.epochs takes int, not "):
        convert(text, int, "mimmu.epochs")


@pytest.mark.parametrize(
    "kind",
    [bool, int, float, str, Path, float | None, Literal["a", 1], tuple[int, int], tuple[Path | None, ...]],
)
def test_settable_annotations(kind: Any) -> None:
    assert is_settable(kind)


@pytest.mark.parametrize(
    "kind", [list[int], dict[str, int], int | str, Any, object, complex, bytes, tuple, tuple[list[int], ...], set[int]]
)
def test_other_annotations_are_not_settable(kind: Any) -> None:
    assert not is_settable(kind)
