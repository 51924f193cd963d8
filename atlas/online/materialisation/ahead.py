"""An iterator worked through by a thread, so that its maker and its reader work side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")
_POLL_S = 0.1


def ahead(items: Iterable[T], *, depth: int) -> Iterator[T]:
    """Give the items in order, made up to `depth` ahead; an error comes where it happened."""
    queue: Queue[tuple[bool, T | BaseException | None]] = Queue(maxsize=depth)
    stopped = Event()

    def put(entry: tuple[bool, T | BaseException | None]) -> bool:
        while not stopped.is_set():
            try:
                queue.put(entry, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, entry = queue.get()
            if more:
                yield entry  # type: ignore[misc]
            elif entry is None:
                return
            else:
                assert isinstance(entry, BaseException)
                raise entry
    finally:
        stopped.set()
        thread.join()
