"""Declared versions tell the truth about the code: a changed number takes a new version, a mere refactor takes none."""

import re

import pytest
import stages_lock
from stages_lock import Code, complaints, computed

FORMULAS = [  # module, a formula in it, another, what is computed by it
    ("bench.cells.scores", '"value": score.value', '"value": 2 * score.value', "stage metric"),
    ("bench.cells.images", "PREVIEW_SIDE / max(", "2 * PREVIEW_SIDE / max(", "stage images"),
    ("bench.cells.weights", "{**before.facts, **facts}", "{**facts, **before.facts}", "stage training"),
    ("bench.suites.neighbours", "max(((c, world.closeness", "min(((c, world.closeness", "stage evidence"),
    ("bench.worlds.base", "images.float() / 255", "images.float() / 256", "stage judgements"),
    ("bench.backbones.sampler", "/ 2 + 0.5", "/ 2 + 0.4", "stage images"),
    ("bench.training.loop", "loss / min(", "loss * min(", "stage training"),
    # constants of the measurement that no setting changes
    ("bench.cells.images", "KEPT_SIDE = 128", "KEPT_SIDE = 64", "stage images"),
    ("metrics.kid", "SUBSETS = 100", "SUBSETS = 50", "metric kid"),
    ("metrics.plausible", "NEIGHBOURHOOD = 10", "NEIGHBOURHOOD = 3", "metric plausible"),
    ("metrics.base", "sum(kept) / len(kept)", "sum(kept)", "metric nra"),
]


@pytest.fixture(scope="module")
def locked() -> stages_lock.Found:
    return stages_lock.read()


def changed(module: str, old: str, new: str) -> Code:
    """The project with `old` replaced in one module. The text must be there, or the test would compare nothing."""
    text = stages_lock.paths()[module].read_text()
    assert old in text, f"{module} no longer contains {old!r}: choose another formula"
    return Code({module: text.replace(old, new)})


def test_lock_agrees_with_code(locked: stages_lock.Found) -> None:
    found = complaints(locked, computed())
    assert not found, "\n".join(found)


def metric_files() -> list[str]:
    return sorted({roots[0] for what, (_, roots, _) in stages_lock.versions().items() if what.startswith("metric ")})


@pytest.mark.parametrize("module", metric_files())
def test_changed_metric_is_reported_by_name(module: str, locked: stages_lock.Found) -> None:
    text = stages_lock.paths()[module].read_text()
    found = complaints(locked, computed(Code({module: re.sub(r"return (?=[a-zA-Z])", "return 0.5 * ", text)})))
    assert any(line.startswith("metric ") and f"{module} changed" in line for line in found), found
    assert not any(line.startswith(("stage", "method")) for line in found)


@pytest.mark.parametrize(("module", "old", "new", "what"), FORMULAS, ids=[f"{row[0]} {row[3]}" for row in FORMULAS])
def test_changed_formula_is_reported_by_name(
    module: str, old: str, new: str, what: str, locked: stages_lock.Found
) -> None:
    found = complaints(locked, computed(changed(module, old, new)))
    (line,) = (line for line in found if line.startswith(f"{what}:"))
    assert f"{module} changed" in line
    assert "raise its version" in line


def test_comment_docstring_and_layout_change_nothing(locked: stages_lock.Found) -> None:
    texts = {module: file.read_text() for module, file in stages_lock.paths().items()}
    others = {
        module: "# a comment\n" + text.replace('"""', '"""Another text. ', 1) + "\n\n# the end\n"
        for module, text in texts.items()
    }
    before, after = Code(), Code(others)
    assert [module for module in texts if before.digest(module) != after.digest(module)] == []


def test_raised_version_is_to_be_locked(locked: stages_lock.Found) -> None:
    now = computed()
    now["stages"]["stage images"]["version"] += 1
    (line,) = complaints(locked, now)
    assert line == "stage images: version 2, locked 1; lock it: python tests/stages_lock.py"
