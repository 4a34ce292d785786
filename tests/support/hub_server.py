"""A hub of models on this machine: answers as the real one does, with its status codes and headers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
LARGE = 5_000  # bytes


@contextmanager
def serving(models: dict[str, Path | tuple[int, str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Address of a hub that has `models`, and the paths that were asked of it. A data set is called "datasets/...".

    A model is a folder, or the status, error code and message under which its files are refused. Its name and the list
    of its files are public, as those of a gated model are.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(path)
            plain = path.removeprefix("/api").removeprefix("/models")
            repo = "/".join(plain.split("/")[1 : 4 if plain.startswith("/datasets/") else 3])
            rest, model = plain.removeprefix(f"/{repo}"), models.get(repo)
            if model is None:
                return self.refuse(401, "RepoNotFound", "Invalid username or password.")
            if isinstance(model, tuple) and (model[1] != "GatedRepo" or rest.startswith("/resolve/")):
                return self.refuse(*model)
            files = {} if isinstance(model, tuple) else listing(model)
            files |= {"model_index.json": b"{}"} if isinstance(model, tuple) else {}
            if rest.startswith("/tree/"):
                tree = [{"type": "file", "path": n, "size": len(b), "oid": oid(b)} for n, b in files.items()]
                return self.answer(json.dumps(tree).encode())
            if rest.startswith(("/revision/", "")) and not rest.startswith("/resolve/"):
                siblings = [{"rfilename": name, "size": len(body), **lfs(body)} for name, body in files.items()]
                return self.answer(json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode())
            name = rest.removeprefix(f"/resolve/{COMMIT}/")
            if name not in files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            return self.answer(files[name], {"ETag": f'"{oid(files[name])}"', "X-Repo-Commit": COMMIT})

        do_HEAD = do_GET

        def answer(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, status: int, code: str, message: str) -> None:
            headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
            self.answer(json.dumps({"error": message}).encode(), headers, status)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listing(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lfs(content: bytes) -> dict[str, object]:
    """What the hub says of a file that it keeps outside of git, as it keeps all large files; {} for other files."""
    if len(content) < LARGE:
        return {}
    sha256 = hashlib.sha256(content).hexdigest()
    return {"lfs": {"size": len(content), "sha256": sha256, "pointerSize": 128}}


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
