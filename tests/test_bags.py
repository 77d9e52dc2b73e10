import sqlite3

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from trajpred.bags import LogWriter, read_raw, typestore
from trajpred.errors import InputError
from trajpred.messages import PREDICTED, TRACKED, encode_tracked
from trajpred.types import TrackFrame, ids_from_int

NAMES = ["log.mcap", "log.db3", "log"]
TOPIC = "/perception/objects"


def message(number):
    xy = np.full((2, 2), float(number))
    return encode_tracked(TrackFrame.build(number * 10**8, ids_from_int([1, 2]), xy))


def write(path, count=5, topics=(TOPIC,), **kwargs):
    """A log of `count` messages per topic, received 1 ns after their stamps."""
    with LogWriter(path, **kwargs) as log:
        for topic in topics:
            log.add_topic(topic, TRACKED)
        for number in range(count):
            for topic in topics:
                log.write(topic, number * 10**8 + 1, message(number))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(tmp_path, name):
    path = write(tmp_path / name)
    assert list(read_raw(path)) == [(TOPIC, n * 10**8 + 1, message(n)) for n in range(5)]
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.is_dir() == (name == "log")


@pytest.mark.parametrize("name", NAMES)
def test_logs_open_with_rosbags(tmp_path, name):
    with Reader(write(tmp_path / name)) as reader:
        (connection,) = reader.connections
        assert (connection.topic, connection.msgtype, connection.msgcount) == (TOPIC, TRACKED, 5)
        assert "TrackedObject[] objects" in connection.msgdef.data
        assert (reader.start_time, reader.message_count) == (1, 5)


