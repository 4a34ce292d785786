"""Checks and measures Lethe on a GPU in under six minutes, and prints one page for docs/gpu.md.

    python -m benchmarks.gpu_check > page.md          # on a machine with CUDA
    python -m benchmarks.gpu_check --device cpu       # rehearse the check without a GPU, with few steps

The page has the versions, the result of the tests that need CUDA, the tables of `benchmarks.throughput`, and a quick
board of the pocket world on CUDA beside the CPU's figures. Each part is a process of its own with a time limit. A part
that fails or takes too long does not stop the others, and the page says so. Exit status: 0, or 1 if a part failed or
figures differ, or 2 if this machine has no CUDA.

Two figures differ if their 95 % intervals do not overlap. The CPU's figures are in cpu_figures.json;
`python -m benchmarks.gpu_check --write-figures` computes them again, in some five minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bench.board import csv_files
from bench.core import device as devices
from benchmarks.timing import cores

ROOT = Path(__file__).parent.parent
CPU_FIGURES = Path(__file__).with_name("cpu_figures.json")
METHODS = ("mimmu", "salun")
FIGURES = ("ua", "nra", "ora", "twin", "fid", "kid", "clip", "drift", "mi")  # those with intervals that every board has
OLDEST_TORCH, PYTHONS = (2, 11), ((3, 11), (3, 13))
SLOWER = 4  # how many times as long a rehearsal on the CPU may take
BEAT = 10  # seconds between two lines of progress
ALSO = ("accelerate", "peft", "safetensors", "bitsandbytes", "triton", "pytest")  # packages besides those of keys
ROWS = ("step", "sampling", "batching", "attention", "evaluating")
SMALL = ("mimmu.epochs=none", "mimmu.steps=2", "protocol.num_inference_steps=2", "protocol.forget_images=8")


class PartFailed(Exception):
    """A part failed. The message is one sentence for the page.

    Args:
        said: what the part printed.
        section: the part's text on the page, if it has one nevertheless.
    """

    def __init__(self, why: str, said: str = "", section: str = "") -> None:
        super().__init__(why)
        self.said, self.section = said, section


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Args:
        title: its heading on the page.
        limit: seconds after which it is stopped.
        words: the words after `python`.
        section: what it printed -> its text on the page. May raise PartFailed.
    """

    title: str
    limit: float
    words: Sequence[str]
    section: Callable[[str], str] = str.strip


