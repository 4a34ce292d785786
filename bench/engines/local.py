"""Runs cells on this machine. Small U-Nets gain little from a second thread, but much from a second process."""

from __future__ import annotations

import os
import signal
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import parent_process
from threading import Thread
from typing import ClassVar

import psutil
import torch

from bench.cells.executor import Executor
from bench.core.config import RunConfig
from bench.core.results import CellResult
from bench.core.text.streams import let_output_leave
from bench.engines import start_method
from bench.engines.base import CannotStart, Found, Settings, Status, Watch, lost
from bench.engines.cards import Card, cards, in_turn
from bench.plan.plan import Plan, resolve
from bench.plan.work_graph import predecessors, side_by_side
from methods import CONTROLS

MAX_LOCAL_WORKERS = 4  # a worker holds about a gigabyte
_executor: Executor | None = None  # the executor of this process, if it is a worker that could start
_reason = ""  # the reason why this worker could not start


class Local:
    """Runs cells on this machine, in this process or in several worker processes."""

    about: ClassVar[str] = "this machine, one process a core, or one a GPU"
    detachable: bool = False
    begun: bool = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.attach:
            raise ValueError("--attach needs --executor slurm or ray: a local run ends with its command")
        if settings.options:
            raise ValueError(f"--executor local takes no options; found {', '.join(settings.options)}")

    def prepare(self, executor: Executor) -> None:
        """Have the libraries imported that worker processes share, unless nothing is left to compute."""
        if executor.unfinished and self._count(executor.plan) > 1:
            start_method.prepare()

    def run(self, executor: Executor, watch: Watch) -> Iterator[Found]:
        """See `bench.engines.base.Engine`."""
        store = executor.artifacts.store
        store.remove_leftovers()  # of earlier runs that were killed
        executor.drop_recomputed()
        count, retries = self._count(executor.plan), self.settings.retries
        try:
            if count > 1:
                yield from in_processes(executor, count, retries, watch)
            else:
                yield from in_this_process(executor, retries, watch)
        finally:
            store.remove_leftovers()  # of workers that were killed

    def _count(self, plan: Plan) -> int:
        return self.settings.workers or usual_count(plan)

    def cancel(self) -> None:
        """Do nothing: workers end with this process."""

    def attaching(self) -> str:
        """An empty text: nothing continues without this process."""
        return ""


def in_this_process(executor: Executor, retries: int, watch: Watch) -> Iterator[Found]:
    """Run every cell in this process, in the plan's order. Yields the index and the result of each cell."""
    cells = executor.plan.cells
    for index, cell in enumerate(cells):
        watch(Status(1, len(cells) - index - 1))
        result = executor.run(cell)
        for _ in range(retries):
            result = executor.run(cell) if result.retry else result
        yield index, result


class Worker:
    """A worker process that runs one cell at a time. If the process dies, a new one replaces it.

    Args:
        run: the run, which the process resolves itself.
        threads: number of threads of the process.
        card: the GPU of the process, and of those that replace it; None without a GPU.
    """

    def __init__(self, run: RunConfig, threads: int, card: Card | None = None) -> None:
        self._arguments = run, threads, card
        self._pool = self._new()

    def submit(self, index: int) -> Future[CellResult]:
        """Run the cell at `index` in the process."""
        try:
            return self._pool.submit(_work, index)  # starts the process if it does not run yet
        except BrokenProcessPool:  # the process died between two cells
            self.bury()
            return self._pool.submit(_work, index)

    def bury(self) -> str:
        """Replace the dead process by a new one, and return the cause of its death as a text for people."""
        self._pool.shutdown()
        process = self._context.process
        code = process.exitcode if process is not None else None
        self._pool = self._new()
        if code is None:
            return "the cause is not known"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"signal {-code}, {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"

    def dismiss(self) -> None:
        """End the process and wait for its end. It must be idle, or already killed.

        Processes that it started are ended as well.
        """
        left = self._descendants()
        self._pool.shutdown(cancel_futures=True)
        _kill(left)

    def kill(self) -> None:
        """Kill the process and every process that it started, without waiting for their work."""
        left = self._descendants()
        if self._context.process is not None:
            self._context.process.kill()
        _kill(left)

    def _descendants(self) -> list[psutil.Process]:
        process = self._context.process
        return descendants(process.pid) if process is not None and process.is_alive() and process.pid else []

    def _new(self) -> ProcessPoolExecutor:
        self._context = start_method.Recorder()
        return ProcessPoolExecutor(1, self._context, _start, (*self._arguments, dict(os.environ)))


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """All children of the process `pid`, or of this process, their children, and so on."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:  # the process has ended
        return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):  # the process has ended by itself
            process.kill()


def usual_count(plan: Plan) -> int:
    """One worker per core, at most MAX_LOCAL_WORKERS, or one per GPU; at most the cells that can train at once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = len(cards()) if torch.cuda.is_available() else min(cores, MAX_LOCAL_WORKERS)
    return max(1, min(most, side_by_side(plan)))


