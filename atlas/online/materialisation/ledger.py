"""What of a view is online: which events were looked at, and how far creation and storing went.

The ledger lies in Redis, beside the rows that it speaks of: a Redis that loses its rows loses the
ledger with them, and one that is restored from an older state gets the older ledger, so the next
run brings back what is missing. It can be rebuilt by a run over everything. Only Redis can check a
claim and write an entry in one step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from atlas.bus import Script, reaching
from atlas.online.materialisation.claim import Claim, work_key

__all__ = ["Coverage", "commit", "forget", "merged", "read_coverage"]

Interval = tuple[int, int]
# More islands than these say nothing that a run needs.
_MAX_INTERVALS = 16

_COMMIT = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
""")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is online of a view, in microseconds since 1970.

    `intervals` are the events that runs have looked at, sorted and apart. Every row created by
    `created_us`, and stored in ClickHouse by `written_us`, was looked at as well, save what was
    left out by a run told where to start.
    """

    definition: str
    intervals: tuple[Interval, ...]
    created_us: int | None = None
    written_us: int | None = None


def read_coverage(redis: Redis, project: str, stored_view: str) -> Coverage | None:
    """Return what is online of a view; None if nothing is, as far as Redis knows.

    Raises
    ------
    StoreUnavailable
        If Redis does not answer.
    """
    with reaching(redis):
        text: Any = redis.get(work_key(project, stored_view, "ledger"))
    if text is None:
        return None
    entry = json.loads(text)
    return Coverage(
        entry["definition"],
        tuple((first, last) for first, last in entry["intervals"]),
        entry["created_us"],
        entry["written_us"],
    )


def commit(
    redis: Redis,
    claim: Claim,
    project: str,
    stored_view: str,
    coverage: Coverage,
    told: dict[str, Any],
) -> None:
    """Enter what a run has brought online, if its claim still stands.

    Parameters
    ----------
    told : dict
        What the run did, for people; nothing is decided by it.

    Raises
    ------
    ViewBusy
        If the claim was lost: nothing is entered.
    """
    entry = {
        "definition": coverage.definition,
        "intervals": coverage.intervals,
        "created_us": coverage.created_us,
        "written_us": coverage.written_us,
        "told": told,
    }
    keys = (claim.key, work_key(project, stored_view, "ledger"))
    if not _COMMIT.run(redis, keys, (claim.mark, json.dumps(entry))):
        raise claim.lost()


def forget(redis: Redis, project: str, stored_view: str) -> None:
    """Drop a view's entry, because rows of it were deleted: the next run looks at everything."""
    with reaching(redis):
        redis.delete(work_key(project, stored_view, "ledger"))


def merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return intervals sorted, with those that touch made one; of very many, the first and last."""
    found: list[Interval] = []
    for first, last in sorted(intervals):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    # The first always stays: the next run goes on from its end, so that every gap behind it is
    # looked at. To forget that something was covered costs a second look and no row.
    return (*found[:1], *found[1:][-(_MAX_INTERVALS - 1) :])
