"""What was predicted as boxes and lines for RViz and Foxglove: a serialized visualization_msgs/MarkerArray.

Neither draws a PredictedObjects by itself. Written as bytes (CDR, little endian), because a thousand message
objects cost a tenth of a second. The fields of Marker are the same from ROS 2 Humble to Rolling. With a
namespace of a fixed length, all markers begin 4 bytes behind a multiple of 8, so that they differ in length
only by their points; a box has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from trajpred.messages import CYLINDER
from trajpred.types import Int, Label, bytes_from_ids

if TYPE_CHECKING:
    from trajpred import cdr

MARKERS = "visualization_msgs/msg/MarkerArray"
LINE_WIDTH_M = 0.15
ALPHA_MIN = 0.15
"""The least probable path can still be seen."""
BOX_ALPHA = 0.6
SIZE_MIN_M = 0.3
"""Each side of an object that is smaller, or not known, as those of a polygon; RViz draws nothing flat."""
BOX_ID = -1
"""The paths of an object are numbered from 0."""

_CUBE, _CYLINDER, _LINE_STRIP, _DELETE_ALL = 1, 3, 4, 3
_NS_PER_S = 1_000_000_000
_ENCAPSULATION = (0, 1, 0, 0)  # plain CDR, little endian
_BODY = 8  # where the body starts in our buffer, so that what is aligned in it is so in memory
_REST = np.array([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0], "<u4")
"""What follows the points, from `colors` on: an empty sequence is 0, an empty text 1 and its padded NUL."""
_NAME_LENGTH = 33  # of a namespace: 16 bytes in hexadecimal, and NUL
_FILLING = 3  # the last field is one byte, and the next marker starts with a word

_COLOURS = {  # Okabe and Ito (2008): apart for colour-blind readers, on light and on dark ground
    Label.CAR: "56B4E9",
    Label.TRUCK: "0072B2",
    Label.BUS: "0072B2",
    Label.TRAILER: "0072B2",
    Label.MOTORCYCLE: "E69F00",
    Label.BICYCLE: "009E73",
    Label.PEDESTRIAN: "D55E00",
    Label.ANIMAL: "F0E442",
    Label.HAZARD: "CC79A7",
}


def _palette() -> NDArray[np.float32]:
    palette = np.full((256, 3), 0x99, np.float32)
    for label, colour in _COLOURS.items():
        palette[label] = list(bytes.fromhex(colour))
    return palette / np.float32(255)


PALETTE = _palette()
"""(256, 3) red, green, blue from 0 to 1, by label; grey for those without a colour of their own."""


def markers(predicted: cdr.PredictedObjects, lifetime_s: float, delete_all: bool) -> bytes:
    """A box for each object and a line strip for each of its paths, as a serialized MarkerArray.

    All have the header of the message, the object's id in hexadecimal as their namespace, and the colour of
    its most probable class. A box (a cylinder where the shape is one) stands at the object's first pose; one
    without a pose has none. A line has its path's number as id and the confidence as alpha. lifetime_s: how
    long they are shown if no others replace them (0: for ever). delete_all: a marker that wipes away all
    that is shown comes first.
    """
    wipe = _blank(int(delete_all), predicted, name_length=1)
    wipe["action"] = _DELETE_ALL
    shown = np.concatenate([_boxes(predicted), _lines(predicted)])
    shown["lifetime_sec"], shown["lifetime_nanosec"] = divmod(round(lifetime_s * _NS_PER_S), _NS_PER_S)
    size = np.concatenate([_size(wipe), _size(shown)])
    start = _BODY + 4 + np.cumsum(size) - size
    end = _BODY + 4 + int(size.sum())

    words = np.zeros(-(-end // 8) * 2, "<u4")
    words.view(np.uint8)[4:8] = _ENCAPSULATION
    words[2] = len(size)
    _put(words, start[: len(wipe)], _words(wipe))
    _put(words, start[len(wipe) :], _words(shown))
    _put(words, start + size - _REST.nbytes, np.broadcast_to(_REST, (len(size), len(_REST))))
    count = np.diff(predicted.pose_start)
    path = (start[len(size) - len(count) :] + shown.itemsize) // 8 - 3 * predicted.pose_start[:-1]
    point = np.repeat(path, count) + 3 * np.arange(len(predicted.poses))  # its place, counted in float64
    for axis in range(3):
        words.view("<f8")[point + axis] = predicted.poses[:, axis]
    return words.view(np.uint8)[4 : end - (_FILLING if len(size) else 0)].tobytes()


def _boxes(predicted: cdr.PredictedObjects) -> NDArray[Any]:
    """(B,) the markers of all objects that have a pose."""
    first = predicted.pose_start[predicted.path_start]  # of the object's own poses, if it has any
    owner = np.flatnonzero(np.diff(first))
    boxes = _named(predicted, owner)
    boxes["id"] = BOX_ID
    boxes["type"] = np.where(predicted.shape_type[owner] == CYLINDER, _CYLINDER, _CUBE)
    boxes["pose"] = predicted.poses[first[owner]]
    boxes["scale"] = np.fmax(predicted.dimensions[owner], SIZE_MIN_M)  # also for NaN
    boxes["colour"][:, 3] = BOX_ALPHA
    return boxes


def _lines(predicted: cdr.PredictedObjects) -> NDArray[Any]:
    """(M,) the markers of all paths, without their points."""
    paths = np.diff(predicted.path_start)
    owner = np.repeat(np.arange(len(paths)), paths)
    lines = _named(predicted, owner)
    lines["id"] = np.arange(len(owner)) - predicted.path_start[:-1][owner]
    lines["type"] = _LINE_STRIP
    lines["scale"] = (LINE_WIDTH_M, 0.0, 0.0)
    lines["colour"][:, 3] = np.fmin(np.fmax(predicted.confidence, ALPHA_MIN), 1.0)  # NaN is faint
    lines["point_count"] = np.diff(predicted.pose_start)
    return lines


def _named(predicted: cdr.PredictedObjects, owner: Int) -> NDArray[Any]:
    """(M,) new markers with the namespace and the colour of the objects (M,) that they are of."""
    named = _blank(len(owner), predicted, name_length=_NAME_LENGTH)
    names = bytes_from_ids(predicted.ids).tobytes().hex().encode()
    named["name"] = np.frombuffer(names, f"S{_NAME_LENGTH - 1}")[owner]
    named["colour"][:, :3] = PALETTE[_most_probable(predicted)[owner]]
    return named


def _blank(rows: int, predicted: cdr.PredictedObjects, name_length: int) -> NDArray[Any]:
    """New markers under the header, up to where their points start; the lengths of texts count the NUL."""
    frame = predicted.frame_id.encode() + b"\0"
    frame_size, name_size = (length + -length % 4 for length in (len(frame), name_length))
    blank = np.zeros(
        rows,
        [
            ("sec", "<i4"),
            ("nanosec", "<u4"),
            ("frame_length", "<u4"),
            ("frame", f"S{frame_size}"),
            ("name_length", "<u4"),
            ("name", f"S{name_size}"),
            ("id", "<i4"),
            ("type", "<i4"),
            ("action", "<i4"),
            # The pose is at a multiple of 8, and the marker starts 4 behind one.
            ("filling", f"V{-(32 + frame_size + name_size) % 8}"),
            ("pose", "<f8", (7,)),
            ("scale", "<f8", (3,)),
            ("colour", "<f4", (4,)),
            ("lifetime_sec", "<i4"),
            ("lifetime_nanosec", "<u4"),
            ("frame_locked", "<u4"),  # one byte, and three to fill up
            ("point_count", "<u4"),
        ],
    )
    blank["sec"], blank["nanosec"] = divmod(predicted.stamp_ns, _NS_PER_S)
    blank["frame_length"], blank["frame"] = len(frame), frame
    blank["name_length"] = name_length
    blank["pose"][:, 6] = 1.0
    return blank


def _size(blank: NDArray[Any]) -> Int:
    """(M,) bytes of each marker with its points, up to where the next one starts."""
    return blank.itemsize + 24 * blank["point_count"].astype(np.int64) + _REST.nbytes


def _words(blank: NDArray[Any]) -> NDArray[np.uint32]:
    """(M,) markers -> (M, W) words."""
    return blank.view("<u4").reshape(len(blank), blank.itemsize // 4)


def _put(words: NDArray[np.uint32], start: Int, rows: NDArray[np.uint32]) -> None:
    """Write (M, W) words, each row from where it starts, in bytes."""
    if len(rows):
        sliding_window_view(words, rows.shape[1], writeable=True)[start // 4] = rows


def _most_probable(predicted: cdr.PredictedObjects) -> NDArray[np.uint8]:
    """(N,) the label of the most probable class, the first of equals; unknown for none."""
    classes = np.diff(predicted.class_start)
    owner = np.repeat(np.arange(len(classes)), classes)
    ranked = np.lexsort((-predicted.class_probability, owner))  # by object, NaN last
    label = np.full(len(classes), Label.UNKNOWN, np.uint8)
    some = np.flatnonzero(classes)
    label[some] = predicted.class_label[ranked[predicted.class_start[some]]]
    return label
