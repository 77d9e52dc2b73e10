"""What is fed to everything that reads bytes of strangers: nothing but the documented errors comes out.

TARGETS: name -> a function of any bytes. It raises where another error escapes, and where what was read does
not hold together.
"""

from __future__ import annotations

import os
import tempfile
from atexit import register
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from functools import cache
from pathlib import Path
from shutil import rmtree

import numpy as np

from trajpred import cdr
from trajpred.bags import LogWriter, read_raw
from trajpred.errors import ArtefactError, InputError
from trajpred.messages import decode_predicted, decode_tracked
from trajpred.runtime import ModelInfo, OnnxModel, seal

SEEDS = Path(__file__).parent / "seeds"
AS_IT_IS, SEALED = b"\0", b"\1"
"""The first byte of an artefact's seed: whether the rest is the file, or is to be sealed first."""


@cache
def _room() -> Path:
    """A folder for files of this process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    room = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    register(rmtree, room, ignore_errors=True)
    return room


def _written(name: str, data: bytes) -> Path:
    path = _room() / name
    path.write_bytes(data)
    return path


def _small(arrays: cdr.Objects, raw: bytes) -> None:
    """Whether arrays take no more memory than the bytes they are made of allow."""
    taken = sum(
        a.nbytes for a in (getattr(arrays, f.name) for f in fields(arrays)) if isinstance(a, np.ndarray)
    )
    assert taken <= 8 * len(raw) + 1000, f"{taken} bytes of {len(raw)}"


def tracked(data: bytes) -> None:
    """The wire format of TrackedObjects, and what it means."""
    try:
        frame, arrays = decode_tracked(data)
    except InputError:
        return
    _small(arrays, data)
    assert len(frame) == len(arrays)
    raw = cdr.write_tracked(arrays)
    assert cdr.write_tracked(cdr.read_tracked(raw), big_endian=True)[4:5] == raw[7:8], "the stamp"
    assert cdr.write_tracked(cdr.read_tracked(raw)) == raw


def predicted(data: bytes) -> None:
    """The wire format of PredictedObjects, and what it means."""
    with suppress(InputError):
        prediction, _ = decode_predicted(data)
        assert not len(prediction) or np.isfinite(prediction.probability.sum())
    try:
        arrays = cdr.read_predicted(data)
    except InputError:
        return
    _small(arrays, data)
    raw = cdr.write_predicted(arrays)
    assert cdr.write_predicted(cdr.read_predicted(raw)) == raw


def _read(path: Path) -> None:
    with suppress(InputError):
        for _ in read_raw(path):
            pass


def mcap(data: bytes) -> None:
    """A log in one MCAP file."""
    _read(_written("log.mcap", data))


def sqlite3(data: bytes) -> None:
    """A log in one sqlite3 file."""
    _read(_written("log.db3", data))


@cache
def _folder() -> Path:
    path = _room() / "log"
    with LogWriter(path) as log:
        log.add_topic("/t", cdr.TRACKED)
        log.write("/t", 5, b"\0\1\0\0")
    return path


def folder(data: bytes) -> None:
    """The metadata.yaml of a log."""
    (_folder() / "metadata.yaml").write_bytes(data)
    _read(_folder())


def artefact(data: bytes) -> None:
    """A model file; but behind AS_IT_IS its checksum is made right, so that what follows it is reached."""
    content = data[1:] if data[:1] == AS_IT_IS else seal(data[1:])
    with suppress(ArtefactError):
        OnnxModel.load(_written("model.onnx", content), provider="cpu")


def description(data: bytes) -> None:
    """What a model file says of itself."""
    try:
        info = ModelInfo.from_json(data.decode("utf-8", "surrogateescape"), Path("model.onnx"))
    except ArtefactError:
        return
    assert ModelInfo.from_json(info.to_json(), Path("model.onnx")) == info


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (tracked, predicted, mcap, sqlite3, folder, artefact, description)
}
