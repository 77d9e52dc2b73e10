"""Recorded logs (rosbag2: MCAP or sqlite3) as serialized messages, read and written without ROS."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib.resources import files
from io import BytesIO
from itertools import starmap
from pathlib import Path
from types import MappingProxyType, TracebackType

import apsw
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionMode, ReaderError, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from trajpred.bounded import LogReader
from trajpred.cdr import PACKAGE, TRACKED
from trajpred.errors import InputError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

# Records of MCAP: kind and length; a message in front of its bytes; when one was received and where it is.
_RECORD, _MESSAGE, _PLACE = struct.Struct("<BQ"), struct.Struct("<BQHIQQ"), struct.Struct("<QQ")
_CHUNK_SIZE = 2**20  # beyond which a chunk ends

_SINGLE_FILES = {".mcap": StoragePlugin.MCAP, ".db3": StoragePlugin.SQLITE3}

# What rosbags' parsers are seen to raise on damaged files, by its own name or not.
DAMAGE = (
    ReaderError,
    apsw.Error,
    ZstdError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@cache
def typestore() -> Typestore:
    """ROS 2 Jazzy's message types and the perception interface, whose definitions go into logs.

    They come with the package, so that no ROS installation is needed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    for entry in files("trajpred").joinpath("interfaces", PACKAGE, "msg").iterdir():
        name = f"{PACKAGE}/msg/{entry.name.removesuffix('.msg')}"
        store.register(get_types_from_msg(entry.read_text("utf-8"), name))
    return store


def read_raw(
    path: Path, topic: str | None = None, msgtype: str = TRACKED
) -> Iterator[tuple[str, int, bytes]]:
    """(topic, receive stamp in ns, CDR bytes) of every message of a type in a log, in order of receipt.

    path: a rosbag2 folder, or a single .mcap or .db3 file. The one topic of that type is found by
    itself; topic names one of several. Raises InputError for what is not a log or is damaged, with
    the number of the message (from 0) that cannot be read, and if there is no such topic, or several.
    """
    check_log(path)
    place = ""
    try:
        with LogReader(path) as reader:
            chosen = _choose(path, reader.connections, topic, msgtype)
            place = "message 0: "
            # A caller may stop before the end, and sqlite closes only what nobody reads.
            with closing(reader.messages(chosen)) as messages:
                for number, (connection, stamp_ns, raw) in enumerate(messages):
                    yield connection.topic, stamp_ns, bytes(raw)
                    place = f"message {number + 1}: "
    except DAMAGE as error:
        raise damaged(path, place, error) from error


def check_log(path: Path) -> None:
    """Raises InputError if there is no file or folder at this path, or an sqlite file of it was cut off."""
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: no such log")
    for file in path.glob("*.db3") if path.is_dir() else [path]:
        if file.suffix == ".db3":
            _check_whole(file)


def damaged(path: Path, place: str, error: BaseException) -> InputError:
    """What a user is told where reading a log raised one of DAMAGE; place: where, or empty."""
    why = str(error).rstrip(".") or type(error).__name__
    return InputError(
        f"{path}: {place}not a rosbag2 log, or a damaged one: {why} "
        "(a recording that was cut off: `mcap recover` or `ros2 bag reindex` may mend it)"
    )


def _choose(path: Path, connections: list[Connection], topic: str | None, msgtype: str) -> list[Connection]:
    """The connections of the one topic of that type."""
    typed = [c for c in connections if c.msgtype == msgtype]
    topics = sorted({c.topic for c in typed})
    if topic is None and len(topics) > 1:
        raise InputError(f"{path}: several topics of {msgtype}, name one: {', '.join(topics)}")
    chosen = [c for c in typed if c.topic == (topic or topics[0])]
    if not chosen:
        there = ", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in connections)) or "no topic at all"
        wanted = f"topic {topic} of" if topic else "topic of"
        raise InputError(f"{path}: no {wanted} {msgtype}; there is {there}")
    for connection in chosen:
        form = getattr(connection.ext, "serialization_format", None)
        if form != "cdr":
            raise InputError(f"{path}: {connection.topic} is serialized as {form}, only cdr is understood")
    return chosen


def _check_whole(file: Path) -> None:
    """Raises InputError if an sqlite file was cut off; sqlite itself fills its last page with zeros."""
    try:
        with file.open("rb") as stream:
            head = stream.read(100)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    page, pages = (int.from_bytes(head[at : at + size], "big") for at, size in ((16, 2), (28, 4)))
    counted = head[24:28] == head[92:96]  # or else the page count was not kept
    if counted and file.stat().st_size < (65536 if page == 1 else page) * pages:
        raise InputError(f"{file}: a damaged log: it is shorter than it says")


