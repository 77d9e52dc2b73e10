"""What of a recorded log is due when. No threads and no clock in here: the caller says what time it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

SHORTEST_TICK_NS = 1_000_000
"""However fast the log plays, its clock is not told more often than this."""


class Message(NamedTuple):
    """One recorded message, still serialized; received at stamp_ns."""

    stamp_ns: int
    topic: str
    raw: bytes


class Due(NamedTuple):
    """The log's time to tell now, and the message to send now, if any; late_ns if it has a time to keep."""

    log_ns: int
    message: Message | None = None
    late_ns: int | None = None


Read = Callable[[int], Iterator["Message | None"]]
"""The messages from a stamp on, to the end; None between two rounds of a log that is played in a loop."""


@dataclass(slots=True)
class Played:
    """What has been played. late: how many messages were late by how many tenths of a millisecond."""

    messages: int = 0
    loops: int = 0
    unanswered: int = 0
    largest_late_ns: int = 0
    late: list[int] = field(default_factory=lambda: [0] * 1001)

    def add(self, due: Due) -> None:
        """Count a message that is sent."""
        self.messages += 1
        if due.late_ns is not None:
            self.largest_late_ns = max(self.largest_late_ns, due.late_ns)
            self.late[min(due.late_ns // 100_000, len(self.late) - 1)] += 1

    def late_ms(self, share: float) -> float:
        """This share of the messages was not later than this, to 0.1 ms (all beyond 100 ms are one)."""
        wanted, seen = share * sum(self.late), 0
        for tenths, count in enumerate(self.late):
            seen += count
            if seen >= wanted:
                return (tenths + 1) / 10 if seen else 0.0
        return 0.0


class Player:
    """Plays from start_ns to end_ns of a log's time (both included).

    rate: seconds of the log in a second; 0: no time to keep, the next message follows as soon as the
    last one is not held any more. tick_ns: the log's time is told at least so often, in its own time
    (while it stands still, in the caller's). All `now_ns` are the caller's steady time.
    """

    def __init__(
        self,
        read: Read,
        start_ns: int,
        end_ns: int,
        *,
        tick_ns: int,
        rate: float = 1.0,
        paused: bool = False,
    ) -> None:
        self._read = read
        self._start_ns, self._end_ns, self._tick_ns = start_ns, end_ns, tick_ns
        self.rate, self.paused, self.finished = rate, paused, False
        self._begun = False
        self.played = Played()
        self._next: Message | None = None
        self._held_until_ns: int | None = None
        self._tick_at_ns: int | None = None
        self._jump(0, start_ns)

    @property
    def held(self) -> bool:
        """Whether the next message waits for an answer to the last one."""
        return self._held_until_ns is not None

    def begin(self, now_ns: int) -> None:
        """Play from now on; the first thing due is the time of the log's start."""
        self._begun = True
        self._anchor_ns = self._tick_at_ns = now_ns

    def position_ns(self, now_ns: int) -> int:
        """The log's time; it never runs past the next message, nor past the end."""
        if not self._running or self.rate == 0:
            return self._log_ns
        ahead = int((now_ns - self._anchor_ns) * self.rate)
        return max(self._log_ns, min(self._log_ns + ahead, self._next_ns), self._told_ns)

    def wake_ns(self) -> int | None:
        """When something is due, unless something is changed before; None for never."""
        times = [self._held_until_ns, self._tick_at_ns, None if self.held else self._due_ns]
        return min((time for time in times if time is not None), default=None)

    def due(self, now_ns: int) -> Due | None:
        """The next thing that is due by now, to be told or sent at once; None for nothing."""
        self.expire(now_ns)
        at_ns = self._due_ns
        if at_ns is not None and not self.held and now_ns >= at_ns:
            if self._next is None:
                return self._round_ends(now_ns, at_ns)
            due = self._take(now_ns, now_ns - at_ns if self.rate else None)
            if self.rate == 0:
                self._anchor_ns, self._log_ns = now_ns, due.log_ns
            return due
        if self._tick_at_ns is not None and now_ns >= self._tick_at_ns:
            return self._told(self.position_ns(now_ns), now_ns)
        return None

    def hold(self, until_ns: int) -> None:
        """No further message until `release`, or until this time, when an answer counts as missing."""
        self._held_until_ns = until_ns

    def release(self, now_ns: int) -> None:
        """The last message is answered. What became late by waiting for it is due now, and not late."""
        self._stop_at(now_ns)
        self._held_until_ns = None

    def expire(self, now_ns: int) -> None:
        """Go on where an answer is missing by now."""
        if self._held_until_ns is not None and now_ns >= self._held_until_ns:
            self.played.unanswered += 1
            self.release(now_ns)

    def pause(self, now_ns: int) -> None:
        """The log's time stands still."""
        self._stop_at(now_ns)
        self.paused = True
        self._told_again(now_ns)

    def resume(self, now_ns: int) -> None:
        """The log's time goes on from where it stood."""
        self._stop_at(now_ns)
        self.paused = False
        self._told_again(now_ns)

    def set_rate(self, rate: float, now_ns: int) -> None:
        """Another rate from now on; 0 or more."""
        self._stop_at(now_ns)
        self.rate = rate
        self._told_again(now_ns)

    def seek(self, log_ns: int, now_ns: int) -> bool:
        """Go on from there (from the start, if that is before it); False for what is beyond the end."""
        if log_ns > self._end_ns:
            return False
        self._jump(now_ns, max(log_ns, self._start_ns))
        return True

    def play_next(self, now_ns: int) -> Due | None:
        """The next message, before its time; None if the log is not paused, or at its end."""
        if not self.paused or self._next is None:
            return None
        due = self._take(now_ns, None)
        self._anchor_ns, self._log_ns, self._held_until_ns = now_ns, due.log_ns, None
        return due

    @property
    def _running(self) -> bool:
        return self._begun and not self.paused and not self.finished

    @property
    def _next_ns(self) -> int:
        """The stamp of the next message, or the end's."""
        return self._end_ns if self._next is None else self._next.stamp_ns

    @property
    def _due_ns(self) -> int | None:
        if not self._running:
            return None
        if self.rate == 0:
            return self._anchor_ns
        return self._anchor_ns + ceil((self._next_ns - self._log_ns) / self.rate)

    def _jump(self, now_ns: int, log_ns: int) -> None:
        self._source = self._read(log_ns)
        self.finished = False
        self._held_until_ns = None
        self._anchor_ns, self._log_ns, self._told_ns = now_ns, log_ns, log_ns
        self._tick_at_ns = now_ns
        self._advance()

    def _advance(self) -> None:
        self._last_round = False
        try:
            self._next = next(self._source)
        except StopIteration:
            self._next, self._last_round = None, True

    def _take(self, now_ns: int, late_ns: int | None) -> Due:
        message = self._next
        assert message is not None
        self._advance()
        due = self._told(max(message.stamp_ns, self._told_ns), now_ns, message, late_ns)
        self.played.add(due)
        return due

    def _round_ends(self, now_ns: int, at_ns: int) -> Due:
        if self._last_round:
            self.finished = True
            self._log_ns = self._end_ns
            return self._told(self._end_ns, now_ns)
        self.played.loops += 1
        self._anchor_ns = at_ns if self.rate else now_ns
        self._log_ns = self._told_ns = self._start_ns
        self._advance()
        return self._told(self._start_ns, now_ns)

    def _stop_at(self, now_ns: int) -> None:
        """Reckon the log's time from here on."""
        self._log_ns = self.position_ns(now_ns)
        self._anchor_ns = now_ns

    def _told(
        self, log_ns: int, now_ns: int, message: Message | None = None, late_ns: int | None = None
    ) -> Due:
        self._told_ns = log_ns
        self._told_again(now_ns)
        return Due(log_ns, message, late_ns)

    def _told_again(self, now_ns: int) -> None:
        """When to tell the time next, if no message does it before."""
        if not self._running:
            self._tick_at_ns = now_ns + max(self._tick_ns, SHORTEST_TICK_NS)
        elif self.rate == 0:
            self._tick_at_ns = None
        else:
            self._tick_at_ns = now_ns + max(int(self._tick_ns / self.rate), SHORTEST_TICK_NS)
