"""The command line's grammar, and the way from it to a run and back."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from bench.backbones.folder import LARGE_BATCH, LARGE_BATCH_SIDE
from bench.backbones.locate import NAMES
from bench.core import overrides
from bench.core.config import QUICK, RunConfig
from bench.engines import ENGINES, Settings
from bench.plan.plan import PROTOCOL, method_names
from bench.suites.base import SUITES

DESCRIPTION = """\
Which method removes a concept from a text-to-image diffusion model, and only
that concept?

Each method forgets each target of a suite. What the changed model then draws is
judged: the forgotten concept, its neighbours, everything else. The board compares
the methods with the untouched model and with a ruined one."""

EPILOG = """\
examples:
  the board of the README, and the same in small
    python run_bench.py --methods mimmu salun --suite finegrained
    python run_bench.py --methods mimmu salun --quick
  does it run at all? in seconds
    python run_bench.py --methods mimmu --suite smoke --out /tmp/lethe
  other settings, several training seeds, some metrics only
    python run_bench.py --methods mimmu --set mimmu.lr=1e-4 --seeds 3
    python run_bench.py --methods mimmu --metrics ua nra drift
  many at once; one after another; does it come back? which noise matters?
    python run_bench.py --methods all --suite multi --k 2 4
    python run_bench.py --methods mimmu --suite sequential --forget toucan tulip
    python run_bench.py --methods mimmu salun --suite resurgence
    python run_bench.py --methods mimmu --sweep mimmu.t_max=300,600,950
  a method in a file of your own
    python run_bench.py --plugin mine.py --methods mine
  what there is; what would run, and for how long
    python run_bench.py --list methods
    python run_bench.py --methods all --plan
  the same on a cluster, one cell a job; then detached, and watched again
    python run_bench.py --methods all --executor slurm --slurm partition=gpu,gpus=1
    python run_bench.py --methods all --executor slurm --slurm partition=gpu,gpus=1 --attach
    python run_bench.py --methods all --executor ray --ray-address auto
  Stable Diffusion on photographs of dogs, flowers and birds
    python run_bench.py --prepare natural --data ~/data
    python run_bench.py --world natural --backbone sd15 --data ~/data
  the model without tulips, for diffusers
    python run_bench.py --export "mimmu/tulip" --to tulip-free

Whatever is finished is kept in the store, DIR/.store of --out. After Ctrl-C, or
for a method or a metric more, give the command again: it goes on where it
stopped, and computes only what is new.

