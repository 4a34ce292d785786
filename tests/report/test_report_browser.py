"""The page in a real browser. Where there is none, these tests are skipped and say so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import sequels
from support.exhibition import hold
from support.papers import publish

from bench.report import reported_figures
from bench.report.page.document import ADDED
from bench.worlds import World

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: no page is opened")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def report(exhibition: Path) -> Path:
    return exhibition


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, report: Path) -> Iterator:
    """The report in a window of 1280 x 900; what it asked for or complained of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(5000)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1  # itself alone


def methods(page) -> list[str]:
    return page.eval_on_selector_all("#board tbody.methods tr", "rows => rows.map(row => row.dataset.method)")


def column(page, index: int) -> list[float]:
    found = page.eval_on_selector_all(
        "#board tbody.methods tr", f"rows => rows.map(row => row.children[{index}].dataset.value)"
    )
    return [float(value) for value in found]


def test_column_heading_sorts_methods_by_mouse_and_key(page) -> None:
    heads = page.eval_on_selector_all("#board thead th", "heads => heads.map(head => head.textContent.trim())")
    index = next(i for i, head in enumerate(heads) if head.startswith("DRIFT"))
    head = page.locator("#board thead th").nth(index)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"  # the better ones first
    rising = column(page, index)
    assert rising == sorted(rising)
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, index) == sorted(rising, reverse=True)
    page.locator("#board thead th").first.locator("button").click()
    assert methods(page) == sorted(methods(page))
    assert page.locator("#board thead th[aria-sort]").count() == 1
    controls = page.eval_on_selector_all("#board tbody.controls tr", "rows => rows.map(row => row.dataset.method)")
    assert controls == ["pretrained", "wrecked"]


def test_button_shows_all_metrics(page) -> None:
    hidden = page.locator("#board th.more").first
    assert not hidden.is_visible()
    page.locator("#all").click()
    assert hidden.is_visible()


def test_charts_are_drawn_and_switches_change_them(page) -> None:
    for place in page.locator("[data-chart]").all():
        place.scroll_into_view_if_needed()
        place.locator("svg path, svg rect").first.wait_for(state="attached")
    chart = page.locator('[data-chart="tradeoff"]')
    names = chart.locator("svg text").all_text_contents()
    assert {"mimmu", "salun"} <= set(names)
    assert any("NRA" in name for name in names)
    page.locator('input[name="tradeoff-retention"][value="twin"]').check(force=True)
    chart.locator("svg text", has_text="TWIN").first.wait_for()
    before = chart.locator("svg path").count()
    page.locator('input[name="tradeoff-view"][value="way"]').check(force=True)
    page.wait_for_function(f"document.querySelectorAll('[data-chart=\"tradeoff\"] svg path').length > {before}")


def test_task_selection_changes_images(page) -> None:
    tasks = page.eval_on_selector_all("#task option", "options => options.map(option => option.value)")
    assert len(tasks) == 2
    for task in reversed(tasks):
        page.locator("#task").select_option(task)
        shown = page.locator("[data-task]:visible")
        assert shown.count() == 1
        assert shown.get_attribute("data-task") == task
        widths = shown.locator(".shot img").evaluate_all("images => Promise.all(images.map(async image => {"
            " await image.decode(); return image.naturalWidth; }))")  # fmt: skip
        assert len(widths) >= 12
        assert min(widths) > 0


def test_key_enlarges_image_and_arrows_move_on(page) -> None:
    shots = page.locator("[data-task]:visible .shot")
    shots.first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    name = dialog.locator("#large-method")
    assert name.text_content() == "pretrained"
    prompt = dialog.locator("#large-prompt").text_content()
    page.keyboard.press("ArrowRight")
    assert name.text_content() == "mimmu"
    assert dialog.locator("#large-prompt").text_content() == prompt
    page.keyboard.press("ArrowDown")
    assert name.text_content() == "mimmu"
    assert dialog.locator("#large-prompt").text_content() != prompt
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.className") == "shot"


