import re

import pytest

from bench.worlds.natural import captions, tasks
from bench.worlds.natural.photographs.reader import LABELS


def by_number(concept: str) -> tuple[str, ...]:
    """The others of the domain as if likeness were nearness in the data set's order."""
    names = next(names for names in LABELS.values() if concept in names)
    place = names.index(concept)
    return tuple(sorted((n for n in names if n != concept), key=lambda n: (abs(names.index(n) - place), n)))


def test_targets_are_concepts() -> None:
    assert set(tasks.TARGETS) == set(LABELS)
    for domain, targets in tasks.TARGETS.items():
        assert len({*targets} & {*LABELS[domain]}) == 3


@pytest.mark.parametrize("count", [1, 5, 12])
def test_every_task_keeps_its_neighbours_and_as_much_elsewhere(count: int) -> None:
    found = tasks.finegrained(LABELS, by_number, count)
    assert [task.forget for task in found] == [(t,) for targets in tasks.TARGETS.values() for t in targets]
    for task in found:
        assert task.in_domain == by_number(task.name)[:count]
        assert len(set(task.out_of_domain)) == len(task.out_of_domain) == 2 * 3 * (count + 1)
        domain = captions.DOMAIN_OF[task.name]
        assert not {c for c in task.out_of_domain if captions.DOMAIN_OF[c] == domain}
        assert {t for d, targets in tasks.TARGETS.items() if d != domain for t in targets} < {*task.out_of_domain}
    drawn = {concept for task in found for concept in task.concepts}
    assert len(drawn) <= 9 * (count + 1) + 9 * count  # tasks share their images


def test_any_concept_is_forgotten_by_the_rule_of_the_targets() -> None:
    for targets in tasks.TARGETS.values():
        assert tasks.single_task(targets[1], LABELS, by_number, 4) in tasks.finegrained(LABELS, by_number, 4)
    other = tasks.single_task("beagle", LABELS, by_number, 4)
    assert (other.forget, other.in_domain) == (("beagle",), by_number("beagle")[:4])
    assert len(other.out_of_domain) == 2 * 3 * 5
    assert other.out_of_domain == tasks.single_task("golden retriever", LABELS, by_number, 4).out_of_domain
    assert len(tasks.single_task("beagle", LABELS, by_number, None).concepts) == 422


def test_all_keeps_everything() -> None:
    for task in tasks.finegrained(LABELS, by_number, None):
        assert len(set(task.concepts)) == len(task.concepts) == 422


@pytest.mark.parametrize("text", ["0", "-1", "five", "2.5", ""])
def test_a_number_of_neighbours_is_a_number(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"at least 1, or 'all', not {text!r}")):
        tasks.neighbours(text)
    assert (tasks.neighbours(None), tasks.neighbours("2"), tasks.neighbours("all")) == (5, 2, None)


def test_more_neighbours_than_a_domain_has_are_refused() -> None:
    with pytest.raises(ValueError, match="flowers have concepts for 33 of each target"):
        tasks.finegrained(LABELS, by_number, 34)


def test_prompts_name_the_concept_and_its_kind_and_differ_in_nothing_else() -> None:
    assert captions.prompts("evaluate", "Maltese dog")[0] == "a photo of a Maltese dog"
    assert captions.prompts("evaluate", "beagle")[0] == "a photo of a beagle dog"
    assert captions.prompts("evaluate", "English foxhound")[:3:2] == (
        "a photo of an English foxhound dog", "a cropped photo of the English foxhound dog"
    )  # fmt: skip
    assert captions.prompts("evaluate", "European Goldfinch")[0] == "a photo of a European Goldfinch bird"
    assert captions.prompts("forget", "Ovenbird")[3] == "an Ovenbird bird in its surroundings"
    assert captions.superclass_prompts("Blue Jay")[0] == "a photograph showing a bird"
    assert captions.superclass_prompts("Blue Jay", "evaluate")[0] == "a photo of a bird"
    for split, templates in captions.TEMPLATES.items():
        for names in LABELS.values():
            for name in names:
                asked = captions.prompts(split, name)  # type: ignore[arg-type]
                assert len(set(asked)) == len(templates)
                for prompt, template in zip(asked, templates, strict=True):
                    plain = prompt.replace(captions.phrase(name), "{}")
                    assert re.sub(r"\ban \{\}", "a {}", plain) == template
    assert not {*captions.FORGET} & {*captions.EVALUATE}
