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


def path_heading(
    start_heading: ArrayLike, start_xy: ArrayLike, paths: ArrayLike, min_move_m: float = 0.05
) -> Float:
    """Heading at every point of every path that does not jitter where the path hardly moves.

    start_heading (N,) rad and start_xy (N, 2) m, where the paths (N, K, T, 2) m start from -> (N, K, T)
    rad in [-pi, pi]. A heading is the direction from the last point at which it was renewed, once
    that lies min_move_m behind; until then the previous heading holds. So standing still keeps the
    heading of the start, and slow motion still turns it.
    """
    paths = np.asarray(paths, np.float64)
    n, k, steps, _ = paths.shape
    renewed_at = np.repeat(np.asarray(start_xy, np.float64)[:, None], k, axis=1)  # (N, K, 2)
    heading = np.repeat(np.asarray(start_heading, np.float64)[:, None], k, axis=1)  # (N, K)
    along = np.empty((n, k, steps))
    for step in range(steps):
        way = paths[:, :, step] - renewed_at
        moved = np.hypot(way[..., 0], way[..., 1]) >= min_move_m
        heading = np.where(moved, np.arctan2(way[..., 1], way[..., 0]), heading)
        renewed_at = np.where(moved[..., None], paths[:, :, step], renewed_at)
        along[:, :, step] = heading
    return along


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