def in_processes(
    executor: Executor, count: int, retries: int, watch: Watch = lambda status: None
) -> Iterator[Found]:  # fmt: skip
    """Run every cell in `count` processes. Yields the index and the result of each cell when it finishes.

    On a machine with GPUs, each process sees one of them. If there are more processes than GPUs, they share.

    If a worker dies, a new worker replaces it, and its cell is tried again, up to `retries` times. After an exception,
    a KeyboardInterrupt or an early end of the generator, the workers are killed. Finished cells are in the store.

    Raises CannotStart if a worker process can't start.
    """
    plan, attempts = executor.plan, Counter[int]()
    threads = max(1, torch.get_num_threads() // count)
    waiting, before, idle = deque(in_blocks(plan, count)), predecessors(plan), list[Worker]()
    running: dict[Future[CellResult], tuple[Worker, int]] = {}

    def give(worker: Worker) -> None:
        ahead = {*waiting, *(index for _, index in running.values())} if before else set()
        free = next((index for index in waiting if before.get(index) not in ahead), None)
        if free is not None:
            waiting.remove(free)
            running[worker.submit(free)] = worker, free
        elif waiting:
            idle.append(worker)  # the waiting cells start from weights that are not finished
        else:
            worker.dismiss()  # frees memory for the other workers

    workers = [Worker(plan.run, threads, card) for card in in_turn(cards(), min(count, len(waiting)))]
    try:
        for worker in workers:
            give(worker)
        watch(Status(len(running), len(waiting)))
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, index = running.pop(future)
                attempts[index] += 1
                more = attempts[index] <= retries
                result: CellResult | None = None
                try:
                    result = future.result()
                except BrokenProcessPool:
                    how = f"the worker process died ({worker.bury()}), perhaps because memory was short"
                    if not more:
                        result = lost(executor, index, f"{how}; --workers 1 needs least", attempts[index])
                if result is None or (more and result.retry):
                    waiting.append(index)
                    result = None
                resting, idle = [worker, *idle], []
                for free in resting:
                    give(free)
                watch(Status(len(running), len(waiting)))
                if result is not None:
                    yield index, result
    except BaseException:
        for worker in workers:
            worker.kill()
        raise
    finally:
        for worker in workers:
            worker.dismiss()


def in_blocks(plan: Plan, count: int) -> Sequence[int]:
    """Indices of the plan's cells, in an order in which workers seldom wait for each other.

    1. One cell of each control, whose images all tasks share.
    2. The cells of methods: for each seed, groups of `count` tasks, and in each group method after method. So cells
       that run at the same time have different forget sets.
    3. The other cells of controls, whose images are stored by then.
    """
    seeds = {seed: i for i, seed in enumerate(plan.run.seeds)}
    order = {task.name: i for i, task in enumerate(plan.tasks)}
    methods = {name: i for i, name in enumerate(plan.methods)}
    first = {cell.method: index for index, cell in reversed([*enumerate(plan.cells)])}

    def place(index: int) -> tuple[int, ...]:
        cell = plan.cells[index]
        part = 1 if cell.method not in CONTROLS else 0 if first[cell.method] == index else 2
        return part, seeds[cell.seed], order[cell.task.name] // count, methods[cell.method], index

    return sorted(range(len(plan.cells)), key=place)


def _start(run: RunConfig, threads: int, card: Card | None, environ: Mapping[str, str]) -> None:
    global _executor, _reason
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends its workers
    os.environ.clear()
    os.environ.update(environ)  # a fork server has the variables of the time when it started
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    let_output_leave()  # or a plug-in that prints fails its cell where the command's reader is gone
    try:
        if card is not None:
            card.take()
        _executor = Executor(resolve(run))
    except Exception as error:
        _reason = f"{type(error).__name__}: {error}"  # `_work` raises it with the first cell


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()  # returns when the parent has ended for any reason
    _kill(descendants())
    os._exit(1)


def _work(index: int) -> CellResult:
    if _executor is None:
        raise CannotStart(f"a worker process could not start: {_reason}")
    return _executor.run(_executor.plan.cells[index])
