"""The command `new-concepts`."""

from pathlib import Path

import pytest

from bench.commands import main
from bench.worlds.own import concept_file
from bench.worlds.own.concept_file import Templates
from bench.worlds.own.suggestions import suggest, text
from bench.worlds.own.words import PAINTERS, WordList, lists_for

PLACES = {"rose": 0.0, "tulip": 0.1, "daisy": 0.3, "red rose": 0.02, "oak": 2.0, "elm": 2.1, "fir": 2.2, "ash": 2.5}
LISTS = (WordList("tree", ("oak", "elm", "fir", "ash")), WordList("flower", ("daisy", "tulip", "rose", "red rose")))


def closeness(a: str, b: str) -> float:
    return 1 - abs(PLACES[a] - PLACES[b])


def test_neighbours_are_the_closest_words_of_the_closest_list() -> None:
    found = suggest(["rose"], LISTS, closeness, keep=2, others=2)
    assert found.near.kind == "flower"
    assert [word for word, _ in found.neighbours] == ["tulip", "daisy"]  # "red rose" says "rose" more exactly
    assert found.other is LISTS[0]
    assert found.far == ("fir", "ash")
    assert suggest(["rose"], LISTS[1:], closeness, keep=1, others=2).far == ()


def test_draft_with_prompts_and_strange_names_is_a_file_of_concepts() -> None:
    prompts: Templates = {
        split: tuple(f"{i}: {{concept}} {split}" for i in range(n)) for split, n in (("forget", 5), ("evaluate", 4))
    }
    near = WordList("painter", ("on", "O'Keeffe"), prompts)
    found = suggest(
        ['the "best": #1'], [near, WordList("thing", ("1890", "tench"))], lambda a, b: -(a == "tench"), 2, 2
    )
    drafted = concept_file.parse(Path("mine.yaml"), text(found, "some/model", "mine.yaml"))
    assert {*drafted.domains} == {"painter", "thing"}
    assert drafted.forget == ('the "best": #1',)
    assert drafted.backbone == "some/model"
    assert {*drafted.concepts} == {'the "best": #1', "on", "O'Keeffe", "tench"}
    assert drafted.prompts["painter"] == prompts
    assert drafted.prompts["thing"] == concept_file.PROMPTS


def test_lists_of_words_have_no_word_twice() -> None:
    things, painters = lists_for("sd15")
    for each in (things, painters):
        assert len(each.words) == len({*each.words})
        assert all(word == word.strip() and word for word in each.words)
    assert len(things.words) > 900
    assert len(painters.words) == len(PAINTERS.read_text().splitlines())


def test_command_writes_file_with_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    words = ["new-concepts", str(file), "--backbone", "pocket", "--keep", "2"]
    assert main.main([*words, "--forget", "pembroke corgi"]) == 0
    drafted = concept_file.read(file)
    assert drafted.domains["dog"][:2] == ("pembroke corgi", "cardigan corgi")
    assert drafted.forget == ("pembroke corgi",)
    assert len(drafted.domains) == 2
    assert main.main([*words, "--forget", "tulip"]) == 2
    assert "is there already; give --replace" in " ".join(capsys.readouterr().out.split())
    assert main.main([*words, "--forget", "tulip", "--replace"]) == 0
    assert concept_file.read(file).forget == ("tulip",)
    for lacking, message in ((words[:2], "needs --forget"), ([*words[:2], "--forget", "a"], "needs --backbone")):
        assert main.main(lacking) == 2
        assert message in " ".join(capsys.readouterr().out.split())
