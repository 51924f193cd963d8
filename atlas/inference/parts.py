"""How the worker's parts are kept running: each fails, waits and recovers on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from atlas.errors import AtlasError
from atlas.inference.metrics import Metrics
from atlas.telemetry import get_logger

__all__ = ["Parts"]

log = get_logger(__name__)

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0


class Parts:
    """Knows which parts fail at present, and says so once for each failure."""

    def __init__(self, metrics: Metrics) -> None:
        self.stopping = asyncio.Event()
        self._metrics = metrics
        self._failing: dict[str, str] = {}

    @property
    def failing(self) -> dict[str, str]:
        """The reason of each part that fails at present."""
        return dict(self._failing)

    def works(self, part: str) -> None:
        """Note that a part has done its work once more."""
        if self._failing.pop(part, None) is not None:
            log.info("part_recovered", part=part)

    def fails(self, part: str, error: Exception) -> None:
        """Note that a part has failed; a failure that lasts is one record."""
        self._metrics.errors.labels(part).inc()
        reason = str(error) or type(error).__name__
        if self._failing.get(part) == reason:
            return
        self._failing[part] = reason
        # The trace of a failure that has a name in our tree would say nothing more.
        log.warning(
            "part_failed", part=part, reason=reason, exc_info=not isinstance(error, AtlasError)
        )

    def forget(self, part: str) -> None:
        """Note that a part is wanted no longer."""
        self._failing.pop(part, None)

    async def keep(self, part: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part until it returns; when it raises, start it again after a growing wait.

        Whatever a part raises stops that part's work until it runs again, and no other's: a view
        whose rows cannot be read sends no signals meanwhile, and the other views go on.
        """
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await run()
            except Exception as error:
                if part not in self._failing:  # it has worked since it failed last
                    wait_s = _FIRST_WAIT_S
                self.fails(part, error)
            else:
                return
            if await self.stopped_within(wait_s):
                return
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def stopped_within(self, seconds: float) -> bool:
        """Wait so long; return at once, and True, when the worker is to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True
