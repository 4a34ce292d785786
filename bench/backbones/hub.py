"""Gets models from the cache of the Hugging Face hub on this machine, or from the hub, and explains failures."""

from __future__ import annotations

import fnmatch
import functools
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.backbones import cached_folder
from bench.backbones import folder as pipeline_folder
from bench.backbones.checks import settings_check

SETTINGS = (
    pipeline_folder.INDEX,
    *(f"{part}/config.json" for part in pipeline_folder.NETWORKS),
    *(f"{p}/*" for p in pipeline_folder.OTHERS),
)
KINDS: tuple[dict[str, Any], ...] = ({}, {"end": "bin"}, {"half": True})  # of weights, the preferred kind first
ELSEWHERE = "Where there is a network:\n  hf download {} --local-dir DIR\nthen give the path: --models NAME=DIR/..."
WITHDRAWN = {  # models that their owners removed from the hub -> the name of a copy
    "runwayml/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-2-1-base": "sd21-base",
}


def settings(repo: str) -> Path:
    """A folder with a model's configuration and tokenizer, without its weights.

    Raises FileNotFoundError with the reason if the hub does not provide them.
    """
    return _kept(repo, SETTINGS) or _fetch(repo, SETTINGS)


def pipeline(repo: str) -> Path:
    """A folder with the files of a model that are loaded, without its safety checker and copies in other formats.

    Weights in half precision are taken only if the hub has no others.

    If the files are on this machine, they are used without asking the hub. So a change on the hub does not change a
    run. Raises ValueError before the download if methods can't work on the model. Raises FileNotFoundError with the
    reason of the hub and a solution if the model can't be downloaded.
    """
    kept = _kept(repo, SETTINGS)
    if kept:
        settings_check.require_usable(kept)
        if _whole(kept):
            return kept
    folder = _fetch(repo, SETTINGS)
    settings_check.require_usable(folder)
    for kind in KINDS:
        folder = _fetch(repo, (*SETTINGS, *_weights(**kind)), folder.name)
        if _whole(folder):
            return folder
    pipeline_folder.files(folder)  # raises an error that names the missing part
    raise FileNotFoundError(f"backbone {repo!r} is incomplete in {folder}")


def loaded(paths: Sequence[str]) -> list[str]:
    """Those files of a pipeline folder that are loaded: the settings, and one kind of weights of each network.

    Args:
        paths: the paths of all files, relative to the folder.
    """
    chosen = _matching(paths, SETTINGS)
    for part in pipeline_folder.NETWORKS:
        kinds = (_matching(paths, _weights(**kind)) for kind in KINDS)
        of_part = ([path for path in kind if path.startswith(f"{part}/")] for kind in kinds)
        chosen += next((kind for kind in of_part if kind), [])
    return chosen


def _matching(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [path for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]


def part(repo: str, within: str) -> Path | None:
    """A file or folder of a repository on the hub, or the whole repository if `within` is ""; None if it is not there.

    What is on this machine is used without asking the hub. Raises FileNotFoundError with the reason of the hub and a
    solution if it can't be asked.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    known = names(repo)
    inside = [name for name in known if not within or name == within or name.startswith(f"{within}/")]
    if not inside:
        return None
    if not within and pipeline_folder.INDEX in known:
        return pipeline(repo)
    wanted = [glob.escape(name) for name in inside]
    for local in (True, False):
        try:
            got = Path(snapshot_download(repo, allow_patterns=wanted, local_files_only=local))
            if not local or all((got / name).is_file() for name in inside):
                return got / within
        except LocalEntryNotFoundError as error:
            if not local:
                raise FileNotFoundError(f"{repo}: {reason(repo, error, ELSEWHERE.format(repo))}") from error
        except Exception as error:  # errors of the hub, of the HTTP library that it uses, and of the disk
            raise FileNotFoundError(f"{repo}: {reason(repo, error, ELSEWHERE.format(repo))}") from error
    return None


@functools.cache
def names(repo: str) -> tuple[str, ...]:
    """The names of all files in a repository on the hub, or else of those that are on this machine.

    () if the hub has no such repository. Raises FileNotFoundError like `part`.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return tuple(HfApi().list_repo_files(repo))
    except (RepositoryNotFoundError, HFValidationError):
        return ()
    except Exception as error:  # errors of the hub and of the HTTP library that it uses
        try:
            kept = Path(snapshot_download(repo, local_files_only=True))
        except LocalEntryNotFoundError:
            raise FileNotFoundError(f"{repo}: {reason(repo, error, ELSEWHERE.format(repo))}") from error
        return tuple(sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()))


def _weights(end: str = "safetensors", half: bool = False) -> list[str]:
    names = {**pipeline_folder.NETWORKS, **(pipeline_folder.PICKLED if end == "bin" else {})}
    shapes = ("{}.fp16.{}",) if half else ("{}.{}", "{}-?????-of-?????.{}", "{}.{}.index.json")
    return [f"{part}/{shape.format(stem, end)}" for part, stem in names.items() for shape in shapes]


def _whole(folder: Path) -> bool:
    try:
        cached_folder.sources(folder)
    except FileNotFoundError:
        return False
    return True


def _kept(repo: str, patterns: Sequence[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, allow_patterns=list(patterns), local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if all(any(folder.glob(pattern)) for pattern in patterns) else None


def _fetch(repo: str, patterns: Sequence[str], revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # errors of the hub, of the HTTP library that it uses, and of the disk
        raise FileNotFoundError(f"backbone {repo!r}: {reason(repo, error, _elsewhere(repo))}") from error


def reason(repo: str, error: Exception, elsewhere: str) -> str:
    """A text for people: why a model or a data set can't be downloaded, and what to do.

    Args:
        repo: "OWNER/NAME"; for a data set "datasets/OWNER/NAME".
        error: the error of the hub, of the HTTP library that it uses, or of the disk.
        elsewhere: how to get the files where there is a network.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the reason why there was no request, or the answer of the hub
    said = " ".join((getattr(error, "server_message", None) or str(error) or type(error).__name__).split())
    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, GatedRepoError):
        return f"the hub keeps it behind a licence ({said}). Accept it at {page}, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        known = WITHDRAWN.get(repo)
        if known:
            return f"its owners withdrew it from the hub ({said}). A copy is kept there: --backbone {known}"
        kind = "data set" if repo.startswith("datasets/") else "model"
        return f"the hub has no such {kind}, or it is private ({said}). A private one needs `hf auth login`"
    if isinstance(error, DisabledRepoError):
        return f"the hub has disabled it ({said}). See {page}"
    if isinstance(error, HFValidationError):
        return f"this is not a valid name of a model on the hub ({said})"
    if isinstance(error, OfflineModeIsEnabled):
        return f"it is not on this machine, and HF_HUB_OFFLINE keeps the hub out of reach. {elsewhere}"
    if isinstance(error, HfHubHTTPError):
        return f"the hub refuses ({said}). {elsewhere}"
    return f"it is not on this machine, and the hub can't be reached ({said}). {elsewhere}"


def _elsewhere(repo: str) -> str:
    wanted = " ".join(f"'{p}'" if "*" in p else p for p in (*SETTINGS, *(w for w in _weights()[::3])))
    command = f"hf download {repo} {wanted} --local-dir DIR"
    return f"Where there is a network:\n  {command}\nthen give the folder: --backbone DIR"
