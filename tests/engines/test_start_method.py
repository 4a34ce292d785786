"""Workers start from a server that has imported the large libraries, and are otherwise like new interpreters."""

from __future__ import annotations

import importlib.util
import os

import psutil
import pytest

from bench.core.config import RunConfig
from bench.engines import start_method
from bench.engines.local import Worker


@pytest.mark.parametrize("name", start_method.PRELOADED)
def test_what_the_server_imports_exists(name: str) -> None:
    assert importlib.util.find_spec(name) is not None  # the server ignores a name that it can't import


@pytest.mark.skipif(start_method.context().get_start_method() != "forkserver", reason="workers are not forked here")
def test_a_worker_is_forked_and_has_the_variables_of_the_moment_when_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("first", "second"):  # the server starts before the second value is set
        monkeypatch.setenv("LETHE_TEST_VARIABLE", value)
        worker = Worker(RunConfig(world="none"), 1)
        try:
            found = worker._pool.submit(os.getenv, "LETHE_TEST_VARIABLE").result()
            process = worker._context.process
            assert process is not None
            assert psutil.Process(process.pid).ppid() != psutil.Process().pid
        finally:
            worker.dismiss()
        assert found == value
