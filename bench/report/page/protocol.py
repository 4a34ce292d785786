"""How the board was measured, as text, from the description behind its fingerprint. It has no path of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.backbones.solvers import ABOUT
from bench.core.config import SPACINGS
from bench.core.filenames import without_paths
from bench.report.terminal import each_judge, untouched


def facts(description: Mapping[str, Any], board: pd.DataFrame, concepts: pd.DataFrame) -> list[tuple[str, str]]:
    """The facts about the measurement: (name, value), in the order of the page."""
    protocol, good = description["protocol"], board[board["status"] == "ok"]
    prompts = description["prompts"]
    each = sorted({len(texts) for texts in prompts.values()})
    out = [
        ("fingerprint", f"{board['fingerprint'].iloc[0]} ({board['protocol'].iloc[0]} protocol)"),
        ("world", str(description["world"])),
        ("backbone", f"weights {description['backbone'][:12]}"),
        ("images", f"{_many(protocol, 'images')}, from {_or(each)} prompts"),
        ("noise", f"{_noise(protocol)}: the same for every method"),
        ("sampler", _sampler(protocol)),
        ("guidance", f"classifier-free, {protocol['guidance_scale']:g}"),
        ("arithmetic", str(description["dtype"]).removeprefix("torch.")),
        ("forget set", f"{protocol['forget_images']} images of each forgotten concept, from seed "
                       f"{protocol['forget_seed']}; on request {protocol['retain_images']} of each retained one"),
    ]  # fmt: skip
    if len(good) and pd.notna(good["judge"].iloc[0]):
        right, count = good["judge"].iloc[0], good["judge_n"].iloc[0]
        out.append(
            (
                "judges",
                f"{right:.1f} % right on {count} real pictures{each_judge(good)}; weights {description['panel'][:12]}",
            )
        )
        weakest = concepts.drop_duplicates("concept").nsmallest(1, "judge")
        if len(weakest) and weakest["judge"].iloc[0] < right:
            out.append(
                ("weakest concept", f"{weakest['concept'].iloc[0]}, {weakest['judge'].iloc[0]:.1f} % of real ones")
            )
    if text := untouched(good):
        out.append(("judges", f"{text}; weights {description['panel'][:12]}"))
    if len(good) and pd.notna(good["fid_extractor"].iloc[0]):
        real = good["judge_n"].iloc[0] > 0 or "untouched" not in good
        count = _many(protocol, "reference", "real pictures " if real else "images ")
        out.append(("features", f"{good['fid_extractor'].iloc[0]}; {count}"))
    out += [(what, str(which)) for what, which in description.get("chosen", {}).items()]
    out.append(("hardware", str(description["device"])))
    out.append(("versions", ", ".join(f"{name} {number}" for name, number in description["versions"].items())))
    return out


def _many(protocol: Mapping[str, Any], what: str, noun: str = "") -> str:
    each = protocol[f"{what}_per_concept"]
    return f"{each} {noun}of each concept" if each else f"{protocol[f'{what}_per_prompt']} {noun}of each prompt"


def _sampler(protocol: Mapping[str, Any]) -> str:
    solver = protocol["scheduler"]
    spacing = protocol.get("timestep_spacing") or SPACINGS[solver][0]
    return f"{solver} ({ABOUT[solver]}), {protocol['num_inference_steps']} steps, {spacing} timesteps"


def _noise(protocol: Mapping[str, Any]) -> str:
    if protocol["noise_seeds"]:
        return f"of a prompt's images in order from seeds {', '.join(map(str, protocol['noise_seeds']))}"
    return f"follows from seed {protocol['evaluation_seed']}, prompt and index"


def _or(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def failures(cells: pd.DataFrame) -> list[dict[str, str]]:
    """The cells that did not finish: method, task, seed, status, reason."""
    bad = cells[cells["status"] != "ok"]
    return [
        {
            "method": row["method"],
            "task": row["task"],
            "seed": str(row["seed"]),
            "status": row["status"],
            "reason": "" if pd.isna(row["reason"]) else without_paths(str(row["reason"])),
        }
        for row in bad.to_dict("records")
    ]
