"""How many rows of a run were bad, and how many are too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from atlas.errors import TooManyBadRows
from atlas.schemas.split import Split

__all__ = ["ShareLimit", "Tally"]

_TOLD_REASONS = 3


@dataclass(frozen=True, slots=True)
class Tally:
    """Rows that came to a border; `+` adds those of one batch to those of another.

    `reasons` counts the bad rows by why, most frequent first.
    """

    rows: int = 0
    bad: int = 0
    reasons: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, split: Split) -> Tally:
        """Count a split's rows."""
        counted = Counter(split.bad["reason"].to_list()) if split.bad.height else Counter[str]()
        return cls(split.good.height + split.bad.height, split.bad.height, _ordered(counted))

    @property
    def share(self) -> float:
        """Share of bad rows, from 0 to 1; of no rows it is 0."""
        return self.bad / self.rows if self.rows else 0.0

    def __add__(self, other: Tally) -> Tally:
        counted = Counter(dict(self.reasons))
        counted.update(dict(other.reasons))
        return Tally(self.rows + other.rows, self.bad + other.bad, _ordered(counted))


@dataclass(frozen=True, slots=True)
class ShareLimit:
    """The share of bad rows above which a run stops.

    A run is judged by all rows that it has met so far, from `min_rows` of them on: one bad row of
    three says nothing about a source. The live path is never stopped by it.
    """

    max_share: float = 0.05
    min_rows: int = 100

    def judge(self, tally: Tally, *, view: str, border: str) -> None:
        """Stop a run that has met too many bad rows.

        Raises
        ------
        TooManyBadRows
            If more than `max_share` of at least `min_rows` rows are bad.
        """
        if tally.rows < self.min_rows or tally.bad <= self.max_share * tally.rows:
            return
        told = "; ".join(f"{reason} ({count:,})" for reason, count in tally.reasons[:_TOLD_REASONS])
        more = len(tally.reasons) - _TOLD_REASONS
        raise TooManyBadRows(
            f"Expected at most {100 * self.max_share:g} % bad rows of {view} at the {border} "
            f"border; found {tally.bad:,} of {tally.rows:,} ({100 * tally.share:.1f} %): {told}"
            f"{f'; {more:,} more reasons' if more > 0 else ''}. They are in quarantine (`atlas "
            f"features quarantine {view}`); mend their source and run again, or allow more with "
            "ATLAS_MAX_BAD_SHARE.",
            view=view,
            rows=tally.rows,
            bad=tally.bad,
            reasons=tally.reasons,
        )


def _ordered(counted: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
