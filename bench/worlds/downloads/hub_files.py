"""The files of a repository on the Hugging Face hub, with their sizes and digests, as files to download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from bench.backbones import hub
from bench.worlds.downloads.fetch import FetchError
from bench.worlds.downloads.source import Source


@dataclass(frozen=True)
class Repository:
    """A repository on the hub.

    Args:
        name: "OWNER/NAME".
        kind: whether it is a model or a data set, which have different addresses.
    """

    name: str
    kind: Literal["model", "dataset"] = "model"

    @property
    def path(self) -> str:
        """The path of the repository after the address of the hub."""
        return f"datasets/{self.name}" if self.kind == "dataset" else self.name

    @property
    def page(self) -> str:
        """The address of the repository's page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.path}"


def listing(repository: Repository, domain: str) -> dict[str, Source]:
    """The path of each file in the repository -> the file as a source with the same path in the data folder.

    The digests are those that the hub computed. Small text files have none. All addresses name the current commit, so
    that a change on the hub during the download mixes no two versions.

    Args:
        repository: the repository.
        domain: the `domain` of the sources.

    Raises FetchError with the reason of the hub and a solution if the hub does not give the list.
    """
    from huggingface_hub import HfApi, constants

    api = HfApi(constants.ENDPOINT)
    info = api.dataset_info if repository.kind == "dataset" else api.model_info
    try:
        found = info(repository.name, files_metadata=True)
    except Exception as error:  # errors of the hub, and of the HTTP library that it uses
        raise FetchError(f"{repository.page}: {hub.reason(repository.path, error, _elsewhere(repository))}") from error
    sources = {}
    for sibling in found.siblings or ():
        folder, _, name = sibling.rfilename.rpartition("/")
        sources[sibling.rfilename] = Source(
            domain=domain,
            url=f"{repository.page}/resolve/{found.sha}/{quote(sibling.rfilename)}",
            folder=folder or ".",
            gives=(name,),
            size=sibling.size or 0,
            sha256=sibling.lfs.sha256 if sibling.lfs else None,
        )
    return sources


def _elsewhere(repository: Repository) -> str:
    kind = " --repo-type dataset" if repository.kind == "dataset" else ""
    return f"Where there is a network: hf download{kind} {repository.name} --local-dir DIR; then --data DIR"
