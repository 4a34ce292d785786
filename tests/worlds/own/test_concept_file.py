"""The YAML file of `--concepts`: what it may say, and why it is refused."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from bench.worlds.own.concept_file import PROMPTS, read
from bench.worlds.own.entries import WrongConcepts
from bench.worlds.own.world import Own

FRUIT = {"domains": {"fruit": ["apple", "pear"], "tree": ["oak", "elm"]}}


def written(folder: Path, content: object) -> Path:
    """A file with `content`: a text as it is, anything else as YAML."""
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True))
    return file


def test_two_lists_are_enough(tmp_path: Path) -> None:
    found = read(written(tmp_path, {**FRUIT, "forget": "apple"}))
    assert found.domains == {"fruit": ("apple", "pear"), "tree": ("oak", "elm")}
    assert found.forget == ("apple",)
    assert found.prompts == {"fruit": PROMPTS, "tree": PROMPTS}
    assert found.kinds == {"fruit": "fruit", "tree": "tree"}
    assert (found.judge.kind, found.judge.name, found.backbone) == ("open_clip", "", None)


def test_prompts_have_name_with_its_article(tmp_path: Path) -> None:
    prompts = {"forget": ["A {concept} and the {concept}"], "evaluate": ["sea {concept}", "by {concept}"]}
    world = Own(read(written(tmp_path, {**FRUIT, "prompts": prompts})), "sd15")
    assert world.prompts("forget", "apple") == ("An apple and the apple",)
    assert world.prompts("evaluate", "pear") == ("sea pear", "by pear")
    assert world.superclass_prompts("apple", "forget") == ("A fruit and the fruit",)


def test_domain_may_have_prompts_of_its_own(tmp_path: Path) -> None:
    prompts = {"forget": ["see {concept}"], "tree": {"forget": ["climb {concept}"]}}
    world = Own(read(written(tmp_path, {**FRUIT, "prompts": prompts})), "sd15")
    assert world.prompts("forget", "apple") == ("see apple",)
    assert world.prompts("forget", "oak") == ("climb oak",)
    assert world.prompts("evaluate", "oak")[0] == "a photo showing the oak"
    prompts["tree"]["forget"].append("plant {concept}")  # type: ignore[union-attr]
    with pytest.raises(WrongConcepts, match="forget: all domains must have equally many; fruit has 1, tree has 2"):
        read(written(tmp_path, {**FRUIT, "prompts": prompts}))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.jpeg"):
        Image.new("RGB", (20, 30), "red").save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    found = read(written(tmp_path, {**FRUIT, "references": {"apple": "pictures"}}))
    assert found.references == {"apple": folder}
    assert Own(found, "sd15").protocol.reference_per_concept == 3


def domains(*concepts: object, **more: object) -> dict[str, object]:
    return {"domains": {"fruit": list(concepts)}, **more}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("domains: [", r"mine.yaml, line 1: not YAML: "),
        ("- apple", r"it must have lines of the form"),
        ("domains: {fruit: [apple], fruit: [pear]}", r"line 1: not YAML: 'fruit' is there twice"),
        ({}, r"domains: must name at least one domain"),
        ({"domains": ["apple"]}, r"domains: must be a mapping, name: value, not \['apple'\]"),
        ({**FRUIT, "forgets": "apple"}, r"forgets: unknown; did you mean 'forget'\?"),
        (domains("apple"), r"'apple' is the only concept; add at least one that must stay"),
        (domains("apple", True), r"domains: fruit: must have texts only, not True; YAML takes a word such as no"),
        (domains("apple", 1890), r"not 1890; YAML takes"),
        (domains("apple", "apple"), r"'apple' is there twice; each concept must be there once"),
        (domains("apple", "Apple "), r"the name 'Apple ' must be one line, without spaces at its ends"),
        (domains("apple", "Apple"), r"'apple' and 'Apple' look alike"),
        (domains("apple", "pear\nplum"), r"must be one line"),
        (domains("apple", "?!"), r"the name '\?!' has no letter and no digit"),
        (
            domains("apple", "Photo"),
            r"domains: 'Photo' is in the prompt 'a photo showing a \{concept\}', so every prompt",
        ),
        (domains("apple", "Fruit"), r"'fruit' is a domain and 'Fruit' is a concept"),
        ({**FRUIT, "forget": ["aple"]}, r"forget: 'aple' is no concept of the file; did you mean 'apple' or"),
        ({**FRUIT, "forget": ["apple", "apple"]}, r"forget: names 'apple' twice"),
        ({**FRUIT, "prompts": {"forget": ["a photo"]}}, r"prompts: forget: 'a photo' lacks \{concept\}"),
        ({**FRUIT, "prompts": {"forgot": ["{concept}"]}}, r"prompts: forgot: unknown; did you mean 'forget'"),
        (
            {**FRUIT, "prompts": {"forget": ["my {concept}"], "evaluate": ["my {concept}"]}},
            r"prompts: evaluate: 'my \{concept\}' is in `forget` too",
        ),
        (
            {**FRUIT, "kinds": {"fruit": "oak"}},
            r"kinds: fruit: 'oak' is the concept 'oak'; a kind must be a broader word",
        ),
        ({**FRUIT, "kinds": {"fruits": "plant"}}, r"kinds: fruits: unknown; did you mean 'fruit'\?"),
        ({**FRUIT, "references": {"plum": "."}}, r"references: 'plum' is no concept of the file"),
        ({**FRUIT, "references": {"apple": "nowhere"}}, r"references: apple: there is no folder .*nowhere"),
        ({**FRUIT, "judge": "clip"}, r"judge: clip: unknown; did you mean 'open_clip'\?"),
        ({**FRUIT, "judge": {"open_clip": "A/b", "python": "c.py"}}, r"judge: must name exactly one of .*, not 2"),
        ({**FRUIT, "judge": {"python": "c.py"}}, r"judge: python: there is no file .*c\.py"),
        ({**FRUIT, "judge": "python"}, r"judge: python: must name a python file"),
        ({**FRUIT, "judge": {"open_clip": "local-dir:none"}}, r"judge: open_clip: there is no folder .*none"),
        ({**FRUIT, "judge": {"open_clip": "A/b", "prompts": ["a"]}}, r"judge: prompts: 'a' lacks \{concept\}"),
        ({**FRUIT, "judge": {"transformers": "./none"}}, r"judge: transformers: there is no folder .*none"),
        ({**FRUIT, "judge": "timm"}, r"judge: timm: must name a checkpoint"),
        ({**FRUIT, "judge": {"timm": "a", "labels": {"aple": "b"}}}, r"labels: 'aple' is no concept of the file"),
        ({**FRUIT, "judge": {"open_clip": "", "labels": {"apple": "b"}}}, r"labels: are for transformers and timm"),
        ({**FRUIT, "captions": "none.txt"}, r"none.txt: can't be read"),
        ({**FRUIT, "captions": {"files": "a"}}, r"captions: files: unknown; did you mean 'file'"),
        (
            {**FRUIT, "captions": {"pictures": "."}},
            r"captions: file: must name a text file with a caption on each line",
        ),
        (
            "{domains: {fruit: [apple, pear]}, captions: mine.yaml}",
            r"has 1 captions; it must have at least 2",
        ),
        (
            {**FRUIT, "captions": {"file": "mine.yaml", "pictures": "none"}},
            r"captions: pictures: there is no folder .*none",
        ),
        ({**FRUIT, "backbone": 15}, r"backbone: must be a text, not 15"),
    ],
)
def test_wrong_file_is_refused_with_the_reason(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(WrongConcepts, match=message):
        read(written(tmp_path, content))


def test_missing_file_and_file_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongConcepts, match="can't be read"):
        read(tmp_path / "none.yaml")
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WrongConcepts, match="not a text file in UTF-8"):
        read(tmp_path / "mine.yaml")


def test_folder_of_one_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "few" / "a.png")
    found = read(written(tmp_path, {**FRUIT, "references": {"apple": "few"}}))
    with pytest.raises(WrongConcepts, match=r"references: apple: .*few has 1 pictures .* must have at least 2"):
        Own(found, "sd15")


def test_backbone_must_be_named(tmp_path: Path) -> None:
    found = read(written(tmp_path, FRUIT))
    with pytest.raises(WrongConcepts, match=r"no backbone is named; give --backbone, or a line `backbone: sd15`"):
        Own(found)
    assert Own(found, "sd15").backbone() == "sd15"
    assert Own(read(written(tmp_path, {**FRUIT, "backbone": "sd14"}))).backbone() == "sd14"
