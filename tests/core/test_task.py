import pytest

from bench.core.task import Finetune, Task


def test_request_excludes_concepts_forgotten_before() -> None:
    first = Task("1", ("a",), ("b", "c"), ())
    second = Task("2", ("a", "b"), ("c",), (), after=first)
    probe = Task("3", ("a", "b"), ("c",), (), after=second, finetune=Finetune("retained"))
    assert (first.request, second.request, probe.request) == (("a",), ("b",), ())
    assert first.chain == (first,)
    assert second.chain == probe.chain == (first, second)


def test_task_forgets_new_concepts_or_trains_further() -> None:
    first = Task("1", ("a",), ("b",), ())
    with pytest.raises(ValueError, match="task '2' starts from '1', so its forget must contain a as well"):
        Task("2", ("b",), ("a",), (), after=first)
    with pytest.raises(ValueError, match="must either forget new concepts or train its model further"):
        Task("2", ("a",), ("b",), (), after=first)
    with pytest.raises(ValueError, match="must either forget new concepts or train its model further"):
        Task("2", ("a", "b"), (), (), after=first, finetune=Finetune("retained"))


def test_pictures_are_required_only_for_data_concept() -> None:
    assert Finetune("concept", "full", 5).name == "5 pictures"
    assert not Finetune("concept", "full", 5).harmless
    assert Finetune("unrelated", "lora").name == "unrelated, lora"
    for data, pictures in (("concept", 0), ("retained", 5)):
        with pytest.raises(ValueError, match=f"pictures must be .* for data '{data}', not {pictures}"):
            Finetune(data, "full", pictures)  # type: ignore[arg-type]
