"""Writes the seeds anew: python -m tests.fuzz.make_seeds. Needs onnx, of the train extra.

Some are sound, so that mutations get far. The others once did what they must not: they raised an error that
is not documented, or took time or memory without end.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import lz4.frame
import numpy as np
from rosbags.rosbag2.storage_mcap import zstd

from tests import test_cdr, test_runtime
from tests.fuzz.targets import AS_IT_IS, SEALED, SEEDS
from trajpred import cdr
from trajpred.bags import LogWriter
from trajpred.cdr import TRACKED
from trajpred.runtime import seal

QOS = """
- history: 1
  depth: 1
  reliability: 1
  durability: 2
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 9223372036, nsec: 854775807}
  liveliness: 1
  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}
  avoid_ros_namespace_conventions: false
"""
# A mapping that is merged into itself ten times at each of nine levels.
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 10)
)


def messages(kind: str) -> dict[str, bytes]:
    """Objects of one layout, of several, and in the other byte order."""
    read, write = test_cdr.KINDS[kind]
    mixed = test_cdr.sample(kind, (0, 1, 2))
    return {
        "alike": test_cdr.sample(kind, (1, 1)),
        "mixed": mixed,
        "big_endian": write(read(mixed), big_endian=True),
        "none": test_cdr.header(b"map\0"),
    }


def paths_of(lengths: list[int], step_ns: list[int]) -> bytes:
    """One object with a path for each number of poses and time between them."""
    arrays = cdr.read_predicted(test_cdr.sample("Predicted", (0,)))
    values = {f: getattr(arrays, f) for f in arrays.__dataclass_fields__} | {
        "path_start": np.array([0, len(lengths)]),
        "pose_start": np.append(0, np.cumsum(lengths)),
        "poses": np.ones((sum(lengths), 7)),
        "time_step_ns": np.array(step_ns),
        "confidence": np.ones(len(lengths), np.float32),
    }
    return cdr.write_predicted(cdr.PredictedObjects(**values))


MAGIC = b"\x89MCAP0\r\n"


def record(kind: int, content: bytes) -> bytes:
    """One of MCAP's."""
    return struct.pack("<BQ", kind, len(content)) + content


def sized(content: str | bytes) -> bytes:
    """A string, or an array, of MCAP."""
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<I", len(content)) + content


def mcap_of(data: bytes, summary: bytes = b"") -> bytes:
    """A file of these records."""
    whole = MAGIC + record(1, sized("ros2") + sized("seed")) + data
    start = len(whole) if summary else 0
    return whole + summary + record(2, struct.pack("<QQI", start, 0, 0)) + MAGIC


def chunk_of(content: bytes, compression: str = "", size: int | None = None) -> bytes:
    """A chunk; size: what it says that it unfolds to."""
    pack = {"": bytes, "zstd": zstd.compress, "lz4": lz4.frame.compress}[compression]
    packed = pack(content)
    said = struct.pack("<QQQI", 0, 10, len(content) if size is None else size, 0)
    return record(6, said + sized(compression) + struct.pack("<Q", len(packed)) + packed)


def mcaps() -> dict[str, bytes]:
    """With an index and without, compressed, and bombs."""

    def described(qos: str = QOS) -> bytes:
        schema = struct.pack("<H", 1) + sized(TRACKED) + sized("ros2msg") + sized("std_msgs/Header header")
        about = sized("offered_qos_profiles") + sized(qos)
        channel = struct.pack("<HH", 1, 1) + sized("/t") + sized("cdr") + sized(about)
        return record(3, schema) + record(4, channel)

    def message(stamp_ns: int) -> bytes:
        return record(5, struct.pack("<HIQQ", 1, 0, stamp_ns, stamp_ns) + b"\0\1\0\0")

    body = described() + message(5) + message(7)
    chunk = chunk_of(body)
    index = struct.pack("<H", 1) + sized(struct.pack("<QQQQ", 5, 0, 7, 31))
    start = len(mcap_of(b"")) - len(record(2, bytes(20)) + MAGIC)
    entry = struct.pack("<QQQQ", 0, 10, start, len(chunk)) + sized(struct.pack("<HQ", 1, start + len(chunk)))
    entry += struct.pack("<Q", len(record(7, index))) + sized("") + struct.pack("<QQ", len(body), len(body))
    counts = struct.pack("<QHIIIIQQ", 2, 1, 1, 0, 0, 1, 5, 7) + sized(struct.pack("<HQ", 1, 2))
    indexed = chunk + record(7, index)
    bomb = body + record(0x55, bytes(2 * 10**7))
    return {
        "indexed": mcap_of(indexed, described() + record(8, entry) + record(0x0B, counts)),
        "scanned": mcap_of(described() + message(5) + chunk_of(message(7))),
        "zstd": mcap_of(chunk_of(body, "zstd")),
        "lz4": mcap_of(chunk_of(body, "lz4")),
        "bomb": mcap_of(chunk_of(bomb, "zstd", size=100)),
        "index_bomb": mcap_of(indexed, described() + 9 * record(8, entry)),
        "merged_qos": mcap_of(described(MERGED) + message(1)),
        "claim": mcap_of(struct.pack("<BQ", 3, 5 * 10**9)),
    }


