"""Mistakes that the checks of the pretended device must find. Each is put into a function of the real code.

The planted bugs are:

1. device: the noise of a training stays on the CPU;
2. device: the initial noise of the sampler stays on the CPU;
3. device: the tokens of CLIP score stay on the CPU;
4. device: the retained token states of the projection stay on the CPU;
5. generator: timesteps are drawn on the device from the generator of the CPU;
6. generator: the noise of a sampling path is drawn on the device from the generator of the CPU;
7. numpy: the digest of tensors reads them on the device;
8. numpy: the features of the feature extractor stay on the device, where metrics read them;
9. dtype: the student's prediction keeps the few bits of autocast;
10. dtype: the projection multiplies float32 by float64;
11. optimiser layout: the moments of a resumed training have not the layout of the convolutions;
12. optimiser layout: changed convolutions are stored channels_last;
13. optimiser layout: an 8-bit optimiser leaves the convolutions contiguous after its training;
14. waiting: the sampler looks at its latents in each step;
15. waiting: a sampling path looks at its latents in each step;
16. waiting: pictures are read before their copy to the CPU has arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support import pretended
from support.driving import networks
from support.driving.judging import check_judges
from support.driving.planting import planted
from support.driving.resuming import check_resuming

from bench.worlds import World

pytestmark = pytest.mark.slow


class Driven(NamedTuple):
    """What a check needs."""

    pair: networks.Pair
    world: World
    account: pretended.Account
    folder: Path
    scratch: Path


class Bug(NamedTuple):
    """A planted mistake, the check that must fail, and a part of its message."""

    place: str
    line: str
    faulty: str
    check: Callable[[Driven], None]
    message: str


def trains(name: str = "mimmu", **settings: object) -> Callable[[Driven], None]:
    return lambda driven: networks.check_method(driven.pair, driven.world, name, settings)


def draws(driven: Driven) -> None:
    networks.check_pictures(driven.pair)


def judges(driven: Driven) -> None:
    check_judges(driven.world)


def resumes(driven: Driven) -> None:
    check_resuming(driven.folder, driven.world, driven.scratch / "half", "adam", before=False)


def low_precision(driven: Driven) -> None:
    networks.check_low_precision(networks.loaded(driven.folder, "bf16").there, driven.world, "pretrained")


def waits_drawing(driven: Driven) -> None:
    networks.check_waits_of_drawing(driven.pair.there, driven.account, "dpmsolver++")


def waits_training(driven: Driven) -> None:
    networks.check_waits_of_training(driven.pair.there, driven.world, driven.account, "esd-x")


HARNESS, TWO_DEVICES = "bench.training.harness:Harness", "at least two devices"
BUGS = {
    "1. device": Bug(
        f"{HARNESS}.noised",
        "self.sent(torch.randn(latents.shape, generator=self.generator))",
        "torch.randn(latents.shape, generator=self.generator)",
        trains(),
        TWO_DEVICES,
    ),
    "2. device": Bug(
        "bench.backbones.sampler:denoise",
        "device.sent(latents, backbone.device) *",
        "latents *",
        draws,
        TWO_DEVICES,
    ),
    "3. device": Bug(
        "bench.cells.judges:Judges._texts",
        "clip.tokenizer(distinct).to(self.device)",
        "clip.tokenizer(distinct)",
        judges,
        TWO_DEVICES,
    ),
    "4. device": Bug(
        "bench.training.regularisers:Projection.__init__",
        "retained.to(self.matrices[0].device, torch.float64)",
        "retained.cpu().to(torch.float64)",
        trains(regulariser="projection", parameters="attn2-kv"),
        TWO_DEVICES,
    ),
    "5. generator": Bug(
        f"{HARNESS}._uniform",
        "(count,), generator=self.generator)",
        "(count,), generator=self.generator, device=self.device)",
        trains(),
        "for generator",
    ),
    "6. generator": Bug(
        f"{HARNESS}._sampled",
        "latent_shape, generator=self.generator)",
        "latent_shape, generator=self.generator, device=self.device)",
        trains("esd-x"),
        "for generator",
    ),
    "7. numpy": Bug("bench.core.digest:of_tensors", ".detach().cpu()", ".detach()", judges, "numpy"),
    "8. numpy": Bug(
        "bench.cells.judges:Judges.features",
        "[0].float().cpu()",
        "[0].float()",
        judges,
        "numpy",
    ),
    "9. dtype": Bug(
        "bench.training.student_teacher:StudentTeacher.student",
        "[0].float()",
        "[0]",
        low_precision,
        "bfloat16",
    ),
    "10. dtype": Bug(
        "bench.training.regularisers:Projection.after_step",
        "step = matrix.double() - before.double()",
        "step = matrix - before",
        trains(regulariser="projection", parameters="attn2-kv"),
        "dtype",
    ),
    "11. optimiser layout": Bug(
        "bench.training.optimizers:restore",
        "value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)",
        "value = value.clone()",
        resumes,
        "layout",
    ),
    "12. optimiser layout": Bug(
        "bench.training.student_teacher:StudentTeacher.changed_tensors",
        ".clone(memory_format=torch.contiguous_format)",
        ".clone()",
        trains(parameters="unet"),
        "is not contiguous",
    ),
    "13. optimiser layout": Bug(
        "bench.training.student_teacher:StudentTeacher._started",
        "parameter.data = memory[name]",
        "pass",
        trains(parameters="unet", optimizer="adam8bit"),
        "another layout",
    ),
    "14. waiting": Bug(
        "bench.backbones.sampler:denoise",
        "return_dict=False)[0]\n    finite",
        "return_dict=False)[0]\n        assert latents.isfinite().all()\n    finite",
        waits_drawing,
        "waits by the number of steps",
    ),
    "15. waiting": Bug(
        "bench.backbones.sampling_paths:follow",
        "return_dict=False)[0]\n",
        "return_dict=False)[0]\n        assert latents.isfinite().all()\n",
        waits_training,
        "waits by the number of steps",
    ),
    "16. waiting": Bug(
        "bench.backbones.sampler:_decode",
        ".to(torch.uint8).cpu()",
        '.to(torch.uint8).to("cpu", non_blocking=True)',
        draws,
        "grey levels",
    ),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_planted_bug_is_found(
    bug: Bug, pair: networks.Pair, world: World, account: pretended.Account, pipeline_folder: Path, tmp_path: Path
) -> None:
    driven = Driven(pair, world, account, pipeline_folder, tmp_path)
    with (
        planted(bug.place, bug.line, bug.faulty),
        pytest.raises((AssertionError, RuntimeError, TypeError), match=bug.message),
    ):
        bug.check(driven)


def test_bug_in_a_line_that_is_not_there_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="'no such line' 0 times, not once"),
        planted("bench.backbones.sampler:sample", "no such line", ""),
    ):
        pass
