"""Check the quality of the pocket world: measure every figure and compare it with its limit.

    python -m bench.worlds.pocket.recipe.check            # the committed weights; about four minutes on two cores
    python -m bench.worlds.pocket.recipe.check --weights build/pocket/weights --write

The exit code is 1 if a figure misses its limit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.backbones import pipeline
from bench.core import device
from bench.worlds.pocket.drawing.dataset import FIRST_SEED
from bench.worlds.pocket.drawing.styles import STYLES
from bench.worlds.pocket.features import DIMENSIONS, FEATURES
from bench.worlds.pocket.recipe import quality
from bench.worlds.pocket.recipe.quality import Finding
from bench.worlds.pocket.weights import MANIFEST, WEIGHTS, manifest, verify


def measure(folder: Path, per_species: int) -> list[Finding]:
    """Measure every line of the table for the weights in `folder`.

    `per_species` is the number of images of each species and style. Raises WeightsError if a weight file is missing or
    does not match the manifest.
    """
    verify(folder)
    found, reachable = quality.judge_findings(folder, per_species)
    model = pipeline.load(folder / "pipeline", device.default_device())
    plain = quality.generated(model, per_species, ("photo",))
    found += quality.plain_findings(plain, folder)
    found += quality.style_findings(quality.generated(model, max(1, per_species // 4), STYLES[1:]), folder, reachable)
    found += quality.brief_findings(model, folder, per_species)
    real, more = (
        quality.rendered(per_species, ("photo",), FIRST_SEED["reference"] + start).images for start in (0, per_species)
    )
    what, n = f"{DIMENSIONS} features ({FEATURES})", len(real)
    found.append(Finding("FID generated : rendered", quality.fid(plain.images, real, folder), None, n, what))
    found.append(Finding("FID rendered : rendered (floor)", quality.fid(more, real, folder), None, n, what))
    found += [
        *quality.twin_findings(folder),
        quality.drawing_finding(),
        quality.speed_finding(model),
        quality.cold_finding(folder),
    ]
    return found


def show(found: Sequence[Finding]) -> Table:
    """The findings as a table for the terminal."""
    table = Table("what", "measured", "bar", "n", "", title="Pocket world")
    for f in found:
        bar = "" if f.bar is None else f"{'<=' if f.at_most else '>='} {f.bar:g}"
        mark = "" if f.bar is None else "ok" if f.holds else "MISSED"
        table.add_row(f"{f.what}\n  [dim]{f.note}[/]" if f.note else f.what, f"{f.value:.3f}", bar, str(f.n), mark)
    return table


def markdown(found: Sequence[Finding]) -> str:
    """The findings as a Markdown table, for docs/pocket.md."""
    lines = ["| what | measured | bar | n | |", "|---|---|---|---|---|"]
    for f in found:
        bar = "" if f.bar is None else f"{'<=' if f.at_most else '>='} {f.bar:g}"
        mark = f.note if f.holds else f"**missed** {f.note}"
        lines.append(f"| {f.what} | {f.value:.3f} | {bar} | {f.n} | {mark} |")
    return "\n".join(lines)


def write(found: Sequence[Finding], folder: Path) -> None:
    """Write the findings into the manifest of `folder`, under the key `quality`."""
    record: dict[str, Any] = manifest(folder)
    record["quality"] = [{**asdict(f), "value": round(f.value, 4), "holds": f.holds} for f in found]
    (folder / MANIFEST).write_text(json.dumps(record, indent=1) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Command line of `python -m bench.worlds.pocket.recipe.check`."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.worlds.pocket.recipe.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="DIR", help="default: the committed weights")
    parser.add_argument(
        "--per-species", type=int, default=40, metavar="N", help="pictures of each species and style (default 40)"
    )
    parser.add_argument("--write", action="store_true", help="keep the findings in DIR/manifest.json")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args(argv)
    found = measure(args.weights, args.per_species)
    if args.markdown:
        print(markdown(found))
    else:
        Console(width=110).print(show(found))
    if args.write:
        write(found, args.weights)
    missed = [f.what for f in found if not f.holds]
    if missed:
        raise SystemExit(f"{len(missed)} of {sum(f.bar is not None for f in found)} bars missed: {'; '.join(missed)}")
    print("every bar holds")


if __name__ == "__main__":
    main()