def database(script: str, rows: str = "(1, 1, 5, x'00010000')", data: str = "BLOB") -> bytes:
    """Of as small pages as sqlite has."""
    columns = "id, topic_id, timestamp" + (", data" if data == "BLOB" else "")
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "log.db3"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                f"""
                PRAGMA page_size = 512;
                CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,
                    serialization_format TEXT, offered_qos_profiles TEXT);
                INSERT INTO topics VALUES(1, '/t', '{TRACKED}', 'cdr', '{QOS}');
                CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,
                    data {data});
                INSERT INTO messages({columns}) VALUES {rows};
                {script}
                """
            )
        return path.read_bytes()


def shared_pages(depth: int, fan: int) -> bytes:
    """A database whose messages are in `depth` pages, each of which has the next as a child `fan` times."""
    page = 512
    content = bytearray(
        database(f"CREATE TABLE filling(x); INSERT INTO filling VALUES(zeroblob({page * (depth + 3)}))")
    )
    pages = len(content) // page
    root = next(
        n for n in range(pages) if content[n * page] == 13 and b"\0\1\0\0" in content[n * page :][:page]
    )
    chain = [root, *range(pages - depth, pages)]
    content[chain[-1] * page :] = content[root * page : (root + 1) * page]
    for parent, child in pairwise(chain):
        cells = b"".join(struct.pack(">IB", child + 1, k + 1) for k in reversed(range(fan)))
        head = struct.pack(">BHHHBI", 5, 0, fan, page - len(cells), 0, child + 1)
        places = b"".join(struct.pack(">H", page - 5 * (k + 1)) for k in range(fan))
        content[parent * page : (parent + 1) * page] = (head + places).ljust(page - len(cells), b"\0") + cells
    return bytes(content)


def databases() -> dict[str, bytes]:
    """A sound one, and tables that are reckoned out or shared."""
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT count(*) AS schema_version FROM n"
    )
    return {
        "sound": database("CREATE INDEX timestamp_idx ON messages(timestamp ASC);"),
        "described": database(
            f"""
            CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT);
            INSERT INTO schema VALUES(4, 'jazzy');
            CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, encoding TEXT,
                encoded_message_definition TEXT, type_description_hash TEXT);
            INSERT INTO message_definitions VALUES(1, '{TRACKED}', 'ros2msg', 'std_msgs/Header header', '');
            ALTER TABLE topics ADD COLUMN type_description_hash TEXT;
            """
        ),
        "generated": database("", "(1, 1, 5), (2, 1, 6)", "BLOB AS (zeroblob(900000000))"),
        "endless_view": database(f"CREATE VIEW schema AS {endless};"),
        "a_number_for_data": database("", "(1, 1, 5, 5000000000)"),
        "shared_pages": shared_pages(4, 40),
        "merged_qos": database(f"UPDATE topics SET offered_qos_profiles = '{MERGED}'"),
    }


def folders() -> dict[str, bytes]:
    """A metadata.yaml as it should be, and one that never ends."""
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "log"
        with LogWriter(path) as log:
            log.add_topic("/t", TRACKED)
            log.write("/t", 5, b"\0\1\0\0")
        sound = (path / "metadata.yaml").read_bytes()
    outside = sound.replace(b"- log.mcap", b"- ../../../../../../../../etc/passwd")
    return {"sound": sound, "merged": MERGED.encode(), "deep": b"[" * 80, "outside": outside}


def artefacts() -> dict[str, bytes]:
    """A model whole, broken, and with a name that is not text."""
    description = {**test_runtime.METADATA, "trained_on": "somewhere"}
    model = test_runtime.ours(description)
    return {
        "sealed": SEALED + model,
        "whole": AS_IT_IS + seal(model),
        "deep_json": SEALED + test_runtime.ours("[" * 2000),
        "long_number": SEALED + test_runtime.ours("9" * 5000),
        "no_text": SEALED + model.replace(b"somewhere", b"\xff" * 9),
        "no_name": SEALED + model.replace(b"speed", b"\xff" * 5),
    }


def descriptions() -> dict[str, bytes]:
    """JSON, and what Python's parser raises something else for."""
    sound = json.dumps(test_runtime.METADATA)
    half = json.dumps({**test_runtime.METADATA, "trained_on": "\ud800"})
    texts = {"sound": sound, "deep": "[" * 2000, "long_number": "9" * 5000, "half_a_pair": half}
    return {name: text.encode() for name, text in texts.items()}


def main() -> None:
    """A folder for each target."""
    seeds = {
        "tracked": messages("Tracked"),
        "predicted": {
            **messages("Predicted"),
            "futures": paths_of([3, 2, 5], [10**9, 5 * 10**8, 3 * 10**8]),
            "uneven": paths_of([0, 1] * 30, [10**9] * 60),
        },
        "mcap": mcaps(),
        "sqlite3": databases(),
        "folder": folders(),
        "artefact": artefacts(),
        "description": descriptions(),
    }
    for target, contents in seeds.items():
        (SEEDS / target).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (SEEDS / target / name).write_bytes(content)


if __name__ == "__main__":
    main()
