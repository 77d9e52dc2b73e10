"""Plane geometry on arrays: angles, rotations, quaternions, the heading along a path."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from trajpred.types import Float


def wrap_angle(angle: ArrayLike) -> Float:
    """Any angle in rad -> the same direction in [-pi, pi)."""
    turned: Float = (np.asarray(angle, np.float64) + np.pi) % (2 * np.pi) - np.pi
    return turned


def rotate(xy: ArrayLike, angle: ArrayLike) -> Float:
    """(..., 2) points turned counter-clockwise about the origin by (...) rad; shapes are broadcast."""
    xy, angle = np.asarray(xy, np.float64), np.asarray(angle, np.float64)
    x, y, cos, sin = xy[..., 0], xy[..., 1], np.cos(angle), np.sin(angle)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def yaw_from_quaternion(xyzw: ArrayLike) -> Float:
    """(..., 4) quaternions x, y, z, w of any length -> (...) rad, the turn about z of Rz Ry Rx.

    NaN stays NaN; the zero quaternion, which is no orientation, gives 0.
    """
    x, y, z, w = np.moveaxis(np.asarray(xyzw, np.float64), -1, 0)
    yaw: Float = np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return yaw


def quaternion_from_yaw(yaw: ArrayLike) -> Float:
    """(...) rad about z -> (..., 4) unit quaternions x, y, z, w."""
    half = np.asarray(yaw, np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([zero, zero, np.sin(half), np.cos(half)], axis=-1)


def half_turn(x: Float, y: Float) -> tuple[Float, Float]:
    """Sine and cosine of half the angle of vectors (x, y) of any length but zero: z and w of a quaternion.

    Without the angle itself, which would take three trigonometric functions; to 1e-8.
    """
    cosine = x / np.sqrt(x * x + y * y)
    return np.copysign(np.sqrt(0.5 - 0.5 * cosine), y), np.sqrt(0.5 + 0.5 * cosine)


class Course:
    """The direction in which each of M points moves that does not jitter where it hardly moves.

    It is the direction from the last place at which it was renewed, once that lies min_move_m behind;
    until then the previous one holds. So standing still keeps the heading of the start, and slow
    motion still turns it.

    Args:
        heading: (M,) rad, at the start.
        start: (2, M) m.
        min_move_m: What is not jitter.
    """

    def __init__(self, heading: Float, start: Float, min_move_m: float = 0.05) -> None:
        self._along = np.stack([np.cos(heading), np.sin(heading)])
        self._renewed_at = start.copy()
        self._min_square = min_move_m**2

    def move(self, to: Float) -> Float:
        """(2, M) m, where they are next -> (2, M), their directions as vectors of any length.

        The array is overwritten by the next call.
        """
        way = to - self._renewed_at
        square = way * way
        moved = square[0] + square[1] >= self._min_square
        np.copyto(self._along, way, where=moved)
        np.copyto(self._renewed_at, to, where=moved)
        return self._along


def path_heading(
    start_heading: ArrayLike, start_xy: ArrayLike, paths: ArrayLike, min_move_m: float = 0.05
) -> Float:
    """Heading at every point of every path that does not jitter where the path hardly moves (see Course).

    start_heading (N,) rad and start_xy (N, 2) m, where the paths (N, K, T, 2) m start from -> (N, K, T)
    rad in [-pi, pi].
    """
    paths = np.asarray(paths, np.float64)
    n, k, steps, _ = paths.shape
    start = np.repeat(np.asarray(start_xy, np.float64), k, axis=0).T
    course = Course(np.repeat(np.asarray(start_heading, np.float64), k), start, min_move_m)
    heading = np.empty((n, k, steps))
    for step in range(steps):
        x, y = course.move(paths[:, :, step].reshape(-1, 2).T)
        heading[:, :, step] = np.arctan2(y, x).reshape(n, k)
    return heading


def central_path(paths: ArrayLike, probability: ArrayLike) -> Float:
    """The path to use where only one can be: (N, K, T, 2) m and (N, K) -> (N, T, 2) m.

    At each step the point of least expected distance, if what happens is one of the K paths with their
    probabilities: their geometric median, by ten rounds of Weiszfeld's algorithm (1937) from the mean.
    The most probable of several paths that share a direction can lie aside of them all, and the mean
    between two directions; the median lies among the majority. Probabilities sum to 1.
    """
    paths = np.asarray(paths, np.float64)
    weight = np.asarray(probability, np.float64)[:, :, None]  # (N, K, 1)
    centre: Float = (weight[..., None] * paths).sum(axis=1)
    for _ in range(10):
        step = paths - centre[:, None]
        # A millimetre keeps the weight finite where the median is one of the paths.
        pull = weight / (np.hypot(step[..., 0], step[..., 1]) + 1e-3)  # (N, K, T)
        centre = (pull[..., None] * paths).sum(axis=1) / pull.sum(axis=1)[..., None]
    return centre