exit codes:
  0    all cells finished
  1    a cell failed, or --collect found one missing: the board says which, the
       others stand; or --prepare found something missing, and said what
  2    the command can't be run as given; nothing was computed
  130  stopped by Ctrl-C
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    p = argparse.ArgumentParser(
        prog="run_bench.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run(p)
    how = p.add_argument_group("how to run it")
    how.add_argument(
        "--workers", type=int, metavar="N",
        help="cells at a time; default: one a core here, at most 4, one on CUDA; what a cluster gives",
    )  # fmt: skip
    how.add_argument(
        "--executor", choices=ENGINES.names(), default="local",
        help="where cells run: here, or on a cluster whose nodes see --out (docs/run-on-a-cluster.md)",
    )  # fmt: skip
    how.add_argument(
        "--slurm", type=pairs, metavar="K=V,...", default={},
        help="sbatch's options, partition=gpu,time=4:00:00,gpus=1, and cells=N: cells of a job",
    )  # fmt: skip
    how.add_argument("--ray-address", metavar="HOST:PORT", help='of a Ray cluster\'s head; default: "auto"; or "local"')
    how.add_argument(
        "--ray", type=pairs, metavar="K=V,...", default={},
        help="what a cell needs: num_gpus=0.5, num_cpus=4; default: a GPU where the cluster has some, else a core",
    )  # fmt: skip
    how.add_argument(
        "--retries", type=int, metavar="N", default=1,
        help="how often a cell is tried again whose worker or machine failed (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--attach", action="store_true", help="watch this run on a cluster, which went on without its command"
    )
    how.add_argument(
        "--results", nargs="+", action="extend", type=Path, metavar="FILE", default=[],
        help="put into the store results that others computed, from files that "
        "`python -m bench.commands.results_archive` wrote",
    )  # fmt: skip
    how.add_argument("--force", action="store_true", help="compute the named methods again, whatever the store has")
    look = p.add_argument_group("look without running")
    look.add_argument(
        "--plan",
        action="store_true",
        help="show the cells, what is stored of them, and minutes to go; judges are not looked for",
    )
    look.add_argument(
        "--list", choices=("methods", "suites", "worlds", "metrics", "executors"), help="show what there is"
    )
    look.add_argument(
        "--prepare", metavar="WORLD", help="get and check what a world needs, in --data; says what to place by hand"
    )
    look.add_argument("--collect", action="store_true", help="write the tables from what the store has")
    look.add_argument(
        "--export", metavar="CELL", help='METHOD/TASK or METHOD/TASK/SEED: write what the store has of it, to --to'
    )  # fmt: skip
    look.add_argument("--to", type=Path, metavar="DIR", help="new folder for --export, in Stable Diffusion's format")
    return p


def add_run(p: argparse.ArgumentParser) -> None:
    """The flags that describe a run, for any command that needs one."""
    defaults = RunConfig()
    own = [f"{SUITES.get(name).curve} for the suite {name}" for name in SUITES.names() if SUITES.get(name).curve]
    what = p.add_argument_group("what to run")
    what.add_argument(
        "--methods", nargs="+", metavar="NAME", default=list(defaults.methods),
        help=f'names, or "all" (default: {" ".join(defaults.methods)})',
    )  # fmt: skip
    what.add_argument("--suite", default=defaults.suite, help="what to forget (default: %(default)s)")
    what.add_argument("--world", default=defaults.world, help="what can be drawn and judged (default: %(default)s)")
    what.add_argument(
        "--backbone", metavar="MODEL",
        help=f"{', '.join(NAMES)}, a hub id, a diffusers folder or a .safetensors file; default: the world's own",
    )  # fmt: skip
    what.add_argument(
        "--backbone-config", metavar="MODEL",
        help="name, hub id or folder whose configuration and tokenizer a single .safetensors file takes",
    )  # fmt: skip
    what.add_argument(
        "--seeds", type=seeds, metavar="N", default=defaults.seeds,
        help=f"how many training seeds (default: {len(defaults.seeds)}); or which: 4,5",
    )  # fmt: skip
    what.add_argument(
        "--set", nargs="+", action="extend", metavar="SECTION.FIELD=VALUE", default=[],
        help="change a method's setting (mimmu.lr=1e-5) or the protocol's (protocol.guidance_scale=3)",
    )  # fmt: skip
    what.add_argument(
        "--sweep", nargs="+", action="extend", metavar="METHOD.FIELD=V1,V2", default=[],
        help="a row for each value of a method's setting, or for each combination of several (mimmu.t_max=300,600,950)",
    )  # fmt: skip
    what.add_argument(
        "--forget", nargs="+", action="extend", metavar="CONCEPT", default=[],
        help="forget these in place of the suite's own choice: each alone (finegrained, resurgence, "
        "noise-ablation), all at once (multi), one after another (sequential)",
    )  # fmt: skip
    what.add_argument(
        "--k", nargs="+", type=int, metavar="N", default=[], help="how many at once, for the suite multi (2 4 8)"
    )
    what.add_argument(
        "--plugin", nargs="+", action="extend", type=Path, metavar="FILE", default=[],
        help="python files that register methods, metrics, worlds or suites",
    )  # fmt: skip
    photos = p.add_argument_group("worlds of photographs and paintings")
    photos.add_argument("--data", type=Path, metavar="DIR", help="folder of the world's data sets; see --prepare")
    photos.add_argument(
        "--judge", nargs="+", action="extend", metavar="[DOMAIN=]NAME", default=[],
        help="who judges: a timm ImageNet classifier (dogs), open_clip:MODEL/WEIGHTS, or a trained judge's file",
    )  # fmt: skip
    photos.add_argument(
        "--neighbours", metavar="K", help='how many near concepts must stay, by judge features; or "all" of the domain'
    )
    photos.add_argument("--clip", metavar="MODEL/WEIGHTS", help='open_clip model behind CLIP score, or "none"')
    measure = p.add_argument_group("how to measure")
    measure.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        default=list(defaults.metrics),
        help="what to measure; default: all; what it cost is always measured",
    )
    measure.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK.tasks} tasks, {QUICK.images_per_concept} images a concept; the board says so in its name",
    )
    measure.add_argument(
        "--curve",
        type=int,
        default=defaults.curve,
        metavar="K",
        help="measure K checkpoints along each training too (at least 2, the last included), on fewer images: "
        f"retention at matched forgetting; 0 for none (default: {', '.join(own)}, else 0)",
    )
    measure.add_argument(
        "--compile",
        action="store_true",
        help="compile the U-Net (torch.compile): pays on CUDA in long runs; the first cell of a process waits for it",
    )
    measure.add_argument(
        "--sample-batch", type=int, metavar="N",
        help="images drawn at a time; in bf16 images depend on it by rounding (default: "
        f"{LARGE_BATCH} of up to {LARGE_BATCH_SIDE} pixels a side, 16 of 512)",
    )  # fmt: skip
    memory = p.add_argument_group("on a small card (docs/memory.md)")
    memory.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="keep few activations in training, compute the rest again: the same weights, in a third more time",
    )
    where = p.add_argument_group("where")
    where.add_argument(
        "--out", type=Path, default=defaults.out, metavar="DIR",
        help="tables, and the store: DIR/.store (default: %(default)s); a board of the same name there is replaced",
    )  # fmt: skip