def test_a_single_mcap_file_opens_with_the_mcap_package(tmp_path):
    with write(tmp_path / "log.mcap").open("rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        found = list(reader.iter_messages())
    assert [m.log_time for _, _, m in found] == [n * 10**8 + 1 for n in range(5)]
    assert [m.data for _, _, m in found] == [message(n) for n in range(5)]
    schema, channel, _ = found[0]
    assert (channel.topic, channel.message_encoding) == (TOPIC, "cdr")
    assert (schema.name, schema.encoding) == (TRACKED, "ros2msg")
    assert b"MSG: geometry_msgs/PoseWithCovariance" in schema.data


def test_a_folder_names_its_file_in_its_metadata(tmp_path):
    write(tmp_path / "log")
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == ["log.mcap", "metadata.yaml"]


def test_the_topic_is_found_by_its_type(tmp_path):
    with LogWriter(tmp_path / "log.mcap") as log:
        log.add_topic("/other", PREDICTED)
        log.add_topic(TOPIC, TRACKED)
        log.write(TOPIC, 0, message(0))
        log.write("/other", 0, b"\0\1\0\0")
    assert [topic for topic, _, _ in read_raw(tmp_path / "log.mcap")] == [TOPIC]


def test_topics_of_another_type_can_be_asked_for(tmp_path):
    with LogWriter(tmp_path / "log.mcap") as log:
        log.add_topic("/other", PREDICTED)
        log.add_topic(TOPIC, TRACKED)
        log.write(TOPIC, 0, message(0))
        log.write("/other", 1, b"\0\1\0\0")
    assert list(read_raw(tmp_path / "log.mcap", msgtype=PREDICTED)) == [("/other", 1, b"\0\1\0\0")]
    with pytest.raises(InputError, match=r"no topic of std_msgs/msg/Header; there is /other"):
        list(read_raw(tmp_path / "log.mcap", msgtype="std_msgs/msg/Header"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_reading_may_stop_before_the_end(tmp_path, name):
    messages = read_raw(write(tmp_path / name, count=50))
    next(messages)
    messages.close()


def test_one_of_several_topics_must_be_named(tmp_path):
    path = write(tmp_path / "log.mcap", topics=("/a", "/b"))
    with pytest.raises(InputError, match=r"log\.mcap.*several topics.*/a, /b"):
        list(read_raw(path))
    assert {topic for topic, _, _ in read_raw(path, "/b")} == {"/b"}
    with pytest.raises(InputError, match=r"no topic /c of .*/a \(autoware_perception_msgs"):
        list(read_raw(path, "/c"))


def test_a_log_of_other_things(tmp_path):
    with LogWriter(tmp_path / "log.mcap") as log:
        log.add_topic("/other", PREDICTED)
    with pytest.raises(InputError, match=r"no topic of .*TrackedObjects; there is /other"):
        list(read_raw(tmp_path / "log.mcap"))


@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.STORAGE])
def test_compressed_logs_are_read(tmp_path, mode):
    writer = Writer(tmp_path / "log", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(TOPIC, TRACKED, typestore=typestore())
        writer.write(connection, 7, message(3))
    assert list(read_raw(tmp_path / "log")) == [(TOPIC, 7, message(3))]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_unless_asked(tmp_path, name):
    path = write(tmp_path / name, count=2)
    with pytest.raises(InputError, match="exists already"):
        LogWriter(path)
    write(path, count=3, overwrite=True)
    assert len(list(read_raw(path))) == 3
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_only_logs_are_overwritten(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "folder.mcap").mkdir()
    (tmp_path / "file").write_text("precious")
    for name in ("precious", "folder.mcap", "file"):
        with pytest.raises(InputError, match="not overwritten"):
            LogWriter(tmp_path / name, overwrite=True)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_stays_of_a_log_that_fails(tmp_path, name):
    with pytest.raises(KeyError), LogWriter(tmp_path / name) as log:
        log.add_topic(TOPIC, TRACKED)
        log.write(TOPIC, 0, message(0))
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_overwrite_keeps_the_old_log(tmp_path, name):
    path = write(tmp_path / name, count=2)
    with pytest.raises(KeyError), LogWriter(path, overwrite=True):
        raise KeyError
    assert len(list(read_raw(path))) == 2


def test_a_log_in_no_folder(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "nowhere" / "log.mcap")


def test_a_time_before_1970_is_refused(tmp_path):
    with pytest.raises(InputError, match="negative stamp"), LogWriter(tmp_path / "log.mcap") as log:
        log.add_topic(TOPIC, TRACKED)
        log.write(TOPIC, -1, message(0))


def test_what_is_no_log(tmp_path):
    for name, text in {"empty.mcap": "", "text.mcap": "hello", "empty.db3": "", "log.bag": "x"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name):
            list(read_raw(tmp_path / name))
    for name in ("missing.mcap", "."):
        with pytest.raises(InputError, match=r"no such log|metadata"):
            list(read_raw(tmp_path / name))
    sqlite3.connect(tmp_path / "other.db3").execute("CREATE TABLE t(x)")
    with pytest.raises(InputError, match=r"other\.db3"):
        list(read_raw(tmp_path / "other.db3"))


@pytest.mark.parametrize("name", ["log.mcap", "log.db3"])
def test_truncated_logs_are_an_input_error(tmp_path, name):
    path = write(tmp_path / name)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, len(whole) // 23):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=name):
            list(read_raw(path))


@pytest.mark.parametrize("name", ["log.mcap", "log.db3", "log/log.mcap", "log/metadata.yaml"])
def test_damaged_logs_are_an_input_error_or_messages(tmp_path, name):
    log = tmp_path / name.split("/")[0]
    write(log)
    path = tmp_path / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.choice([1, 5])):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            list(read_raw(log))
        except InputError as error:
            assert str(log) in str(error)


def test_an_mcap_is_byte_for_byte_what_rosbags_writes(tmp_path):
    """Several chunks: of small messages, of one that is larger than a chunk, of none."""
    sizes = [100] * 50 + [3_000_000, 0] + [900_000, 7] * 3
    rng = np.random.default_rng(0)
    sent = [(f"/topic_{n % 2}", int(rng.integers(2**40)), rng.bytes(size)) for n, size in enumerate(sizes)]
    (tmp_path / "ours").mkdir()
    for name, count in (("all", len(sent)), ("even", 51), ("none", 0)):
        with (
            LogWriter(tmp_path / "ours" / name) as ours,
            Writer(tmp_path / "theirs" / name, version=9, storage_plugin=StoragePlugin.MCAP) as theirs,
        ):
            topics = {}
            for topic, msgtype in (("/topic_0", TRACKED), ("/topic_1", PREDICTED)):
                ours.add_topic(topic, msgtype)
                topics[topic] = theirs.add_connection(topic, msgtype, typestore=typestore())
            for topic, stamp_ns, raw in sent[:count]:
                ours.write(topic, stamp_ns, raw)
                theirs.write(topics[topic], stamp_ns, raw)
        for file in (f"{name}.mcap", "metadata.yaml"):
            whole = (tmp_path / "ours" / name / file).read_bytes()
            assert whole == (tmp_path / "theirs" / name / file).read_bytes()


def test_a_damaged_message_is_named(tmp_path):
    """Past 1 MiB a second chunk begins; its first record gets a length beyond the chunk's end."""
    blob = bytes(700_000)
    with LogWriter(tmp_path / "log.mcap") as log:
        log.add_topic(TOPIC, TRACKED)
        for number in range(4):
            log.write(TOPIC, number, blob)
    path = tmp_path / "log.mcap"
    damaged = bytearray(path.read_bytes())
    # opcode 5, length, channel 1, sequence 0, and the time 2
    record = b"\5" + (22 + len(blob)).to_bytes(8, "little") + b"\1\0\0\0\0\0" + (2).to_bytes(8, "little")
    place = damaged.index(record)
    damaged[place + 1 : place + 9] = (2**40).to_bytes(8, "little")
    path.write_bytes(damaged)
    messages = read_raw(path)
    assert [next(messages)[1], next(messages)[1]] == [0, 1]
    with pytest.raises(InputError, match=r"log\.mcap: message 2: "):
        next(messages)
