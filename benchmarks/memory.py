"""Measures or estimates the memory of methods on Stable Diffusion: `python -m benchmarks.memory`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from rich.console import Console
from rich.table import Table
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bench.backbones import pipeline
from bench.backbones.locate import locate
from bench.backbones.pipeline import Backbone
from bench.core import device as devices
from bench.training import optimizers
from benchmarks import accounting, architectures, one_step
from benchmarks.architectures import ARCHITECTURES
from benchmarks.one_step import Load
from methods import METHODS, Method

GIB = 2**30
CARDS = (12, 16, 24, 80)  # GB on the box, taken for GiB
ASIDE = 1.5  # GiB of a card that torch does not get, or does not use well: CUDA's context, workspaces, gaps
LADDER: dict[str, Callable[[Load], Load]] = {  # each rung on top of those before it
    "as it is": lambda load: load,
    "+ --gradient-checkpointing": lambda load: dataclasses.replace(load, gradient_checkpointing=True),
    "+ optimizer=adam8bit": lambda load: dataclasses.replace(load, optimizer="adam8bit"),
    "+ batch_size=1": lambda load: dataclasses.replace(load, batch=1),
}
SAMPLING, DECODING = "(drawing)", "(decoding)"
EPILOG = """
Each figure is of a process of its own: on CUDA the most that torch had allocated, and reserved for it; on the CPU the
largest resident set, libraries included. --estimate counts tensors without a card and without memory, see
docs/memory.md. examples:
  python -m benchmarks.memory --methods mimmu esd-u
  python -m benchmarks.memory --estimate --batch 8 --gradient-checkpointing
  python -m benchmarks.memory --estimate --cards --markdown
"""


@dataclass(frozen=True)
class Peak:
    """Peak memory in bytes. `reserved` is the memory that the allocator keeps.

    If the work did not fit, there are no figures, and `why` has the reason.
    """

    allocated: int = 0
    reserved: int | None = None
    trained: int | None = None  # weights, of a method
    why: str = ""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description="Peak memory of one training step of each method, of drawing and of decoding.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--backbone", default="sd15-random", metavar="MODEL",
        help=f"{', '.join(ARCHITECTURES)} (full size, random weights), or as in a run (default: %(default)s)",
    )  # fmt: skip
    p.add_argument("--methods", nargs="+", default=["all"], metavar="NAME", help='names, or "all" (default)')
    p.add_argument("--size", type=int, default=512, metavar="N", help="side of the pictures (default: %(default)s)")
    p.add_argument("--batch", type=int, metavar="N", help="examples of a training step; default: the method's own")
    p.add_argument("--images", type=int, default=16, metavar="N", help="drawn at a time (default: %(default)s)")
    p.add_argument("--optimizer", metavar="NAME", help="in place of the methods' own, e.g. adam8bit")
    p.add_argument("--gradient-checkpointing", action="store_true", help="as in a run")
    p.add_argument("--estimate", action="store_true", help="count tensors instead of measuring: needs neither")
    p.add_argument("--cards", action="store_true", help="with --estimate: which switches get each method onto a card")
    p.add_argument("--markdown", action="store_true", help="print the table as a document has it")
    return p


def load_backbone(source: str, device: torch.device) -> Backbone:
    """A backbone with real tensors: one of ARCHITECTURES, or a value of `--backbone`."""
    if source not in ARCHITECTURES:
        return pipeline.load(locate(source), device)
    architecture = ARCHITECTURES[source]
    made = architectures.pipeline(architecture, architectures.filled(architectures.networks(architecture)))
    dtype = devices.compute_dtype(device)
    if device.type == "cuda":
        devices.allow_tf32(dtype)
    return Backbone(made, device, dtype)


def contentless(source: str) -> tuple[Backbone, accounting.Live]:
    """The backbone without content, in bfloat16 as on CUDA, and the count of its bytes."""
    if source in ARCHITECTURES:
        parts, live = accounting.contentless(lambda: architectures.networks(ARCHITECTURES[source], "cpu"))
        made = architectures.pipeline(ARCHITECTURES[source], parts)
    else:
        folder = locate(source)  # before contentless tensors are made: it reads the files, and checks their values
        (unet, vae, text), live = accounting.contentless(lambda: _networks(folder))
        made = StableDiffusionPipeline(
            vae=vae, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), unet=unet,
            scheduler=DDPMScheduler.from_pretrained(folder / "scheduler"), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    made.to = lambda device: made  # it is where it is; modules refuse to move what is accounted for
    backbone = Backbone(made, torch.device("cpu"), torch.bfloat16)
    backbone.casts_weights = True
    return backbone, live


def _networks(folder: Path) -> architectures.Networks:
    unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
    text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    return UNet2DConditionModel.from_config(unet), AutoencoderKL.from_config(vae), text


def run(model: Backbone, what: str, load: Load, build: one_step.Build) -> int | None:
    """Do `what`: a method's name, SAMPLING or DECODING. Returns the number of trained weights."""
    if what in (SAMPLING, DECODING):
        (one_step.draw if what == SAMPLING else one_step.look)(model, load)
        return None
    return one_step.train(model, what, load, build)