class _Pieces(BytesIO):
    """What was written, piece by piece: references, no copies."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self._size = 0

    def write(self, piece: bytes | memoryview) -> int:  # type: ignore[override]
        self.pieces.append(bytes(piece))
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size


class _McapWriter(McapWriter):
    """rosbags' writer of MCAP without compression: the same file, but a message is not copied in memory.

    Copying it three times took longer than what the kernel does to write it.
    """

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self._begin_chunk()

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        chunk = self.chunk
        self.message_start_time = min(timestamp, self.message_start_time)
        self.message_end_time = max(timestamp, self.message_end_time)
        chunk.message_start_time = min(timestamp, chunk.message_start_time)
        chunk.message_end_time = max(timestamp, chunk.message_end_time)
        self.channel_stats[connection.id] += 1
        chunk.msgs[connection.id].append((timestamp, chunk.bio.tell()))
        chunk.bio.write(_MESSAGE.pack(0x05, 22 + len(data), connection.id, 0, timestamp, timestamp))
        chunk.bio.write(data)
        if chunk.bio.tell() > _CHUNK_SIZE:
            self.close_chunk()

    def close_chunk(self) -> None:
        """Into the file: the chunk, without compression and checksum, and where its messages are."""
        chunk, size, begin = self.chunk, self.chunk.bio.tell(), self.bio.tell()
        times = struct.pack("<QQ", chunk.message_start_time, chunk.message_end_time)
        head = times + struct.pack("<QIIQ", size, 0, 0, size)
        self.bio.write(_RECORD.pack(0x06, len(head) + size) + head)
        self.bio.writelines(self._pieces.pieces)
        end = self.bio.tell()
        indices = b""
        for channel, messages in chunk.msgs.items():
            indices += struct.pack("<HQ", channel, self.bio.tell())
            places = b"".join(starmap(_PLACE.pack, messages))
            index = struct.pack("<HI", channel, len(places)) + places
            self.bio.write(_RECORD.pack(0x07, len(index)) + index)
        summary = BytesIO()
        summary.write(times + struct.pack("<QQI", begin, end - begin, len(indices)) + indices)
        summary.write(struct.pack("<QIQQ", self.bio.tell() - end, 0, size, size))
        self.chunks.append(summary)
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        self._pieces = _Pieces()
        self.chunk = PendingChunk(2**63 - 1, 0, self._pieces, defaultdict(list))


class _Writer(Writer):
    STORAGE_PLUGINS = MappingProxyType(
        {StoragePlugin.MCAP: _McapWriter, StoragePlugin.SQLITE3: Sqlite3Writer}
    )


class LogWriter:
    """A new log; use as a context manager. It appears at its path, whole, when the block ends well.

    path: ending in .mcap or .db3, that single file; otherwise a rosbag2 folder (MCAP). Raises
    InputError if there is something already (with overwrite: something else than a log), and if it
    cannot be written. Until the end all is in a temporary folder beside it, which never stays.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path = path
        self._single = path.suffix in _SINGLE_FILES
        self._topics: dict[str, Connection] = {}
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already; choose another name, or ask to overwrite it")
        if path.exists() and not (path if self._single else path / "metadata.yaml").is_file():
            raise InputError(f"{path}: is something else than such a log, so it is not overwritten")

    def __enter__(self) -> LogWriter:
        storage = _SINGLE_FILES.get(self.path.suffix, StoragePlugin.MCAP)
        # The storage file is named after the folder it is written in; the last step is a rename.
        name = self.path.stem if self._single else self.path.name
        with self._reported():
            self._work = Path(
                tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp")
            )
        try:
            with self._reported():
                self._writer = _Writer(self._work / name, version=9, storage_plugin=storage)
                self._writer.open()
        except InputError:
            shutil.rmtree(self._work, ignore_errors=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                self._writer.abort()
                return
            with self._reported():
                self._writer.close()
                self._install()
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def add_topic(self, topic: str, msgtype: str) -> None:
        """Announces a topic, before its first message; msgtype like `package/msg/Name`."""
        with self._reported():
            self._topics[topic] = self._writer.add_connection(topic, msgtype, typestore=typestore())

    def write(self, topic: str, stamp_ns: int, raw: bytes) -> None:
        """One serialized message of an announced topic, received at stamp_ns (not before 1970)."""
        if stamp_ns < 0:
            raise InputError(f"{self.path}: a log cannot hold the negative stamp {stamp_ns} ns")
        with self._reported():
            self._writer.write(self._topics[topic], stamp_ns, raw)

    def _install(self) -> None:
        made = self._writer.path
        if self._single:
            made /= f"{made.name}{self.path.suffix}"
        if self.path.is_dir():
            self.path.rename(self._work / "replaced")
        made.replace(self.path)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(f"{self.path}: cannot be written: {why}") from error