def test_theme_follows_system_and_switch_is_remembered(browser, report: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(report.as_uri())

    def paper() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = paper()
    page.locator("#theme").click()
    assert paper() != dark
    page.reload()
    assert paper() != dark
    context.close()


def test_methods_can_be_picked(page) -> None:
    button = page.locator('[data-pick="salun"]').first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    opacity = "row => getComputedStyle(row).opacity"
    assert float(page.locator('#board tr[data-method="mimmu"]').evaluate(opacity)) < 1
    assert float(page.locator('#board tr[data-method="salun"]').evaluate(opacity)) == 1


def test_reported_figures_are_grey_rows_and_hollow_points(
    browser, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(report.parent, tmp_path / "out")
    monkeypatch.setattr(reported_figures, "FOLDER", publish(tmp_path / "published"))
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(hold(tmp_path / "out", command="collect").as_uri())
    block = page.locator(".reported table")
    assert block.locator("tbody tr").count() == 2
    assert block.bounding_box()["y"] > page.locator("#board").bounding_box()["y"]
    colour = "element => getComputedStyle(element).color"
    assert block.locator("tbody th").first.evaluate(colour) != page.locator("#board tbody th").first.evaluate(colour)
    page.locator("#board thead th").first.locator("button").click()  # sorting the board leaves the papers alone
    assert block.locator("tbody th").all_text_contents() == ["ESD", "<Old>†"]
    chart = page.locator('[data-chart="tradeoff"]')
    chart.scroll_into_view_if_needed()
    chart.locator("svg text", has_text="ESD").wait_for()
    hollow = chart.locator('svg path[aria-label*="reported by: A & B, Table 2"]')
    assert hollow.get_attribute("fill") in ("none", "transparent")
    assert "Hollow and grey" in page.locator('[data-note="tradeoff"]').text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not [url for url in asked if "example.org" in url]
    context.close()


@pytest.mark.parametrize(
    "kind", [k if k == "mixed" else pytest.param(k, marks=pytest.mark.slow) for k in sequels.KINDS]
)
def test_charts_of_other_suites_are_drawn_without_errors(browser, world: World, tmp_path: Path, kind: str) -> None:
    report = sequels.write(world, kind, tmp_path, ("ua", "nra", "ora") if kind == "mixed" else sequels.NAMES)
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(5000)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    names = page.eval_on_selector_all("[data-chart]", "all => all.map(place => place.dataset.chart)")
    names = [name for name in names if name.split("/")[0] in ADDED]
    assert names
    for name in names:
        page.locator(f'[data-chart="{name}"]').scroll_into_view_if_needed()
        page.locator(f'[data-chart="{name}"] svg path, [data-chart="{name}"] svg rect').first.wait_for(state="attached")
    for figure in {name.split("/")[0] for name in names} - {"matrix"}:  # which has no switch
        place = page.locator(f'[data-chart^="{figure}"] svg').first
        choices = page.locator(f'input[data-figure="{figure}"]').all()
        for choice in choices[-1:] if kind == "mixed" else choices:
            before = place.evaluate("svg => svg.outerHTML")
            choice.check(force=True)
            page.wait_for_function(
                "([figure, before]) => document.querySelector(`[data-chart^='${figure}'] svg`)?.outerHTML !== before",
                arg=[figure, before if choice != choices[0] else ""],
            )
    drawn = page.locator("[data-chart] svg").evaluate_all("all => all.map(svg => svg.outerHTML).join()")
    assert "NaN" not in drawn
    assert "undefined" not in drawn
    if kind in ("mixed", "chain"):
        marks = page.locator('[data-chart^="matrix"] svg text').all_text_contents()
        assert {f"{i + 1} {world.concepts[2 + 2 * i]}" for i in range(3)} <= set(marks)
        assert sum(mark.isdigit() for mark in marks) == page.locator("[data-chart^=matrix]").count() * (
            6 if kind == "mixed" else 15
        )
    if kind in ("mixed", "recovery"):
        dashed = page.locator('[data-chart="back"] svg path[stroke-dasharray="5,4"]')
        assert dashed.count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
    assert said == []


@pytest.mark.parametrize("width", [390, 768])
def test_only_tables_are_wider_than_small_screen(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    for place in page.locator("[data-chart]").all():
        place.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").bounding_box()["width"] > width * 0.7


def test_keyboard_reaches_every_control(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    unnamed = page.evaluate("[...document.querySelectorAll('button, select, [role=region]')].filter(e => "
        "!(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length || e.querySelector('img[alt]')))"
        ".length")  # fmt: skip
    assert unnamed == 0
    assert page.locator("img:not([alt])").count() == 0
