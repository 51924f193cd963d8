"""Who may bring a view online: one run at a time, by a claim in Redis that ends by itself.

The claim says who holds it and since when. Its holder renews it while it works; a holder that dies
is replaced when it runs out. What a holder may no longer do without it, to enter its work into the
ledger, is checked inside Redis in the same step (`ledger.commit`), so a holder that was paused and
comes back too late changes nothing there. Rows it lands late are compared like any others.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
import uuid
from datetime import UTC, datetime
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from redis import Redis

from atlas.bus import Script
from atlas.errors import StoreUnavailable, ViewBusy
from atlas.telemetry import get_logger

__all__ = ["Claim", "work_key"]

log = get_logger(__name__)

_TAKE = Script("""
local holder = redis.call('GET', KEYS[1])
if holder then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
""")

_RENEW = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

_RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

_POLL_S = 0.2


def work_key(project: str, stored_view: str, what: str) -> str:
    """Return the Redis key of a view's claim or ledger; all of a view lie in one slot."""
    return f"atlas:online:{{{project}/{stored_view}}}:{what}"


class Claim:
    """The claim to one view, held inside the `with` block.

    Parameters
    ----------
    lease_s : float
        How long the claim outlives its holder.
    wait_s : float
        How long to wait for another holder.
    """

    def __init__(
        self, redis: Redis, project: str, stored_view: str, *, lease_s: float, wait_s: float
    ) -> None:
        self._redis = redis
        self._view = stored_view
        self._lease_s = lease_s
        self._wait_s = wait_s
        self.key = work_key(project, stored_view, "claim")
        self.mark = ""
        """What the key holds while the claim is ours."""
        self._until = 0.0
        self._done = Event()
        self._renewal: Thread | None = None

    def __enter__(self) -> Self:
        """Wait for the claim and take it.

        Raises
        ------
        ViewBusy
            If another run still holds it after the wait.
        StoreUnavailable
            If Redis does not answer.
        """
        self.mark = json.dumps(
            {
                "token": uuid.uuid4().hex,
                "who": f"{_user()}@{socket.gethostname()}, process {os.getpid()}",
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        self._take()
        self._renewal = Thread(target=self._renew, name=f"claim {self._view}", daemon=True)
        self._renewal.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the claim back."""
        self._done.set()
        if self._renewal is not None:
            self._renewal.join()
        try:
            _RELEASE.run(self._redis, (self.key,), (self.mark,))
        except StoreUnavailable:
            # It runs out by itself; what went wrong before must not be hidden.
            log.warning("claim_not_released", view=self._view)

    def check(self) -> None:
        """Stop a run that has lost its claim.

        Raises
        ------
        ViewBusy
            If the claim has run out, or was taken away.
        """
        if time.monotonic() >= self._until:
            raise self.lost()

    def lost(self) -> ViewBusy:
        """Return the error of a run that has lost its claim."""
        return ViewBusy(
            f"Expected to hold the claim to bring view {self._view} online for the whole run; it "
            f"was lost: the run stood still for longer than {self._lease_s:g} s, or Redis was "
            "emptied. What has landed is right, and nothing was entered in the ledger. Run again."
        )

    def _take(self) -> None:
        started = time.monotonic()
        while True:
            # From before the request: Redis counts from a later moment, so we stop before it does.
            asked = time.monotonic()
            holder: bytes = _TAKE.run(self._redis, (self.key,), (self.mark, self._lease_ms))
            if not holder:
                self._until = asked + self._lease_s
                return
            left = self._wait_s - (time.monotonic() - started)
            if left <= 0:
                raise self._busy(holder)
            time.sleep(min(_POLL_S, left))

    def _renew(self) -> None:
        while not self._done.wait(self._lease_s / 3):
            asked = time.monotonic()
            try:
                renewed = _RENEW.run(self._redis, (self.key,), (self.mark, self._lease_ms))
            except StoreUnavailable:
                continue
            if not renewed:
                self._until = 0.0
                return
            self._until = asked + self._lease_s

    @property
    def _lease_ms(self) -> int:
        return int(self._lease_s * 1_000)

    def _busy(self, holder: bytes) -> ViewBusy:
        told: dict[str, Any] = json.loads(holder)
        return ViewBusy(
            f"Expected to be the only run that brings view {self._view} online; found another one, "
            f"of {told['who']}, since {told['since']}, after waiting {self._wait_s:g} s. Let it "
            f"finish; if its process is dead, its claim ends within {self._lease_s:g} s."
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
