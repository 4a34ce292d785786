"""Cells in worker processes: the pocket U-Net gains little from a second thread and all from a second process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any

import torch

from bench.config import RunConfig
from bench.executor import Executor
from bench.plan import Plan, resolve

MOST = 4  # a worker holds about a gigabyte
_executor: Executor | None = None  # of this process, if it is a worker


class WorkerDied(RuntimeError):
    """A worker process ended without a result: killed from outside, or for want of memory."""


def usual_count(plan: Plan) -> int:
    """One worker a core, as many as there are tasks, at most MOST; on CUDA one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if torch.cuda.is_available() else max(1, min(cores, len(plan.tasks), MOST))


def run(plan: Plan, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run every cell in `count` processes; yield (index of the cell, its result) as they finish.

    Raises WorkerDied. On any exception, KeyboardInterrupt and a generator closed early among them, the workers are
    ended at once; what they had finished is in the store.
    """
    threads = max(1, torch.get_num_threads() // count)
    with ProcessPoolExecutor(count, get_context("spawn"), _start, (plan.run, threads)) as pool:
        futures = {pool.submit(_work, index): index for index in in_blocks(plan, count)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():
                worker.kill()
            if isinstance(error, BrokenProcessPool):
                raise WorkerDied("a worker died, perhaps for want of memory; --workers 1 needs least") from error
            raise


def in_blocks(plan: Plan, count: int) -> Sequence[int]:
    """Indices of the plan's cells, `count` tasks at a time and method by method within them.

    Neighbours in this order share no forget set, so workers seldom wait for each other's.
    """
    order = {task.name: i for i, task in enumerate(plan.tasks)}
    methods = {name: i for i, name in enumerate(plan.methods)}
    return sorted(
        range(len(plan.cells)),
        key=lambda i: (order[plan.cells[i].task.name] // count, methods[plan.cells[i].method], i),
    )


def _start(run: RunConfig, threads: int) -> None:
    global _executor
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _executor = Executor(resolve(run))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()  # returns only when the parent is gone, however it went
    os._exit(1)


def _work(index: int) -> dict[str, Any]:
    assert _executor is not None
    return _executor.run(_executor.plan.cells[index])
