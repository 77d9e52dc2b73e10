"""KITTI tracking: what a moving car saw, put into a fixed frame by the car's own GPS/IMU.

`label/SEQUENCE.txt` holds boxes in the rectified camera frame, `calib/SEQUENCE.txt` the way from there
to the lidar and the IMU, `oxts/SEQUENCE.txt` one pose of the IMU per frame, at 10 Hz. Conventions are
those of the KITTI development kits: a Mercator projection scaled at the first latitude, and
roll, pitch, yaw applied as Rz Ry Rx.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.text import NUMBER, WORD, Columns, find_files, read_columns
from trajpred.errors import InputError
from trajpred.types import Float, Int, Label, Scene, ids_from_int

FRAME_NS = 100_000_000
EARTH_RADIUS_M = 6378137.0

LABELS = {
    "Car": Label.CAR,
    "Van": Label.CAR,
    "Truck": Label.TRUCK,
    # Autoware knows no tram; of its classes a bus is the nearest in size and manner.
    "Tram": Label.BUS,
    "Pedestrian": Label.PEDESTRIAN,
    "Person": Label.PEDESTRIAN,
    "Person_sitting": Label.PEDESTRIAN,
    "Cyclist": Label.BICYCLE,
    "Misc": Label.UNKNOWN,
}

_LABEL_COLUMNS = {
    "frame": NUMBER,
    "track": NUMBER,
    "type": WORD,
    "truncated": NUMBER,
    "occluded": NUMBER,
    "alpha": NUMBER,
    "left": NUMBER,
    "top": NUMBER,
    "right": NUMBER,
    "bottom": NUMBER,
    "height": NUMBER,
    "width": NUMBER,
    "length": NUMBER,
    "x": NUMBER,
    "y": NUMBER,
    "z": NUMBER,
    "rotation_y": NUMBER,
}
_POSE = ("lat", "lon", "alt", "roll", "pitch", "yaw")
_OXTS_COLUMNS = dict.fromkeys([*_POSE, *(f"value {i}" for i in range(7, 31))], NUMBER)
_CALIBRATIONS = {"R_rect": (3, 3), "Tr_velo_cam": (3, 4), "Tr_imu_velo": (3, 4)}


def read(path: Path, sequence: str | None = None) -> Iterator[Scene]:
    """One scene per sequence, named like `0004`; path is the folder of label/, or one file in label/.

    The frame has its origin at the car's first pose, x east, y north, in metres. The position is the
    box's centre on the ground, yaw the way that its length points, size (length, width, height);
    no velocity. Rows of type DontCare are left out. Raises InputError for a file that
    cannot be read, with its line, and for a sequence that is not there.
    """
    root, labels = (path, path / "label") if path.is_dir() else (path.resolve().parent.parent, path)
    if sequence is not None:
        labels = root / "label" / f"{sequence}.txt"
    for file in find_files(labels, "*.txt"):
        yield _read_sequence(root, file)


def _read_sequence(root: Path, file: Path) -> Scene:
    table = read_columns(file, _LABEL_COLUMNS)
    table = table.take(table["type"] != "DontCare")
    label = table.labels("type", LABELS)
    table.check_no_repeats("track", "frame")
    frame = table.integers("frame")
    cam2imu = _cam2imu(root / "calib" / file.name)
    cam2world = _poses_at(table, frame, root / "oxts" / file.name) @ cam2imu

    location = np.stack([table[axis] for axis in "xyz"] + [np.ones(len(table))], axis=1)
    # rotation_y turns about the camera's y axis, which points down, from its x axis, which points right.
    turn = table["rotation_y"]
    ahead = np.stack([np.cos(turn), np.zeros(len(turn)), -np.sin(turn), np.zeros(len(turn))], axis=1)
    position = np.einsum("rij,rj->ri", cam2world, location)
    direction = np.einsum("rij,rj->ri", cam2world, ahead)
    return Scene.build(
        file.stem,
        frame * FRAME_NS,
        ids_from_int(table.integers("track")),
        position[:, :2],
        label=label,
        yaw=np.arctan2(direction[:, 1], direction[:, 0]),
        size=np.stack([table["length"], table["width"], table["height"]], axis=1),
    )


def _cam2imu(path: Path) -> Float:
    """(4, 4) from the rectified camera frame to the frame of the IMU (x forward, y left, z up)."""
    matrices = {}
    for name, shape in _CALIBRATIONS.items():
        matrices[name] = np.eye(4)
        matrices[name][: shape[0], : shape[1]] = np.reshape(_calibration(path, name, shape), shape)
    imu2cam = matrices["R_rect"] @ matrices["Tr_velo_cam"] @ matrices["Tr_imu_velo"]
    if not abs(np.linalg.det(imu2cam) - 1) < 1e-2:
        raise InputError(f"{path}: {', '.join(_CALIBRATIONS)} together are not a rotation and a shift")
    return np.asarray(np.linalg.inv(imu2cam), np.float64)


def _calibration(path: Path, name: str, shape: tuple[int, int]) -> list[float]:
    """The numbers of one line `name: ...`; newer files have a colon after each name, older ones not."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    found = [
        (n, words) for n, line in enumerate(lines, 1) if (words := line.split())[:1] in ([name], [f"{name}:"])
    ]
    if len(found) != 1:
        raise InputError(f"{path}: {len(found)} lines named {name} instead of one")
    number, words = found[0]
    try:
        values = [float(word) for word in words[1:]]
    except ValueError as error:
        raise InputError(f"{path}: line {number}: {error}") from error
    if len(values) != shape[0] * shape[1] or not np.isfinite(values).all():
        raise InputError(f"{path}: line {number}: {name} is not {shape[0] * shape[1]} finite numbers")
    return values


def _poses_at(labels: Columns, frame: Int, path: Path) -> Float:
    """(R, 4, 4) from the IMU to the world at each row's frame."""
    oxts = read_columns(path, _OXTS_COLUMNS)
    absent = np.flatnonzero(frame >= len(oxts))
    if absent.size:
        raise labels.error(absent[0], f"frame {frame[absent[0]]} has no pose: {path} ends at {len(oxts) - 1}")
    return imu2world(*(oxts[name] for name in ("lat", "lon", "alt", "roll", "pitch", "yaw")))[frame]


def imu2world(lat: Float, lon: Float, alt: Float, roll: Float, pitch: Float, yaw: Float) -> Float:
    """(T,) degrees, degrees, m, rad, rad, rad -> (T, 4, 4) poses of the IMU, metres from the first one.

    x east, y north, z up; yaw is 0 facing east. From the KITTI raw data development kit
    (convertOxtsToPose).
    """
    scale = np.cos(np.radians(lat[0]))
    east = scale * EARTH_RADIUS_M * np.radians(lon)
    north = scale * EARTH_RADIUS_M * np.log(np.tan(np.radians(90 + lat) / 2))
    (cr, cp, cy), (sr, sp, sy) = (f([roll, pitch, yaw]) for f in (np.cos, np.sin))
    poses = np.zeros((len(lat), 4, 4))
    poses[:, :3, 0] = np.stack([cy * cp, sy * cp, -sp], axis=1)
    poses[:, :3, 1] = np.stack([cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, cp * sr], axis=1)
    poses[:, :3, 2] = np.stack([cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr], axis=1)
    poses[:, :3, 3] = np.stack([east, north, alt], axis=1) - [east[0], north[0], alt[0]]
    poses[:, 3, 3] = 1.0
    return poses
