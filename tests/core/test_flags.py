"""A flag is declared once, and everything that has to know it does."""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.commands import arguments
from bench.core.config import HOW, WHAT, RunConfig
from bench.core.flags import defaults_of, flag, flags_of, from_values
from bench.engines.run_folder import RunFolder
from bench.plan.board_name import board_name
from bench.plan.plan import resolve
from bench.worlds import World


@dataclass(frozen=True)
class Longer(RunConfig):
    """A run with two flags more."""

    temperature: float = flag(1.0, "how warm (default: {default})", WHAT, parse=float, board=13)
    files: tuple[Path, ...] = flag((), "more files", WHAT, name="file", metavar="FILE", many=True, parse=Path)
    verbose: bool = flag(False, "say more", HOW, switch=True, identity=False)


def parsed(*words: str) -> Longer:
    p = arguments.parser("run", "", "")
    arguments.add_flags(p, Longer)
    return from_values(Longer, vars(p.parse_args(words)))


def test_new_flag_reaches_parser_command_identity_and_board_name() -> None:
    run = parsed("--temperature", "0.5", "--file", "/home/me/a", "b", "--methods", "mimmu", "--verbose")
    assert run == Longer(methods=("mimmu",), temperature=0.5, files=(Path("/home/me/a"), Path("b")), verbose=True)
    assert run.command.endswith("--methods mimmu --temperature 0.5 --file /home/me/a b --verbose")
    assert run.shared_command.endswith("--methods mimmu --temperature 0.5 --file a b")
    other = dataclasses.replace(run, temperature=0.6)
    assert other.identity != run.identity
    assert RunFolder(other).path != RunFolder(run).path


def test_another_value_gives_another_board_name(world: World) -> None:
    run = Longer(methods=("mimmu",), suite="smoke", world="tiny", temperature=0.5)
    assert board_name(resolve(run)) == "smoke-tiny-temperature-0.5"
    assert board_name(resolve(dataclasses.replace(run, temperature=1.0))) == "smoke-tiny"


def test_flag_without_identity_does_not_change_the_identity() -> None:
    quiet, loud = Longer(), Longer(verbose=True)
    assert loud.identity == quiet.identity
    assert RunFolder(loud).path == RunFolder(quiet).path
    assert "--verbose" in loud.command


def test_no_form_switches_a_flag_off() -> None:
    assert parsed("--quick").quick
    assert not parsed("--quick", "--no-quick").quick


def test_every_field_of_a_run_is_a_flag() -> None:
    assert list(flags_of(RunConfig)) == [field.name for field in dataclasses.fields(RunConfig)]
    assert defaults_of(RunConfig) == vars(RunConfig())


@pytest.mark.parametrize("name", flags_of(RunConfig))
def test_every_flag_of_a_run_is_parsed_and_documented(name: str) -> None:
    p = arguments.parser("run", "", "")
    arguments.add_run(p)
    (action,) = [action for action in p._actions if action.dest == name]
    assert flags_of(RunConfig)[name].option in action.option_strings
    assert action.help
    assert action.help is not argparse.SUPPRESS
    assert "{" not in action.help
