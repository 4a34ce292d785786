"""Keys name the solver exactly where release 0.1 would have sampled with another one."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.backbones import noise_schedule
from bench.cells.artifacts import Artifacts, Context
from bench.cells.fingerprint import describe, solvers_of
from bench.core.config import RunConfig
from bench.plan.plan import Plan, resolve
from bench.worlds.pocket.weights import WEIGHTS

SD14 = {  # as Stable Diffusion 1.4 has it
    "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
    "trained_betas": None, "clip_sample": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(WEIGHTS / "pipeline", tmp_path_factory.mktemp("odd") / "pipeline"))


def planned(copied: Path, scheduler: dict[str, Any] | None, protocol: dict[str, str]) -> Plan:
    """A plan for the pocket model with another scheduler; None: with its own."""
    usual = json.loads((WEIGHTS / "pipeline" / noise_schedule.FILE).read_text())
    (copied / noise_schedule.FILE).write_text(json.dumps(usual if scheduler is None else scheduler))
    overrides = {"protocol": protocol} if protocol else {}
    return resolve(RunConfig(("esd-x",), "smoke", "pocket", backbone=str(copied), overrides=overrides))


DDIM = {"scheduler": "ddim"}


@pytest.mark.parametrize(
    ("scheduler", "protocol", "named"),
    [
        (None, {}, set()),
        (None, DDIM, {"solver"}),  # it had "linspace" timesteps, as the pocket's folder says
        (SD14, {}, set()),
        (SD14, DDIM, set()),
        ({**SD14, "clip_sample": True}, DDIM, set()),
        ({**SD14, "steps_offset": 0}, DDIM, set()),  # diffusers changed it to 1
        ({**SD14, "solver_type": "bh2", "variance_type": "fixed_small"}, {}, set()),  # which diffusers ignored
        ({**SD14, "lambda_min_clipped": -math.inf}, {}, set()),
        ({**SD14, "lambda_min_clipped": -5.1}, {}, {"solver"}),
        ({**SD14, "thresholding": True}, {}, {"solver", "path"}),
        ({**SD14, "algorithm_type": "sde-dpmsolver++"}, {}, {"solver"}),
        ({**SD14, "algorithm_type": "sde-dpmsolver++"}, DDIM, set()),
        ({**SD14, "use_karras_sigmas": True}, {}, {"solver"}),
        ({**SD14, "timestep_spacing": "trailing"}, {}, {"solver"}),
        ({**SD14, "timestep_spacing": "trailing"}, DDIM, {"solver"}),
        ({**SD14, "variance_type": "learned"}, {}, {"solver"}),
        ({**SD14, "set_alpha_to_one": True}, DDIM, {"solver"}),
        ({name: value for name, value in SD14.items() if name != "steps_offset"}, {}, {"path"}),
        (SD14, {"timestep_spacing": "leading"}, {"solver"}),
    ],
)
def test_keys_name_the_solver_where_release_01_had_another(
    copied: Path, scheduler: dict[str, Any] | None, protocol: dict[str, str], named: set[str]
) -> None:
    plan = planned(copied, scheduler, protocol)
    artifacts = Artifacts(Context(plan, judges_digest=lambda: ""))
    assert solvers_of(plan).keys() == named
    assert ("solver" in artifacts.images.key(None)) == ("solver" in named)
    assert ("path" in artifacts.weights.key(plan.cells[-1])) == ("path" in named)
    assert describe(plan, "", "", {}).keys() >= named


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"protocol": {"num_inference_steps": "1000"}}, r"num_inference_steps must be within 1\.\.999, not 1000"),
        ({"protocol": {"num_inference_steps": "1000", **DDIM}}, r"num_inference_steps must be within 1\.\.999"),
        (
            {"protocol": {"num_inference_steps": "999", "timestep_spacing": "leading"}},
            r"num_inference_steps must be within 1\.\.998, not 999",
        ),
        ({"esd-x": {"path_steps": "1000"}}, r"esd-x: path_steps must be within 1\.\.999, not 1000"),
        ({"esd-x": {"path_steps": "0"}}, "path_steps must be"),
        ({"mimmu": {"t_max": "1000"}}, "mimmu: t_max must be at most 999, not 1000"),
        (
            {"protocol": {"timestep_spacing": "trailing"}},
            "unknown timestep_spacing 'trailing'.*known: linspace, leading",
        ),
        ({"protocol": {"timestep_spacing": "linspace", **DDIM}}, "unknown timestep_spacing 'linspace'.*known: leading"),
    ],
)
def test_steps_that_a_backbone_does_not_have_are_refused(overrides: dict[str, dict[str, str]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(RunConfig(("esd-x", "mimmu"), "smoke", "pocket", overrides=overrides))
