"""Batches read ahead by threads, in order, a bounded number at a time.

Reading is decompression and array arithmetic, which let other threads run meanwhile. What a batch holds
depends on its step alone, so the number of threads changes no byte, and a resumed run goes on exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
SPARE = 1  # batches under way or ready beyond one a thread: what the loop takes next


@contextmanager
def read_ahead(make: Callable[[int], T], last: int, threads: int = 1) -> Iterator[Callable[[int], T]]:
    """Yield a function that gives `make(step)` for consecutive steps before `last`, made ahead by threads.

    The first call says where to begin. An error of `make` is raised where its batch is asked for.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    waiting: deque[tuple[int, Future[T]]] = deque()
    following: list[int] = []

    def submit() -> None:
        if following[0] < last:
            waiting.append((following[0], pool.submit(make, following[0])))
            following[0] += 1

    def take(step: int) -> T:
        if not following:
            following.append(step)
            for _ in range(threads + SPARE):
                submit()
        if not waiting or waiting[0][0] != step:
            raise ValueError(
                f"batch {step} was asked for, the next in order is {waiting[0][0] if waiting else None}"
            )
        _, future = waiting.popleft()
        batch = future.result()
        submit()
        return batch

    try:
        yield take
    finally:
        pool.shutdown(cancel_futures=True)