def parts(cuda: bool, folder: Path) -> list[Part]:
    """The parts of the check, for a GPU or for a rehearsal without one. `folder` is for the board."""
    rows = ROWS if cuda else ("step", "sampling")
    throughput = ["-m", "benchmarks.throughput", "--markdown", "--rounds", "3" if cuda else "1", "--only"]
    tests = ["-m", "pytest", "-m", "gpu", "-n", "0", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    methods = METHODS if cuda else METHODS[:1]
    made = [
        Part("Versions", 15, ["-c", "from benchmarks import gpu_check; print(gpu_check.versions())"]),
        Part("Tests that need CUDA", 125, [*tests, *gpu_tests()], summary),
        Part("Speed", 60, [*throughput, *rows]),
        Part(
            "The pocket world on CUDA and on the CPU",
            105,
            board_words(methods, folder, [] if cuda else SMALL),
            lambda said: comparison(figures(folder, methods), committed(), require=cuda),
        ),
    ]
    if cuda:
        return [*made, Part("Peak memory", 45, [*throughput, "memory"])]
    return [dataclasses.replace(part, limit=SLOWER * part.limit) for part in made]


def gpu_tests() -> list[str]:
    """The files with tests that need CUDA. Only they are collected, because collecting all files takes long."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.gpu" in file.read_text()]


def board_words(methods: Sequence[str], folder: Path, settings: Sequence[str] = ()) -> list[str]:
    """The words after `python` that compute the quick board in `folder`."""
    words = ["run_bench.py", "--methods", *methods, "--suite", "finegrained", "--quick", "--workers", "1"]
    return [*words, "--out", str(folder), *(["--set", *settings] if settings else [])]


def summary(said: str) -> str:
    """The last line that pytest printed. Raises PartFailed if it passed no test and skipped none."""
    last = said.strip().splitlines()[-1].strip("= ") if said.strip() else ""
    if not any(word in last for word in ("passed", "skipped")):
        raise PartFailed("pytest ran no test", said)
    return f"`pytest -m gpu -n 0`: {last}"


Triple = tuple[float, float, float]  # a figure and its interval
Board = Mapping[str, Mapping[str, Triple]]  # method -> figure -> value


def figures(folder: Path, methods: Sequence[str]) -> Board:
    """The figures of the quick board in `folder`. Raises PartFailed for a cell that failed."""
    file = next((f for f in sorted(folder.glob("finegrained-pocket*quick*.csv")) if not _is_detail(f)), None)
    if file is None:
        raise PartFailed("the run wrote no board")
    board = csv_files.read(file).set_index("method")
    found: dict[str, dict[str, Triple]] = {}
    for name in ("pretrained", "wrecked", *methods):
        row = board.loc[name]
        if row["status"] != "ok":
            raise PartFailed(f"a cell of {name} failed: {row['status']}")
        triples = {f: (row.get(f), row.get(f"{f}_lo"), row.get(f"{f}_hi")) for f in FIGURES}
        found[name] = {f: t for f, t in triples.items() if all(_is_number(v) for v in t)}  # type: ignore[misc]
    return found


def _is_detail(file: Path) -> bool:
    return file.stem.endswith(("-cells", "-concepts", "-curve"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def committed() -> Board:
    """The CPU's figures from cpu_figures.json."""
    kept: Board = json.loads(CPU_FIGURES.read_text())["figures"]
    return kept


def comparison(here: Board, cpu: Board, require: bool) -> str:
    """The table of both boards' figures, and the figures whose intervals do not overlap.

    With `require`, raises PartFailed with this text if there are such figures.
    """
    lines = ["| method | figure | here | CPU | intervals overlap |", "|---|---|---|---|---|"]
    apart, count = [], 0
    for method in here:
        for name, mine in here[method].items():
            theirs = cpu.get(method, {}).get(name)
            if theirs is None:
                continue
            agree = overlap(mine, theirs)
            count += 1
            apart += [] if agree else [f"{name} of {method}"]
            lines.append(f"| {method} | {name} | {_text(mine)} | {_text(theirs)} | {'yes' if agree else '**no**'} |")
    told = f"{count - len(apart)} of {count} figures have intervals that overlap with the CPU's"
    text = "\n".join([*lines, "", told + (f"; not: {', '.join(apart)}." if apart else ".")])
    if apart and require:
        raise PartFailed(f"{len(apart)} of {count} figures differ from the CPU's", section=text)
    return text


def overlap(a: Triple, b: Triple) -> bool:
    """Whether two intervals have a number in common. Each is widened by a thousandth of its figure for rounding."""
    slack = 1e-3 * max(abs(a[0]), abs(b[0]))
    return a[1] - slack <= b[2] and b[1] - slack <= a[2]


def _text(figure: Triple) -> str:
    return "{:.4g} ({:.4g}..{:.4g})".format(*figure)


def versions() -> str:
    """The table of hardware and versions."""
    rows = {"Python": platform.python_version(), "system": platform.platform(), "cores": cores()}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        rows |= {
            "GPU": f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}",
            "GPUs": torch.cuda.device_count(),
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()[0],
            "CUDA of torch": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    rows["precision"] = str(devices.compute_dtype(devices.default_device())).removeprefix("torch.")
    for name in (*devices.PACKAGES, *ALSO):
        try:
            rows[name] = version(name)
        except PackageNotFoundError:
            rows[name] = "not installed"
    rows["commit of Lethe"] = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join([*table, *(f"\n{line}" for line in untried())])


def untried(python: tuple[int, ...] = sys.version_info[:2], torch_version: str = torch.__version__) -> Iterator[str]:
    """Sentences about versions for which this check is not meant."""
    if not PYTHONS[0] <= python <= PYTHONS[1]:
        yield f"This check is meant for Python 3.11 to 3.13, not {python[0]}.{python[1]}."
    if tuple(int(part) for part in torch_version.split(".")[:2]) < OLDEST_TORCH:
        yield f"This check is meant for torch 2.11 or newer, not {torch_version}."


def _output(*words: str) -> str:
    """The output of a command, or "unknown"."""
    if shutil.which(words[0]) is None:
        return "unknown"
    done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    return done.stdout.strip() or "unknown"


def run(part: Part, environment: Mapping[str, str], say: Callable[[str], None]) -> str:
    """What the part prints. Raises PartFailed if it fails or takes longer than its limit."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *part.words], cwd=ROOT, env=dict(environment), stdout=out, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        began, code = time.monotonic(), None
        try:
            while code is None and (left := part.limit - (time.monotonic() - began)) > 0:
                try:
                    code = process.wait(min(BEAT, left))
                except subprocess.TimeoutExpired:
                    say(f"{part.title}: {time.monotonic() - began:.0f} of at most {part.limit:g} s")
        finally:
            if code is None:
                os.killpg(process.pid, signal.SIGKILL)  # its workers too
                process.wait()
        for file in (out, errors):
            file.seek(0)
        said = out.read()
        if code is None:
            raise PartFailed(f"stopped at its limit of {part.limit:g} s", said + errors.read())
        if code:
            raise PartFailed(f"exit status {code}", said + errors.read())
        return said


def check(made: Sequence[Part], environment: Mapping[str, str], say: Callable[[str], None]) -> tuple[str, list[str]]:
    """The page's sections, and what failed: a sentence for each part that did."""
    sections, failed = [], []
    for part in made:
        say(f"{part.title}: begins, at most {part.limit:g} s")
        try:
            text = part.section(run(part, environment, say))
        except PartFailed as error:
            failed.append(f"{part.title}: {error}")
            end = f"**Failed: {error}.** The end of what it printed:\n\n```\n{_end(error.said)}\n```"
            text = error.section or end
        sections.append(f"### {part.title}\n\n{text}")
        say(f"{part.title}: done")
    return "\n\n".join(sections), failed


def _end(said: str, lines: int = 20) -> str:
    return "\n".join(said.strip().splitlines()[-lines:])


def page(cuda: bool, sections: str, failed: Sequence[str], seconds: float) -> str:
    """The page to paste."""
    day = datetime.date.today().isoformat()
    name = torch.cuda.get_device_name() if cuda else "rehearsal on the CPU, with few steps: its figures mean nothing"
    verdict = "No part failed." if not failed else "Failed:\n\n" + "\n".join(f"- {line}" for line in failed)
    about = f"`python -m benchmarks.gpu_check` took {seconds:.0f} s. {verdict}"
    return f"## {name}, {day}\n\n{about}\n\n{sections}\n"


def write_figures(environment: Mapping[str, str]) -> None:
    """Compute the quick board on the CPU and write cpu_figures.json. Raises CalledProcessError if the run fails."""
    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        words = [sys.executable, *board_words(METHODS, Path(folder))]
        subprocess.run(words, cwd=ROOT, env=dict(environment), check=True, stdout=sys.stderr)
        board = figures(Path(folder), METHODS)
    dtype = str(devices.compute_dtype(torch.device("cpu"))).removeprefix("torch.")
    told = {"command": "python -m benchmarks.gpu_check --write-figures", "machine": f"CPU, {dtype}"}
    told["versions"] = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers"))
    CPU_FIGURES.write_text(json.dumps({**told, "figures": board}, indent=1) + "\n")


def environment_of(cuda: bool) -> dict[str, str]:
    """The environment of every part. Oracles are left out of the boards: a small checkout may lack them."""
    hidden = {} if cuda else {"CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, "LETHE_ORACLES": "none", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **hidden}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses (default: %(default)s)")
    p.add_argument("--write-figures", action="store_true", help="compute cpu_figures.json on the CPU, and nothing else")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and print the page."""
    args = parser().parse_args(argv)
    cuda, began = args.device == "cuda", time.monotonic()
    if args.write_figures:
        write_figures(environment_of(cuda=False))
        return 0
    if cuda and not torch.cuda.is_available():
        print("error: this machine has no CUDA device; --device cpu rehearses the check without one", file=sys.stderr)
        return 2

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="lethe-") as folder:
        sections, failed = check(parts(cuda, Path(folder)), environment_of(cuda), say)
    print(page(cuda, sections, failed, time.monotonic() - began))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
