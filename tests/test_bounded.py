"""Logs that would take time or memory without end; the seeds of the fuzzer have such ones, too."""

from __future__ import annotations

import tracemalloc

import apsw
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import zstd

from tests.fuzz.make_seeds import MERGED, chunk_of, database, mcap_of, mcaps, record, shared_pages
from trajpred import bounded, memory
from trajpred.bags import LogWriter, read_raw, typestore
from trajpred.cdr import TRACKED
from trajpred.errors import InputError

TOPIC = "/perception/objects"
LARGE = 10_000_000


@pytest.fixture
def small(monkeypatch):
    """As if nothing might unfold to more than a million bytes."""
    monkeypatch.setattr(bounded, "unfolded_max", lambda packed: 1_000_000)


def refused(path, content, why):
    """The most memory that it took to find out."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=why):
            list(read_raw(path))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def compressed_folder(path, mode, message):
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        writer.write(writer.add_connection(TOPIC, TRACKED, typestore=typestore()), 7, message)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_chunk_unfolds_to_no_more_than_it_says(tmp_path, compression):
    bomb = chunk_of(record(0x55, bytes(LARGE)), compression, size=100)
    assert refused(tmp_path / "log.mcap", mcap_of(bomb), "expected 100 bytes, got 101") < LARGE / 10


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_chunk_says_no_more_than_it_may_unfold_to(tmp_path, small, compression):
    bomb = chunk_of(record(0x55, bytes(LARGE)), compression)
    assert refused(tmp_path / "log.mcap", mcap_of(bomb), "say that they are 10000009") < LARGE / 10


def test_what_may_be_unfolded_grows_with_what_is_there():
    assert memory.unfolded_max(10) == memory.UNFOLDED_MIN
    assert memory.unfolded_max(10**9) == 200 * 10**9


def test_chunks_are_measured_together(tmp_path, monkeypatch):
    """An index may name the same chunk again and again."""
    path = tmp_path / "log.mcap"
    path.write_bytes(mcaps()["index_bomb"])
    assert len(list(read_raw(path))) == 18
    monkeypatch.setattr(bounded, "unfolded_max", lambda packed: packed)
    refused(path, path.read_bytes(), "its index says that it holds")


def test_a_record_that_says_it_is_huge_takes_no_memory(tmp_path):
    assert refused(tmp_path / "log.mcap", mcaps()["claim"], "expected 5000000000 bytes, got") < 1_000_000


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
def test_what_a_folder_holds_compressed_is_bounded(tmp_path, small, mode):
    compressed_folder(tmp_path / "sound", mode, bytes(1000))
    assert list(read_raw(tmp_path / "sound")) == [(TOPIC, 7, bytes(1000))]
    compressed_folder(tmp_path / "bomb", mode, bytes(LARGE))
    with pytest.raises(InputError, match="unfold"):
        list(read_raw(tmp_path / "bomb"))


def test_a_compressed_message_that_is_cut_off(tmp_path):
    packed = zstd.compress(bytes(range(256)) * 100)
    compressed_folder(tmp_path / "log", CompressionMode.MESSAGE, b"")
    (tmp_path / "log" / "log.mcap").unlink()
    with LogWriter(tmp_path / "log" / "log.mcap") as log:
        log.add_topic(TOPIC, TRACKED)
        log.write(TOPIC, 7, packed[:-5])
    with pytest.raises(InputError, match="cut off"):
        list(read_raw(tmp_path / "log"))


@pytest.mark.parametrize("text", [MERGED, "[" * 60 + "]" * 60], ids=["merged", "deep"])
def test_yaml_that_multiplies_or_nests_without_end(tmp_path, text):
    refused(tmp_path / "log.db3", database(f"UPDATE topics SET offered_qos_profiles = '{text}'"), "an alias")
    with LogWriter(tmp_path / "log"):
        pass
    metadata = tmp_path / "log" / "metadata.yaml"
    metadata.write_text(metadata.read_text() + text)
    with pytest.raises(InputError):
        list(read_raw(tmp_path / "log"))


def test_yaml_makes_no_objects(tmp_path):
    marker = tmp_path / "made"
    with LogWriter(tmp_path / "log"):
        pass
    metadata = tmp_path / "log" / "metadata.yaml"
    metadata.write_text(
        f"{metadata.read_text()}\nevil: !!python/object/apply:pathlib.Path.touch ['{marker}']\n"
    )
    with pytest.raises(InputError):
        list(read_raw(tmp_path / "log"))
    assert not marker.exists()


ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS schema_version FROM n"
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (database("", "(1, 1, 5), (2, 1, 6)", "BLOB AS (zeroblob(900000000))"), "'messages' is a view, or"),
        (database(f"CREATE VIEW schema AS {ENDLESS};"), "'schema' is a view, or"),
        (database("CREATE VIRTUAL TABLE message_definitions USING fts5(topic_type);"), "is a view, or"),
        (database("", "(1, 1, 5, 5000000000)"), "a message is of type int"),
        (database("", "(1, 1, 5, 'text')"), "a message is of type str"),
        (shared_pages(4, 50), "interrupted"),
    ],
    ids=["generated", "view", "virtual", "number", "text", "shared"],
)
def test_a_database_is_of_plain_tables_and_has_what_it_has_once(tmp_path, content, why):
    assert refused(tmp_path / "log.db3", content, why) < 5_000_000


def test_rows_that_share_their_bytes(tmp_path, monkeypatch):
    """Two thousand messages of four bytes, in a file of less than 5000."""
    monkeypatch.setattr(bounded, "_SQLITE_MIN", 1000)
    path = tmp_path / "log.db3"
    path.write_bytes(shared_pages(2, 50))
    with pytest.raises(InputError, match="more than it has bytes"):
        list(read_raw(path))


@pytest.mark.parametrize("name", ["100%.db3", "what?.db3", "log#3.db3"])
def test_a_path_that_sqlite_would_take_for_another(tmp_path, name):
    refused(tmp_path / name, database(""), "rename it")


def test_a_folder_names_files_in_it_only(tmp_path):
    """The file of a name that sqlite unfolds to a path outside; and a path outside."""
    (tmp_path / "secret.db3").write_bytes(database(""))
    with LogWriter(tmp_path / "log"):
        pass
    metadata = tmp_path / "log" / "metadata.yaml"
    sound = metadata.read_text()
    assert "storage_identifier: mcap" in sound
    (tmp_path / "log" / "..%2fsecret.db3").touch()
    for name, why in (("..%2fsecret.db3", "rename it"), ("../secret.db3", "missing")):
        text = sound.replace("storage_identifier: mcap", "storage_identifier: sqlite3")
        metadata.write_text(text.replace("log.mcap", name))
        with pytest.raises(InputError, match=why):
            list(read_raw(tmp_path / "log"))


def test_other_databases_of_the_process_stay_as_they_are(tmp_path):
    path = tmp_path / "log.db3"
    path.write_bytes(database(""))
    assert len(list(read_raw(path))) == 1
    assert not apsw.connection_hooks
