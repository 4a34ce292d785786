"""One published file: its address, size and digest, and its place in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One file to download.

    Args:
        domain: the data set or the model that the file belongs to.
        url: the URL of the file.
        folder: a folder in the data folder. It receives the file, or the contents of an archive.
        gives: the names that `folder` must contain after the download. Other contents of an archive are not kept.
        size: bytes of the file. Images hardly compress, so the unpacked images need about as many bytes.
        sha256: SHA-256 in hex. None if it is unknown; then only the content of the file is checked.
        within: a folder in `folder`. The names in `gives` may be in this folder instead.
    """

    domain: str
    url: str
    folder: str
    gives: tuple[str, ...]
    size: int
    sha256: str | None
    within: str = "."

    @property
    def file(self) -> str:
        """The name of the downloaded file."""
        return self.url.rpartition("/")[2]

    @property
    def packed(self) -> bool:
        """Whether the file is an archive."""
        return self.file not in self.gives

    def there(self, data: Path) -> bool:
        """Whether the data folder `data` contains every name in `gives`."""
        root = data / self.folder
        return all((root / name).exists() or (root / self.within / name).exists() for name in self.gives)

    def place(self, data: Path) -> Path:
        """The path of the downloaded file in the data folder `data`."""
        return data / self.folder / self.file
