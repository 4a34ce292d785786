"""The page: one file that needs no network. It puts the parts of this package together."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import jinja2
import pandas as pd

from bench.board import aggregates, judge_accuracy, relearning, ripple, several, tables
from bench.board import sequences as board_sequences
from bench.board import sweeps as board_sweeps
from bench.cells.executor import Executor
from bench.core.results import CellResult
from bench.core.store import Store
from bench.core.text.printable import printable
from bench.plan.board_name import board_name
from bench.plan.plan import Plan
from bench.report import cell_warnings, reported_figures
from bench.report.charts import colours, figures, resurgence, sequences, sets, sweeps
from bench.report.page import board as table
from bench.report.page import pictures, protocol, reported, summary
from bench.report.terminal import ranked
from methods import REFERENCES

ADDED = {"many": "Several at once", "matrix": "What each left", "along": "Request after request",
         "back": "What comes back", "swept": "Setting by setting"}  # fmt: skip


def render(executor: Executor, results: Sequence[CellResult], tables: tables.Tables) -> str:
    """The HTML page of a board. Equal results give equal text. Raises the errors of its parts."""
    plan, board = executor.plan, tables.board
    looks = colours.looks(list(board["method"]), {r.method: r.base_method for r in results})
    beside = reported_figures.rows(plan.world.name, plan.run.suite, reported_figures.FOLDER)
    block = reported.block(beside)
    drawn = drawings(plan, tables, looks, reported.points(beside)) | added(results, tables.cells, looks)
    strips = pictures.gather(executor.artifacts, results)
    columns = table.columns(board, plan.metrics)
    context = {
        "title": f"{plan.run.suite} on {plan.world.name}",
        "quick": plan.run.quick,
        "stem": board_name(plan),
        "summary": summary.sentences(board, plan.metrics, len(plan.tasks), len(plan.run.seeds)),
        "looks": looks,
        "controls": REFERENCES,
        "methods": [name for name in looks if name not in REFERENCES],
        "columns": columns,
        "labels": {column.name: table.label(column) for column in columns},
        "units": {column.name: table.unit(column) for column in columns},
        "ends": {column.name: table.ends(board, column) for column in columns},
        "rows": table.rows(board, columns),
        "ranked": ranked(board) if "rank" in board and board["rank"].notna().any() else "",
        "reconstructed": (board["fidelity"] == "reconstruction").any(),
        "reported": block,
        "figures": drawn,
        "unlike": room.UNLIKE if (room := aggregates.room_of(list(map(str, board)))) else "",
        "added": {name: words for name, words in ADDED.items() if name in drawn},
        "strips": strips,
        "failures": protocol.failures(tables.cells),
        "warnings": cell_warnings.sentences(results),
        "facts": protocol.facts(executor.context.description, board, tables.concepts),
        "prompts": executor.context.description["prompts"],
        "tasks": [(task.name, task.band) for task in plan.tasks],
        "command": plan.run.shared_command,
        "seeds": plan.run.seeds,
        "data": {"specs": only_printable(specs(drawn)), "pictures": strips.sources},
        "vega": vega(executor.artifacts.store),
        "style": style(bool(block), not drawn.keys().isdisjoint(ADDED)),
        "script": part("page.js"),
    }
    return environment().get_template("template.html.j2").render(context)


def drawings(
    plan: Plan, tables: tables.Tables, looks: dict[str, colours.Look], beside: dict[str, list[dict[str, Any]]]
) -> dict[str, figures.Figure | figures.Panels]:
    """Every chart of the page, by name. `beside` are the figures of papers for the first chart."""
    dropped = ripple.drops(judge_accuracy.counted(tables.concepts))
    targets = tables.concepts[tables.concepts["role"] == "forget"].drop_duplicates(["task", "concept"])
    world = plan.world
    groups = {concept: domain for domain, members in world.domains.items() for concept in members}
    groups |= dict.fromkeys(world.styles, "styles")
    tasks = [task.name for task in plan.tasks]
    return {
        "tradeoff": figures.tradeoff(tables.board, tables.curve, looks, beside),
        "distance": figures.near_to_far(dropped, looks),
        "heat": figures.heat(dropped, targets, tasks, plan.concepts, groups, looks),
        "cost": figures.cost(tables.board, looks),
    }


def added(
    results: Sequence[CellResult], cells: pd.DataFrame, looks: dict[str, colours.Look]
) -> dict[str, figures.Figure | figures.Panels]:
    """The charts of `ADDED` that have data."""
    ways = {result.method: result.multi for result in results}
    given = {result.method for result in results if result.ok and not result.data}
    made = {
        "many": sets.figure(several.frame(cells), looks, ways),
        "matrix": sequences.matrix(board_sequences.matrix(results), looks),
        "along": sequences.along(board_sequences.along(cells), looks),
        "back": resurgence.figure(relearning.means(relearning.frame(results), given), looks),
        "swept": sweeps.figure(board_sweeps.frame(cells)),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def style(reports: bool, adds: bool) -> str:
    """The style sheet, with the parts for reported figures and for the charts of `ADDED` if the page has them."""
    parts = {"style.css": True, "reported.css": reports, "added.css": adds}
    return "".join(part(name) for name, there in parts.items() if there)


def specs(drawn: dict[str, figures.Figure | figures.Panels]) -> dict[str, dict[str, Any]]:
    """Name of a chart, or of a chart with the index of a panel -> variant -> {"spec", "note"}."""
    out: dict[str, dict[str, Any]] = {}
    for name, figure in drawn.items():
        if isinstance(figure, figures.Panels):
            each = {f"{name}/{i}": panel for i, panel in enumerate(figure.panels.values())}
        else:
            each = {name: figure}
        for key, one in each.items():
            out[key] = {v: {"spec": spec, "note": one.notes.get(v, "")} for v, spec in one.specs.items()}
    return out


def only_printable(value: Any) -> Any:
    """Data of the page with every text in the form of `shown`, so that names in charts are those of the page."""
    if isinstance(value, dict):
        return {name: only_printable(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [only_printable(entry) for entry in value]
    return printable(value) if isinstance(value, str) else value


def shown(value: Any) -> Any:
    """A value of a template: a text, a name for example, has escape sequences in place of control characters."""
    return printable(value) if type(value) is str else value  # not the subclass for markup


def vega(store: Store) -> str:
    """The JavaScript of vega, vega-lite and vega-embed in one text. It is cached, because bundling takes seconds."""
    from altair import SCHEMA_VERSION

    vega_lite = ".".join(SCHEMA_VERSION.lstrip("v").split(".")[:2])
    key = {"vl_convert": version("vl-convert-python"), "vega_lite": vega_lite}
    try:
        return str(store.get_or_compute("scripts", key, lambda: ({}, {"text": bundle(vega_lite)})).facts["text"])
    except OSError:  # a full disk, or a read-only store
        return bundle(vega_lite)


@cache
def bundle(vega_lite: str) -> str:
    """The scripts of one Vega-Lite version, safe within a <script> of a page."""
    import vl_convert

    snippet: Any = None  # the bundle defines all three on the window, as the documentation says
    return vl_convert.javascript_bundle(snippet, vl_version=vega_lite).replace("</script", "<\\/script")


def part(name: str) -> str:
    """The text of a file of this package."""
    return (importlib.resources.files("bench.report.page") / name).read_text(encoding="utf-8")


@cache
def environment() -> jinja2.Environment:
    """The environment of the templates. Values are escaped, and data are JSON with their keys in order."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.report.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return made
