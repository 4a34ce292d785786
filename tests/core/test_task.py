import pytest

from bench.core.task import Finetune, Task


def test_a_request_is_what_the_one_before_did_not_forget() -> None:
    first = Task("1", ("a",), ("b", "c"), ())
    second = Task("2", ("a", "b"), ("c",), (), after=first)
    probe = Task("3", ("a", "b"), ("c",), (), after=second, finetune=Finetune("retained"))
    assert (first.request, second.request, probe.request) == (("a",), ("b",), ())
    assert first.chain == (first,)
    assert second.chain == probe.chain == (first, second)


def test_a_task_does_something_and_forgets_nothing_that_was_forgotten() -> None:
    first = Task("1", ("a",), ("b",), ())
    with pytest.raises(ValueError, match="must count what '1' forgot as forgotten"):
        Task("2", ("b",), ("a",), (), after=first)
    with pytest.raises(ValueError, match="must either forget something new or train its model further"):
        Task("2", ("a",), ("b",), (), after=first)
    with pytest.raises(ValueError, match="must either forget something new or train its model further"):
        Task("2", ("a", "b"), (), (), after=first, finetune=Finetune("retained"))


def test_pictures_are_counted_where_the_concept_is_shown() -> None:
    assert Finetune("concept", "full", 5).name == "5 pictures"
    assert not Finetune("concept", "full", 5).harmless
    assert Finetune("unrelated", "lora").name == "unrelated, lora"
    for data, pictures in (("concept", 0), ("retained", 5)):
        with pytest.raises(ValueError, match="pictures are those of the forgotten concept"):
            Finetune(data, "full", pictures)  # type: ignore[arg-type]
