"""A recorded log (rosbag2: MCAP or sqlite3) as its topics and its serialized messages, read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

from rosbags.interfaces import Connection, Qos

from trajpred.bags import DAMAGE, check_log, damaged
from trajpred.bounded import LogReader
from trajpred.errors import InputError
from trajpred_ros.player import Message


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a log; qos: what its publishers offered, as far as the log tells."""

    name: str
    msgtype: str
    qos: tuple[Qos, ...]


class Recording:
    """An open log; start_ns and end_ns are the stamps at which its first and last message were received.

    path: a rosbag2 folder, or a single .mcap or .db3 file. Raises InputError, also while reading, for
    what is not a log or is damaged, and for one without messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_log(path)
        with self._understood(""):
            self._reader = LogReader(path)
            self._reader.open()
            if not self._reader.message_count:
                raise InputError(f"{path}: the log holds no message")
            self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time - 1
            self._connections: dict[str, list[Connection]] = {}
            for connection in self._reader.connections:
                self._connections.setdefault(connection.topic, []).append(connection)

    @property
    def topics(self) -> list[Topic]:
        """In the order of their names. Raises InputError for a topic of several types, or one not in CDR."""
        found = []
        for name, connections in sorted(self._connections.items()):
            types = sorted({c.msgtype for c in connections})
            forms = {getattr(c.ext, "serialization_format", None) for c in connections}
            if len(types) > 1:
                raise InputError(f"{self.path}: {name} has several types: {', '.join(types)}")
            if forms != {"cdr"}:
                form = ", ".join(str(form) for form in forms - {"cdr"})
                raise InputError(f"{self.path}: {name} is serialized as {form}, only cdr is understood")
            offered = [qos for c in connections for qos in getattr(c.ext, "offered_qos_profiles", [])]
            found.append(Topic(name, types[0], tuple(offered)))
        return found

    def messages(self, topics: Collection[str], start_ns: int, end_ns: int) -> Iterator[Message]:
        """The messages of these topics between two stamps (both included), in order of receipt."""
        chosen = [c for name in topics for c in self._connections[name]]
        place = f"after {start_ns} ns: "
        messages = self._reader.messages(chosen, start_ns, end_ns + 1)
        while True:
            with self._understood(place):
                following = next(messages, None)
            if following is None:
                return
            connection, stamp_ns, raw = following
            yield Message(stamp_ns, connection.topic, bytes(raw))
            place = f"after {stamp_ns} ns: "

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    @contextmanager
    def _understood(self, place: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise damaged(self.path, place, error) from error


class ReadAhead:
    """Messages that a thread reads before they are asked for, so that the disk delays none of them.

    It stays ahead by at most `count` messages and by `size` bytes and one message. What the source
    raises is raised in its turn.
    """

    def __init__(self, source: Iterator[Message | None], count: int = 1000, size: int = 64_000_000) -> None:
        self._source, self._count, self._size = source, count, size
        self._ready: deque[Message | None] = deque()
        self._bytes = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="read ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> ReadAhead:
        return self

    def __next__(self) -> Message | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            if not self._ready:
                if self._error is not None:
                    raise self._error
                raise StopIteration
            message = self._ready.popleft()
            self._bytes -= len(message.raw) if message else 0
            self._changed.notify()
            return message

    def close(self) -> None:
        """Read no further; returns when the thread has ended."""
        with self._changed:
            self._ended = True
            self._ready.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            for message in self._source:
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._ended:
                        return
                    self._ready.append(message)
                    self._bytes += len(message.raw) if message else 0
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _has_room(self) -> bool:
        return self._ended or (len(self._ready) < self._count and self._bytes < self._size)
