"""From one format of recordings to another: any source to Parquet tables or rosbag2 logs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data_tools import dut, eth_ucy, kitti, rosbag2, sdd, sdd_trajnet, vru, womd
from trajpred.bags import LogWriter
from trajpred.errors import InputError
from trajpred.messages import TRACKED, encode_tracked
from trajpred.progress import bar
from trajpred.tables import read_tables, write_table
from trajpred.types import Scene

TOPIC = "/perception/object_recognition/tracking/objects"

READERS: dict[str, Callable[[Path], Iterator[Scene]]] = {
    "eth_ucy": eth_ucy.read,
    "vru": vru.read,
    "sdd": sdd.read,
    "sdd_trajnet": sdd_trajnet.read,
    "kitti": kitti.read,
    "womd": womd.read,
    "dut": dut.read,
    "rosbag2": rosbag2.read,
    "table": read_tables,
}


def convert(
    source: str,
    src: Path,
    dst: Path,
    scene: str | None = None,
    topic: str | None = None,
    overwrite: bool = False,
) -> str:
    """Reads src as source and writes dst; returns a line that says what was written.

    dst ending in .parquet: one table, or for several scenes a folder of that name with a table each;
    otherwise a rosbag2 log (see LogWriter) of one scene. scene: only the one of this name. topic: of
    a log with several. Raises InputError for what cannot be read or written, for something at dst
    already (unless overwrite, and it is of the same kind), and for several scenes for one log.
    """
    if dst.exists() and not overwrite:
        raise InputError(f"{dst}: exists already; choose another name, or ask with --overwrite")
    found = rosbag2.read(src, topic) if source == "rosbag2" else READERS[source](src)
    scenes = _choose(src, list(bar(found, None, "scenes read")), scene)
    if dst.suffix != ".parquet":
        if len(scenes) > 1:
            raise InputError(f"{src}: {_names(scenes)}: a log holds one, choose it with --scene NAME")
        write_log(scenes[0], dst, overwrite)
    elif len(scenes) == 1:
        if dst.is_dir():
            raise InputError(f"{dst}: is a folder, so it is not overwritten by a single table")
        write_table(scenes[0], dst)
    else:
        _write_tables(scenes, dst)
    return f"{dst}: {_count(sum(map(len, scenes)), 'row')} of {_count(len(scenes), 'scene')}"


def write_log(scene: Scene, path: Path, overwrite: bool = False) -> None:
    """A scene as a log of TrackedObjects, one message per stamp, received at the stamp of its header.

    Stamps are the scene's own, from 0 for most data sets. What is unknown is marked as
    encode_tracked says. Raises InputError if it cannot be written.
    """
    with LogWriter(path, overwrite) as log:
        log.add_topic(TOPIC, TRACKED)
        for frame in bar(scene.frames(), len(np.unique(scene.stamp_ns)), "messages"):
            log.write(TOPIC, frame.stamp_ns, encode_tracked(frame))


def _choose(src: Path, scenes: list[Scene], name: str | None) -> list[Scene]:
    if name is None:
        return scenes
    chosen = [scene for scene in scenes if scene.name == name]
    if not chosen:
        raise InputError(f"{src}: no scene {name!r} in it, only {_names(scenes)}")
    return chosen


def _names(scenes: list[Scene]) -> str:
    names = ", ".join(scene.name for scene in scenes[:20])
    return f"{_count(len(scenes), 'scene')} ({names}{', ...' if len(scenes) > 20 else ''})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _write_tables(scenes: list[Scene], folder: Path) -> None:
    """One table per scene, named after it with / as _, in a new folder that appears when it is whole."""
    names = [f"{scene.name.replace('/', '_')}.parquet" for scene in scenes]
    if len(set(names)) < len(names):
        raise InputError(f"{folder}: two of the scenes have one name, so they cannot share a folder")
    if folder.exists() and not (folder.is_dir() and all(f.suffix == ".parquet" for f in folder.iterdir())):
        raise InputError(f"{folder}: is something else than a folder of tables, so it is not overwritten")
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp") as work:
            made = Path(work, "made")
            made.mkdir()
            for scene, name in zip(scenes, names, strict=True):
                write_table(scene, made / name)
            if folder.exists():
                folder.rename(Path(work, "replaced"))
            made.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
