"""The memory of the live path: which tracks are known, and what is kept of each.

Rows of preallocated arrays, found by id through a sorted index; nothing here loops over tracks.
A slot has two rows, one as the track is and one as it was before the latest stamp, so that a repeated
stamp replaces an observation instead of adding one. They take turns: nothing is copied from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.types import ID_DTYPE, Bool, Ids, Int

Columns = Mapping[str, NDArray[Any]]
ColumnSpec = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class Tick(Enum):
    """What a frame's stamp means for the store."""

    ACCEPTED = "accepted"  # later than the last one, or the same stamp again
    LATE = "late"  # a little older: the frame must change nothing
    RESET = "reset"  # time jumped back: every track was forgotten, the frame is the first of a new run


class TrackStore:
    """Bounded per-track memory with expiry by age.

    columns: name -> (shape of one row, dtype) of what the owner wants kept per track.
    """

    def __init__(self, columns: ColumnSpec, *, max_age_ns: int, max_tracks: int, reorder_ns: int) -> None:
        self._spec = dict(columns)
        self._max_age_ns = max_age_ns
        self._max_tracks = max_tracks
        self._reorder_ns = reorder_ns
        self.clear()

    def clear(self) -> None:
        """Forget every track and the time."""
        self._now: int | None = None
        self._ids = np.zeros(0, ID_DTYPE)  # sorted
        self._slots = np.zeros(0, np.int64)  # slot of each of them
        self._free = np.zeros(0, np.int64)
        self._seen_ns = np.zeros(0, np.int64)
        self._oldest_ns: int | None = None  # no track is known to be unseen for longer
        self._row = np.zeros(0, np.int64)  # of each slot as it is: 2 * slot, or the next; before: the other
        self._columns = {k: np.zeros((0, *shape), dtype) for k, (shape, dtype) in self._spec.items()}
        self._found: tuple[bytes, Int] | None = None  # the ids last admitted and their slots

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """The known tracks, sorted."""
        return self._ids

    def tick(self, stamp_ns: int) -> Tick:
        """Move time to stamp_ns: expire old tracks, or forget all of them if time jumped back."""
        if self._now is not None and stamp_ns < self._now:
            if self._now - stamp_ns <= self._reorder_ns:
                return Tick.LATE
            self.clear()
            self._now = stamp_ns
            return Tick.RESET
        self._now = stamp_ns
        if len(self) and (self._oldest_ns is None or stamp_ns - self._oldest_ns > self._max_age_ns):
            seen_ns = self._seen_ns[self._slots]
            self._drop(stamp_ns - seen_ns > self._max_age_ns)
            self._oldest_ns = int(seen_ns.min(where=stamp_ns - seen_ns <= self._max_age_ns, initial=stamp_ns))
        return Tick.ACCEPTED

    def admit(self, ids: Ids) -> Int:
        """(N,) distinct ids -> (N,) slots, new tracks with zeroed rows; -1 where the store is full.

        Room for new tracks is made by forgetting those unseen for longest, never one of `ids`.
        """
        raw = ids.tobytes()
        if self._found is not None and self._found[0] == raw:
            return self._found[1]
        slots = self.find(ids)
        fresh = np.flatnonzero(slots < 0)
        if fresh.size:
            self._make_room(fresh.size, keep=slots[slots >= 0])
            fresh = fresh[: self._max_tracks - len(self)]
            slots[fresh] = self._allocate(ids[fresh])
        self._found = raw, slots
        return slots

    def find(self, ids: Ids) -> Int:
        """(N,) ids -> (N,) slots, -1 for those that are not known; admits nothing."""
        if not len(self):
            return np.full(len(ids), -1)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self) - 1)
        return np.where(self._ids[place] == ids, self._slots[place], -1)

    def load(self, slots: Int, stamp_ns: int) -> dict[str, NDArray[Any]]:
        """The rows of these slots as they were before stamp_ns."""
        rows = self._rows_before(slots, stamp_ns)
        return {name: column.take(rows, axis=0) for name, column in self._columns.items()}

    def save(self, slots: Int, stamp_ns: int, after: Columns) -> None:
        """Keep what became of the rows at stamp_ns, beside those that `load` gave."""
        rows = self._rows_before(slots, stamp_ns) ^ 1
        for name, column in self._columns.items():
            column[rows] = after[name]
        self._row[slots] = rows
        self._seen_ns[slots] = stamp_ns

    def _rows_before(self, slots: Int, stamp_ns: int) -> Int:
        """Where the slots are as they were before stamp_ns: in the other row if they were seen at it."""
        rows: Int = self._row[slots] ^ (self._seen_ns[slots] == stamp_ns)
        return rows

    def _drop(self, gone: Bool) -> None:
        if gone.any():
            self._found = None
            self._free = np.concatenate([self._free, self._slots[gone]])
            self._ids, self._slots = self._ids[~gone], self._slots[~gone]

    def _make_room(self, wanted: int, keep: Int) -> None:
        excess = len(self) + wanted - self._max_tracks
        if excess <= 0:
            return
        evictable = np.flatnonzero(~np.isin(self._slots, keep))
        oldest = np.argsort(self._seen_ns[self._slots[evictable]], kind="stable")[:excess]
        gone = np.zeros(len(self), bool)
        gone[evictable[oldest]] = True
        self._drop(gone)

    def _allocate(self, ids: Ids) -> Int:
        missing = len(ids) - len(self._free)
        if missing > 0:
            self._grow(missing)
        slots, self._free = self._free[: len(ids)], self._free[len(ids) :]
        for column in self._columns.values():
            column[2 * slots] = column[2 * slots + 1] = np.zeros((), column.dtype)
        self._row[slots] = 2 * slots
        self._seen_ns[slots] = self._now or 0
        all_ids, all_slots = np.concatenate([self._ids, ids]), np.concatenate([self._slots, slots])
        order = np.argsort(all_ids, kind="stable")
        self._ids, self._slots = all_ids[order], all_slots[order]
        return slots

    def _grow(self, missing: int) -> None:
        """Add rows in one go, at least doubling up to max_tracks, so that growth costs little per track."""
        have = len(self._seen_ns)
        more = min(max(missing, have, 64), self._max_tracks - have)
        self._free = np.concatenate([self._free, np.arange(have, have + more)])
        self._seen_ns = np.concatenate([self._seen_ns, np.zeros(more, np.int64)])
        self._row = np.concatenate([self._row, np.zeros(more, np.int64)])
        for name, column in self._columns.items():
            blank = np.zeros((2 * more, *column.shape[1:]), column.dtype)
            self._columns[name] = np.concatenate([column, blank])
