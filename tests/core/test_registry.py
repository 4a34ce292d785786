from contextlib import suppress
from importlib.metadata import EntryPoint

import pytest

from bench.core import registry
from bench.core.registry import BrokenEntry, DuplicateName, Registry, UnknownName


def test_a_lazy_entry_is_imported_on_first_use() -> None:
    names: Registry[object] = Registry("thing", {"path": "pathlib:Path", "broken": "no_such_module:x"})
    import pathlib

    assert names.names() == ("path", "broken")
    assert names.get("path") is pathlib.Path
    with pytest.raises(ModuleNotFoundError):
        names.get("broken")


def test_an_unknown_name_suggests_the_nearest() -> None:
    names: Registry[int] = Registry("method", {})
    names.add("mimmu", 1)
    names.add("salun", 2)
    with pytest.raises(UnknownName, match=r"unknown method 'mimum': did you mean 'mimmu'\? known: mimmu, salun"):
        names.get("mimum")


def test_unlisted_entry_is_found_only_by_name() -> None:
    names: Registry[object] = Registry(
        "thing", {"path": "pathlib:Path", "pure": "pathlib:PurePath"}, unlisted=("pure",)
    )
    assert names.names() == ("path",)
    assert "pure" in names
    assert names.get("pure").__name__ == "PurePath"  # type: ignore[attr-defined]
    with pytest.raises(UnknownName, match=r"did you mean 'pure'"):
        names.get("puer")


def test_name_can_not_be_registered_for_two_values() -> None:
    names: Registry[object] = Registry("method")
    names.register("mine")(int)
    names.add("mine", int)  # the same again is no conflict: a plug-in may be imported twice
    with pytest.raises(DuplicateName, match="'mine' is registered twice"):
        names.register("mine")(float)


def test_entry_points_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("theirs", "pathlib:PurePath", group)]

    monkeypatch.setattr(registry, "entry_points", fake)
    names: Registry[object] = Registry("method", {"ours": "pathlib:Path"}, group="lethe.methods")
    assert "theirs" in names
    assert names.get("theirs").__name__ == "PurePath"  # type: ignore[attr-defined]
    assert asked == ["lethe.methods"]


class Package:
    """A distribution as `importlib.metadata` has it."""

    name, version = "their-methods", "1.2"


def announced(monkeypatch: pytest.MonkeyPatch, **values: str) -> Registry[object]:
    """A registry with one own entry, "ours", and the entry points `values` of another package."""
    points = [EntryPoint(name.replace("_again", ""), value, "lethe.methods") for name, value in values.items()]
    for point in points:
        vars(point)["dist"] = Package()
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    return Registry("method", {"ours": "pathlib:Path"}, group="lethe.methods")


def test_an_entry_point_whose_name_is_taken_is_left_out_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = announced(
        monkeypatch, ours="pathlib:PurePath", a="pathlib:PurePath", a_again="pathlib:Path", b="json:dumps"
    )
    assert names.names() == ("ours", "a", "b")
    assert names.get("ours").__name__ == "Path"  # type: ignore[attr-defined]
    assert names.get("a").__name__ == "PurePath"  # type: ignore[attr-defined]
    package = "the package their-methods 1.2 (entry point"
    assert caplog.messages == [
        f"method 'ours' of {package} ours = pathlib:PurePath) is left out: "
        "the name is taken by 'pathlib:Path' of Lethe itself",
        f"method 'a' of {package} a = pathlib:Path) is left out: the name is taken by {package} a = pathlib:PurePath)",
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:x", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("pathlib:Nothing", "AttributeError: module 'pathlib' has no attribute 'Nothing'"),
        ("json:loads", "json.loads is refused"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_left_out_and_the_others_work(
    value: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def check(name: str, found: object) -> None:
        if found.__name__ == "loads":  # type: ignore[attr-defined]
            raise ValueError("json.loads is refused")

    names = announced(monkeypatch, first="json:dumps", bad=value, last="pathlib:PurePath")
    assert names.names() == ("ours", "first", "bad", "last")  # listing imports nothing
    assert names.usable(check) == names.names() == ("ours", "first", "last")
    assert caplog.messages == [
        f"method 'bad' of the package their-methods 1.2 (entry point bad = {value}) is left out: {reason}"
    ]
    assert names.get("last").__name__ == "PurePath"  # type: ignore[attr-defined]
    assert "bad" in names
    with pytest.raises(BrokenEntry, match=r"their-methods 1\.2 .*can't be used: "):  # asked for by name
        names.get("bad")


def test_error_of_a_broken_entry_point_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    names = announced(monkeypatch, bad="no_such_module:x")
    with pytest.raises(BrokenEntry, match=r"of the package their-methods 1\.2 .* ModuleNotFoundError: No module named"):
        names.get("bad")


def test_changes_within_a_block_are_undone() -> None:
    names: Registry[object] = Registry("thing", {"path": "pathlib:Path"})
    with suppress(RuntimeError), names.temporarily():
        names.add("mine", 1)
        assert names.get("mine") == 1
        raise RuntimeError
    assert names.names() == ("path",)
    names.add("mine", 2)  # no duplicate
    with names.temporarily():
        pass
    assert names.get("mine") == 2