def estimate(source: str, what: str, load: Load) -> Peak:
    """Bytes of live tensors at the peak. An 8-bit optimiser need not be installed."""
    eight = load.optimizer in optimizers.EIGHT_BIT
    model, live = contentless(source)
    one_step.fit_to(model, load, fused=True)
    build = _contentless_eight_bit if eight else one_step.real_optimizer
    with accounting.counted(live):
        trained = run(model, what, dataclasses.replace(load, optimizer=None) if eight else load, build)
    return Peak(live.peak, trained=trained)


def _contentless_eight_bit(made: Method, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return accounting.EightBit(parameters)


def measure(source: str, what: str, load: Load) -> Peak:
    """The measured peak memory, in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(measure_here, source, what, load).result()
        except BrokenProcessPool:
            return Peak(why="the process was killed, perhaps for want of memory")


def measure_here(source: str, what: str, load: Load) -> Peak:
    """The measured peak memory in this process, which must not have used more memory before."""
    device = devices.default_device()
    cuda = device.type == "cuda"
    model = load_backbone(source, device)
    one_step.fit_to(model, load)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        trained = run(model, what, load, one_step.real_optimizer)
    except torch.OutOfMemoryError as error:
        return Peak(why=str(error).split(". ")[0])
    if cuda:
        return Peak(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device), trained)
    return Peak(_peak_of_process(), None, trained)


def _peak_of_process() -> int:
    """Peak resident memory of this process in bytes.

    On Linux `getrusage` would also count what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def rows(source: str, names: Sequence[str], load: Load, how: Callable[[str, str, Load], Peak]) -> Iterator[list[str]]:
    """The heading of the table, and one row for each method, for drawing and for decoding."""
    reserves = how is measure and torch.cuda.is_available()
    yield ["what", "weights trained", "batch", "peak GiB", *(["reserved GiB"] if reserves else [])]
    for name in (*names, SAMPLING, DECODING):
        found = how(source, name, load)
        count = load.images if name in (SAMPLING, DECODING) else one_step.batch_of(name, load)
        trains = "" if found.trained is None else f"{found.trained / 1e6:.1f} M"
        figures = [found.why or f"{found.allocated / GIB:.1f}"]
        figures += [f"{(found.reserved or 0) / GIB:.1f}"] if reserves else []
        yield [name, trains, str(count), *figures]


def cards(source: str, names: Sequence[str], load: Load) -> Iterator[list[str]]:
    """The estimate on each rung of LADDER, and for each of CARDS the first rung that fits."""
    yield ["method", *(f"{rung}, GiB" for rung in LADDER), *(f"{card} GB" for card in CARDS)]
    for name in names:
        peaks, asked = [], load
        for climb in LADDER.values():
            asked = climb(asked)
            peaks.append(estimate(source, name, asked).allocated / GIB)
        fits = [next((i for i, peak in enumerate(peaks) if peak + ASIDE <= card), None) for card in CARDS]
        rungs = list(LADDER)
        said = ["does not fit" if i is None else (rungs[i] if i == 0 else f"with {i}") for i in fits]
        yield [name, *(f"{peak:.1f}" for peak in peaks), *said]


def markdown(head: Sequence[str], body: Sequence[Sequence[str]], about: str) -> str:
    """The table for a document, with a caption."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *body)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:], "", about])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure or estimate, and print the table."""
    args = parser().parse_args(argv)
    names = one_step.stepping_methods() if "all" in args.methods else tuple(args.methods)
    switches = {f.name: getattr(args, f.name) for f in dataclasses.fields(Load)}
    try:
        for name in names:
            METHODS.get(name)
        load = Load(**switches)
        if args.backbone not in ARCHITECTURES:
            locate(args.backbone)
        if args.optimizer and not args.estimate:
            optimizers.require(args.optimizer)
    except (ValueError, FileNotFoundError) as error:
        parser().error(str(error))
    if args.cards and not args.estimate:
        parser().error("--cards is made of estimates: add --estimate")
    made = cards(args.backbone, names, load) if args.cards else (
        rows(args.backbone, names, load, estimate if args.estimate else measure)
    )  # fmt: skip
    head, *body = made
    about = ", ".join([args.backbone, f"{args.size} x {args.size} pixels", *_said(args)])
    if args.markdown:
        print(markdown(head, body, about))
    else:
        table = Table(*head, caption=about)
        for row in body:
            table.add_row(*row)
        Console().print(table)
    return 0


def _said(args: argparse.Namespace) -> list[str]:
    switches = ["gradient checkpointing"] * args.gradient_checkpointing
    switches += [args.optimizer] if args.optimizer else []
    if args.estimate:
        how = "estimated from tensors for CUDA in bfloat16, not measured"
    else:
        device = devices.default_device()
        how = f"measured on {devices.describe(device, 'auto')['device']}"
    return [*switches, how, f"torch {torch.__version__}"]


if __name__ == "__main__":
    sys.exit(main())
