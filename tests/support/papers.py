"""A file of reported figures for the board that `exhibition` makes."""

from __future__ import annotations

from pathlib import Path

HEAD = "kind,world,suite,method,ua,ira,fid_reported,storage_gb,source,url,setting,verified,note"
ROWS = (
    'reported,tiny,finegrained,ESD,98.58,80.97,65.55,0.0,"A & B, Table 2",https://example.org/a?x=1&y=2,SD 1.5,yes,',
    "reported,tiny,finegrained,<Old>,60.8,,,,C,https://example.org/c,,no,from notes",
    "reported,tiny,style,CA,1,2,3,4,C,https://example.org/c,,yes,",
)


def publish(folder: Path) -> Path:
    """Write it into `folder`, which is made."""
    folder.mkdir()
    (folder / "support.papers.csv").write_text("\n".join([HEAD, *ROWS]) + "\n")
    return folder