def pairs(text: str) -> dict[str, str]:
    """Names and values of "partition=gpu,exclude=n1,n2,exclusive=": what has no "=" goes on with the value before it.

    Raises ArgumentTypeError for a name that is missing or given twice.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, given, value = part.strip().partition("=")
        name = name.strip().removeprefix("--")
        if not given and found and name:
            last = next(reversed(found))
            found[last] = f"{found[last]},{name}"
        elif not given or not name or name in found:
            raise argparse.ArgumentTypeError(f"{text} is no list of NAME=VALUE,NAME=VALUE with each name once")
        else:
            found[name] = value.strip()
    return found


def settings(args: argparse.Namespace) -> Settings:
    """How parsed arguments want the run spread. Raises ValueError for a cluster's flags without its executor."""
    given = {"slurm": args.slurm, "ray": {**args.ray, **({"address": args.ray_address} if args.ray_address else {})}}
    for name, options in given.items():
        if options and args.executor != name:
            raise ValueError(f"--{name}{'-address' * (options.keys() == {'address'})} goes with --executor {name}")
    if args.retries < 0:
        raise ValueError(f"--retries must be at least 0, not {args.retries}")
    return Settings(args.workers, args.retries, args.attach, given.get(args.executor, {}))


def seeds(text: str) -> tuple[int, ...]:
    """Training seeds: "3" asks for the first three, "4,5" for these two, "7," for that one.

    Raises ArgumentTypeError for anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts if part) or not any(parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of seeds ('3') nor a list of them ('4,5', or '7,')"
        )
    if "," in text:
        return tuple(int(part) for part in parts if part)
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} seeds are none: a board takes one at least")
    return tuple(range(int(text)))


def require_writable(out: Path) -> None:
    """Raise ValueError where `out`, or what it would be made in, can't be written to. Makes nothing."""
    place = next(one for one in (out, *out.absolute().parents) if one.exists())
    if not place.is_dir():
        raise ValueError(f"--out {out}: {place} is a file, and a folder is needed")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: nothing can be written in {place}")


def run_config(args: argparse.Namespace) -> RunConfig:
    """The run that parsed arguments describe; plugins must be loaded. Raises ValueError for a name or a setting."""
    methods = tuple(args.methods)
    return RunConfig(
        methods=methods,
        suite=args.suite,
        world=args.world,
        backbone=args.backbone,
        backbone_config=args.backbone_config,
        data=args.data and args.data.expanduser().resolve(),
        judges=tuple(args.judge),
        neighbours=args.neighbours,
        clip=args.clip,
        seeds=args.seeds,
        metrics=tuple(args.metrics),
        overrides=overrides.parse(args.set, (*method_names(methods), PROTOCOL)),
        sweep=overrides.parse_sweep(args.sweep, method_names(methods)),
        forget=tuple(args.forget),
        several=tuple(args.k),
        plugins=tuple(file.resolve() for file in args.plugin),
        quick=args.quick,
        compile=args.compile,
        gradient_checkpointing=args.gradient_checkpointing,
        curve=args.curve,
        sample_batch=args.sample_batch,
        force=getattr(args, "force", False),
        out=args.out,
    )


def command(run: RunConfig) -> str:
    """The shortest command line that describes `run`."""
    usual = RunConfig()
    words = ["--methods", *run.methods]
    for name in ("suite", "world", "backbone", "backbone_config", "data", "neighbours", "clip"):
        if getattr(run, name) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(run, name))]
    words += ["--judge", *run.judges] if run.judges else []
    if run.seeds != usual.seeds:
        counted = run.seeds == tuple(range(len(run.seeds)))
        listed = ",".join(map(str, run.seeds)) + "," * (len(run.seeds) == 1)
        words += ["--seeds", str(len(run.seeds)) if counted else listed]
    words += ["--metrics", *run.metrics] if run.metrics != usual.metrics else []
    words += ["--curve", str(run.curve)] if run.curve != usual.curve else []
    words += ["--sample-batch", str(run.sample_batch)] if run.sample_batch != usual.sample_batch else []
    changes = [f"{section}.{name}={text}" for section, texts in run.overrides.items() for name, text in texts.items()]
    words += ["--set", *changes] if changes else []
    ranges = [f"{n}.{k}={','.join(values)}" for n, fields in run.sweep.items() for k, values in fields.items()]
    words += ["--sweep", *ranges] if ranges else []
    words += ["--forget", *run.forget] if run.forget else []
    words += ["--k", *map(str, run.several)] if run.several else []
    words += ["--plugin", *map(str, run.plugins)] if run.plugins else []
    switches = ("quick", "compile", "gradient_checkpointing", "force")
    words += [f"--{flag.replace('_', '-')}" for flag in switches if getattr(run, flag)]
    words += ["--out", str(run.out)] if run.out != usual.out else []
    return f"python run_bench.py {shlex.join(words)}"
