"""Waymo Open Motion Dataset: `Scenario` messages in TFRecord files, 91 steps of 0.1 s each.

The messages are read by the protobuf library from a description of the few fields that are needed
(numbers and types as in the data set's scenario.proto); everything else in them, the map included, is
skipped. TFRecord frames each message by its length and two checksums, which are not checked: lengths are,
and protobuf's own structure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from data_tools.text import find_files
from trajpred.errors import InputError
from trajpred.types import Label, Scene, ids_from_int

STEP_NS = 100_000_000
STAMP_TOLERANCE_S = 0.05
"""How far a step may be off its multiple of STEP_NS, which stands for it: clocks drift by 20 ms in 9 s."""

LABELS = {1: Label.CAR, 2: Label.PEDESTRIAN, 3: Label.BICYCLE}
"""By Track.ObjectType; a vehicle may be of any kind. All others are unknown."""

_LENGTH = struct.Struct("<Q")
_HEAD, _TAIL = 12, 4  # length and its checksum; the checksum of the message

_STATE = {
    "center_x": (2, "double"),
    "center_y": (3, "double"),
    "length": (5, "float"),
    "width": (6, "float"),
    "height": (7, "float"),
    "heading": (8, "float"),
    "velocity_x": (9, "float"),
    "velocity_y": (10, "float"),
    "valid": (11, "bool"),
}
_MESSAGES = {
    "ObjectState": _STATE,
    "Track": {"id": (1, "int32"), "object_type": (2, "int32"), "states": (3, "ObjectState")},
    "Scenario": {
        "timestamps_seconds": (1, "doubles"),
        "tracks": (2, "Track"),
        "scenario_id": (5, "string"),
        "sdc_track_index": (6, "int32"),
    },
}


def read(path: Path) -> Iterator[Scene]:
    """One scene per scenario, named by its id; path is a TFRecord file or a folder of them.

    All tracks but the recording car's own. In the scenario's frame: positions (the box's centre, m), yaw
    (rad), velocity (m/s); and size (length, width, height, m). Stamps count steps of 0.1 s from the first.
    Raises InputError for a file that cannot be read or that holds something else, with the record.
    """
    for file in find_files(path, "*.tfrecord*"):
        for number, record in enumerate(_records(file)):
            yield _scene(f"{file}: record {number}", record)


def _records(file: Path) -> Iterator[bytes]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    at, number = 0, 0
    while at < len(content):
        head = content[at : at + _HEAD]
        length = _LENGTH.unpack_from(head)[0] if len(head) == _HEAD else len(content)
        begin, end = at + _HEAD, at + _HEAD + length
        if end + _TAIL > len(content):
            raise InputError(f"{file}: record {number} is cut off, or the file is no TFRecord")
        yield content[begin:end]
        at, number = end + _TAIL, number + 1


def _scene(place: str, record: bytes) -> Scene:
    try:
        scenario = _scenario_class().FromString(record)
    except DecodeError as error:
        raise InputError(f"{place}: not a Scenario message ({error})") from None
    steps = len(scenario.timestamps_seconds)
    if not scenario.scenario_id or not steps:
        raise InputError(f"{place}: not a Scenario message: it has no id or no steps (a tf.Example?)")
    since = np.array(scenario.timestamps_seconds) - scenario.timestamps_seconds[0]
    off = np.abs(since - np.arange(steps) * STEP_NS * 1e-9)
    if not off.max() <= STAMP_TOLERANCE_S:
        raise InputError(f"{place}: step {off.argmax()} is {off.max():.3f} s off its multiple of 0.1 s")
    step, identity, label, rows = [], [], [], []
    for index, track in enumerate(scenario.tracks):
        if index == scenario.sdc_track_index:
            continue
        if len(track.states) != steps:
            raise InputError(f"{place}: track {track.id} has {len(track.states)} states of {steps} steps")
        seen = [(at, state) for at, state in enumerate(track.states) if state.valid]
        step += [at for at, _ in seen]
        identity += [track.id] * len(seen)
        label += [LABELS.get(track.object_type, Label.UNKNOWN)] * len(seen)
        rows += [[getattr(state, name) for name in _STATE] for _, state in seen]
    column = dict(zip(_STATE, np.array(rows, np.float64).reshape(-1, len(_STATE)).T, strict=True))
    try:
        return Scene.build(
            scenario.scenario_id,
            np.array(step, np.int64) * STEP_NS,
            ids_from_int(np.array(identity, np.int64)),
            np.stack([column["center_x"], column["center_y"]], axis=1),
            label=np.array(label, np.uint8),
            yaw=column["heading"],
            velocity=np.stack([column["velocity_x"], column["velocity_y"]], axis=1),
            size=np.stack([column["length"], column["width"], column["height"]], axis=1),
        )
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


@cache
def _scenario_class() -> Any:
    """The class of Scenario, made from _MESSAGES; once, not for every record."""
    kinds = {
        "double": FieldDescriptorProto.TYPE_DOUBLE,
        "doubles": FieldDescriptorProto.TYPE_DOUBLE,
        "float": FieldDescriptorProto.TYPE_FLOAT,
        "bool": FieldDescriptorProto.TYPE_BOOL,
        "int32": FieldDescriptorProto.TYPE_INT32,
        "string": FieldDescriptorProto.TYPE_STRING,
    }
    file = FileDescriptorProto(name="scenario.proto", package="womd", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = DescriptorProto(name=name)
        for field, (number, kind) in fields.items():
            described = message.field.add(
                name=field,
                number=number,
                label=FieldDescriptorProto.LABEL_OPTIONAL,
                type=kinds.get(kind, FieldDescriptorProto.TYPE_MESSAGE),
                type_name=None if kind in kinds else f".womd.{kind}",
            )
            if kind not in kinds or kind == "doubles":
                described.label = FieldDescriptorProto.LABEL_REPEATED
        file.message_type.append(message)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("womd.Scenario"))
