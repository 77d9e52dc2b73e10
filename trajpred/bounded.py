"""rosbags' readers of recorded logs, with bounds on what a file can make them do.

A few hundred bytes can unfold to gigabytes, or have the same part of a file, a table or a text read again and
again. Here what is unfolded or read is measured against the size of the file. The decompressors and the YAML
parser are bounded for everybody who uses rosbags in this process; what is read from a sound log is the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from io import BufferedReader
from threading import get_ident
from types import MappingProxyType
from typing import Any, BinaryIO

import apsw
from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, ReaderError, metadata, reader, storage_mcap
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from trajpred.memory import unfolded_max

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdFile
else:
    from backports.zstd import ZstdDecompressor, ZstdFile

YAML_DEPTH_MAX = 50
_SQLITE_MIN = 1_000_000
_SQLITE_STEPS, _SQLITE_STEPS_PER_BYTE = 10_000, 50  # a message takes some 30, and has a hundred bytes or more
_SQLITE_PATH_SPECIAL = "%?#"  # rosbags hands sqlite a URI, in which these have a meaning
_RECKONED_TABLES = """
    SELECT name FROM pragma_table_list AS tables
    WHERE type <> 'table' OR EXISTS (SELECT * FROM pragma_table_xinfo(tables.name) WHERE hidden)
"""


def _unfold(decompressor: ZstdDecompressor | LZ4FrameDecompressor, packed: bytes, size: int) -> bytes:
    """At most one byte more than size, which the caller finds too many."""
    if size > unfolded_max(len(packed)):
        raise ReaderError(f"{len(packed)} compressed bytes say that they are {size}")
    raw: bytes = decompressor.decompress(packed, size + 1)
    return raw


class _Zstd:
    """What rosbags' reader of folders uses of the module of that name."""

    @staticmethod
    def decompress(packed: bytes) -> bytes:
        decompressor = ZstdDecompressor()
        raw = _unfold(decompressor, packed, unfolded_max(len(packed)))
        if not decompressor.eof:
            raise ReaderError(f"{len(packed)} compressed bytes are cut off, or unfold to too many")
        return raw

    class open(ZstdFile):  # noqa: N801
        def __init__(self, file: BinaryIO, mode: str) -> None:
            super().__init__(file, "rb")
            self._left = unfolded_max(os.fstat(file.fileno()).st_size)

        def read(self, size: int | None = -1) -> bytes:
            raw = super().read(size)
            self._left -= len(raw)
            if self._left < 0:
                raise ReaderError("a compressed file unfolds to too many bytes")
            return raw


class _Yaml(YAML):
    """Without aliases, which can be merged until they fill the memory, and not nested without end."""

    def load(self, stream: Any) -> Any:
        depth = 0
        for event in self.parse(stream):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if isinstance(event, AliasEvent) or depth > YAML_DEPTH_MAX:
                raise YAMLError("an alias, or nested too deeply")
        return super().load(stream)


storage_mcap.DECOMPRESSORS.update(
    zstd=lambda packed, size: _unfold(ZstdDecompressor(), packed, size),
    lz4=lambda packed, size: _unfold(LZ4FrameDecompressor(), packed, size),
)
vars(metadata).update(YAML=_Yaml)
vars(reader).update(YAML=_Yaml, zstd=_Zstd)


class _File(BufferedReader):
    """Sets memory aside for what is there, not for what is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 2**16:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)


class _Mcap(McapReader):
    def _open(self) -> None:
        assert isinstance(self.bio, BufferedReader)
        self.bio = _File(self.bio.detach())
        super()._open()

    def read_index(self) -> None:
        """Chunks that are unfolded at the same time, or again and again, are measured together."""
        super().read_index()
        unfolded = sum(max(chunk.compressed_size, chunk.uncompressed_size) for chunk in self.chunks)
        if unfolded > unfolded_max(self.path.stat().st_size):
            raise ReaderError(f"its index says that it holds {unfolded} bytes")


class _Sqlite(Sqlite3Reader):
    """A database of plain tables, of which no page is read again and again.

    rosbags opens it twice; both connections count the steps of queries and the bytes that they return.
    """

    def open(self) -> None:
        if set(str(self.path)) & set(_SQLITE_PATH_SPECIAL):
            raise ReaderError(f"sqlite cannot open a path with one of {_SQLITE_PATH_SPECIAL}: rename it")
        self._begin()
        with _each_new_connection(self._bound):
            super().open()

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        self._begin()
        for connection, stamp_ns, raw in super().messages(connections, start, stop):
            if not isinstance(raw, bytes):
                raise ReaderError(f"a message is of type {type(raw).__name__}")
            yield connection, stamp_ns, raw

    def _begin(self) -> None:
        size = self.path.stat().st_size
        self._steps = _SQLITE_MIN + _SQLITE_STEPS_PER_BYTE * size
        self._bytes = _SQLITE_MIN + size

    def _bound(self, connection: apsw.Connection) -> None:
        def step() -> bool:
            self._steps -= _SQLITE_STEPS
            return self._steps < 0

        def row(_: apsw.Cursor, values: tuple[Any, ...]) -> tuple[Any, ...]:
            self._bytes -= sum(len(value) for value in values if isinstance(value, (str, bytes)))
            if self._bytes < 0:
                raise ReaderError("it holds more than it has bytes")
            return values

        connection.set_progress_handler(step, _SQLITE_STEPS)
        for (name,) in connection.execute(_RECKONED_TABLES):
            raise ReaderError(f"{name!r} is a view, or a table with columns that are reckoned out")
        connection.row_trace = row


@contextmanager
def _each_new_connection(hook: Callable[[apsw.Connection], None]) -> Iterator[None]:
    """Of this thread."""
    thread = get_ident()

    def ours(connection: apsw.Connection) -> None:
        if get_ident() == thread:
            hook(connection)

    apsw.connection_hooks.append(ours)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(ours)


class _Folder(DirectoryReader):
    STORAGE_PLUGINS = MappingProxyType({"mcap": _Mcap, "sqlite3": _Sqlite})


class LogReader(Reader):
    """rosbags.rosbag2.Reader, which also raises ReaderError for what would take too much time or memory."""

    STORAGE_PLUGINS = MappingProxyType({"dir": _Folder, ".mcap": _Mcap, ".db3": _Sqlite})
