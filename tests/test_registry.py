from importlib.metadata import EntryPoint

import pytest

from bench import registry
from bench.registry import DuplicateName, Registry, UnknownName


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


def test_an_unlisted_entry_must_be_asked_for() -> None:
    names: Registry[object] = Registry(
        "thing", {"path": "pathlib:Path", "pure": "pathlib:PurePath"}, unlisted=("pure",)
    )
    assert names.names() == ("path",)
    assert "pure" in names
    assert names.get("pure").__name__ == "PurePath"  # type: ignore[attr-defined]
    with pytest.raises(UnknownName, match=r"did you mean 'pure'"):
        names.get("puer")


def test_a_name_stands_for_one_thing() -> None:
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


def test_an_entry_point_may_not_shadow_a_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("ours", "pathlib:PurePath", group)])
    names: Registry[object] = Registry("method", {"ours": "pathlib:Path"}, group="lethe.methods")
    with pytest.raises(DuplicateName):
        names.names()
