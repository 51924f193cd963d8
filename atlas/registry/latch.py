"""The halt latch: SQL says whether the desk may trade, Redis enforces it.

A halt is written to SQL first, so that no restart forgets it, and then to Redis, where it stops the
next signal. Only a person releases it. Redis that is away or empty counts as halted.
"""

from __future__ import annotations

import time
from datetime import timedelta

from redis import Redis

from atlas.bus import forget_halts_after, grant, is_permitted, revoke
from atlas.errors import Halted, StoreUnavailable
from atlas.registry.halts import HaltEntry, HaltKind, HaltLog

__all__ = ["Latch"]

_RETRY_S = 0.2


class Latch:
    """Halts and releases the desk.

    Parameters
    ----------
    log : HaltLog
        The truth.
    redis : Redis
        Where the permit is; it need not answer when the latch is built.
    """

    def __init__(self, log: HaltLog, redis: Redis) -> None:
        self._log = log
        self._redis = redis

    def halt(self, who: str, why: str, *, patience: timedelta = timedelta(seconds=10)) -> HaltEntry:
        """Stop every live signal; when this returns, none follows until a person releases it.

        Trading stops even where the halt cannot be recorded; it then holds in Redis until a person
        releases it, whatever SQL says.

        Parameters
        ----------
        patience : timedelta
            How long to wait for a Redis that does not answer.

        Raises
        ------
        StoreUnavailable
            If SQL did not take the halt (Redis did), or Redis does not answer (SQL has it).
        """
        entry, unrecorded = None, None
        try:
            entry = self._log.halt(who, why)
        except StoreUnavailable as error:
            unrecorded = error
        self._revoke(f"{who}: {why}", entry, patience)
        if entry is None:
            raise StoreUnavailable(
                "Trading is halted in Redis, but the halt was not recorded. Mend the SQL database "
                f"and halt again. {unrecorded}"
            ) from unrecorded
        return entry

    def release(self, who: str, why: str, *, expected: int) -> HaltEntry:
        """Permit live signals again: a person's act, recorded under that person's name.

        Parameters
        ----------
        expected : int
            Sequence number of the newest entry that the person has seen; 0 for an empty log.

        Raises
        ------
        StaleGeneration
            If there is a newer entry that the person has not seen.
        Halted
            If a newer halt reached Redis before this release did.
        StoreUnavailable
            If SQL or Redis does not answer; the desk stays halted.
        """
        entry = self._log.release(who, why, expected=expected)
        if not grant(self._redis, who, sequence=entry.sequence):
            self._heed_replaced_log()
            raise Halted(
                f"The release (entry {entry.sequence}) came after a newer halt had stopped "
                "trading; the desk stays halted. Look at that halt and release again."
            )
        return entry

    def restore(self) -> bool:
        """Make Redis agree with the log; return whether the desk may trade then.

        Run it when Redis has started and before anything publishes.
        """
        last = self._log.last()
        if last is not None and last.kind is HaltKind.RELEASE:
            if grant(self._redis, last.who, sequence=last.sequence, lifts_unrecorded=False):
                return True
        else:
            revoke(self._redis, sequence=last.sequence if last else 0)
        self._heed_replaced_log()
        return False

    def last(self) -> HaltEntry | None:
        """Return the newest entry of the log."""
        return self._log.last()

    def permitted(self) -> bool:
        """Tell whether live signals may leave at this moment."""
        return is_permitted(self._redis)

    def _heed_replaced_log(self) -> None:
        # Every halt in Redis was in SQL before. One that is not there now belongs to a log that
        # was lost; without this no release would ever be new enough again.
        last = self._log.last()
        forget_halts_after(self._redis, last.sequence if last else 0)

    def _revoke(self, by: str, entry: HaltEntry | None, patience: timedelta) -> None:
        give_up = time.monotonic() + patience.total_seconds()
        while True:
            try:
                revoke(self._redis, by, sequence=entry.sequence if entry else None)
            except StoreUnavailable as error:
                if time.monotonic() < give_up:
                    time.sleep(_RETRY_S)
                    continue
                recorded = f"recorded as entry {entry.sequence}" if entry else "NOT recorded"
                raise StoreUnavailable(
                    f"The halt is {recorded}, and nothing is published while Redis is away; when "
                    f"it is back, halt again to be sure. {error}"
                ) from error
            return
