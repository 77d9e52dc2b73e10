"""Plane geometry on arrays: angles, rotations, quaternions, the heading along a path."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from trajpred.types import Bool, Float


def wrap_angle(angle: ArrayLike) -> Float:
    """Any angle in rad -> the same direction in [-pi, pi)."""
    turned: Float = (np.asarray(angle, np.float64) + np.pi) % (2 * np.pi) - np.pi
    return turned


def rotate(xy: ArrayLike, angle: ArrayLike) -> Float:
    """(..., 2) points turned counter-clockwise about the origin by (...) rad; shapes are broadcast."""
    xy, angle = np.asarray(xy, np.float64), np.asarray(angle, np.float64)
    x, y, cos, sin = xy[..., 0], xy[..., 1], np.cos(angle), np.sin(angle)
    along = cos * x - sin * y
    turned = np.empty((*along.shape, 2))
    turned[..., 0] = along
    turned[..., 1] = sin * x + cos * y
    return turned


def yaw_from_quaternion(xyzw: ArrayLike) -> Float:
    """(..., 4) quaternions x, y, z, w of any length -> (...) rad, the turn about z of Rz Ry Rx.

    NaN stays NaN; the zero quaternion, which is no orientation, gives 0.
    """
    xyzw = np.asarray(xyzw, np.float64)
    x, y, z, w = (xyzw[..., axis] for axis in range(4))
    yaw: Float = np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return yaw


def quaternion_from_yaw(yaw: ArrayLike) -> Float:
    """(...) rad about z -> (..., 4) unit quaternions x, y, z, w."""
    half = np.asarray(yaw, np.float64) / 2
    xyzw = np.zeros((*half.shape, 4))
    xyzw[..., 2], xyzw[..., 3] = np.sin(half), np.cos(half)
    return xyzw


def half_turn(x: Float, y: Float) -> tuple[Float, Float]:
    """Sine and cosine of half the angle of vectors (x, y) of any length but zero: z and w of a quaternion.

    Without the angle itself, which would take three trigonometric functions; to 1e-8.
    """
    cosine = x / np.sqrt(x * x + y * y)
    return np.copysign(np.sqrt(0.5 - 0.5 * cosine), y), np.sqrt(0.5 + 0.5 * cosine)


def courses(points: Float, start: Float, min_move_m: float = 0.05) -> Float:
    """The direction along paths that does not jitter where they hardly move.

    At each point it is the direction from the last place at which it was renewed, once that lies
    min_move_m behind; until then the previous one holds. So standing still keeps the direction of the
    start, and slow motion still turns it.

    Args:
        points: (M, P, 2) m; the paths start at the first of each.
        start: (M, 2), the direction there, as a vector of any length.
        min_move_m: What is not jitter.

    Returns:
        (M, P-1, 2), the directions at all others, as vectors of any length.
    """
    along = points[:, 1:] - points[:, :-1]  # where every step renews it, that is all
    slow = np.flatnonzero(~_beyond(along, min_move_m).all(axis=1))
    if slow.size:
        points, start = points[slow], start[slow]
        found = np.empty((len(slow), along.shape[1], 2))
        found[:] = start[:, None]  # where no point is far enough from the start, that is all
        turning = np.flatnonzero(_beyond(points[:, 1:] - points[:, :1], min_move_m).any(axis=1))
        if turning.size:
            found[turning] = _walked(points[turning], start[turning], min_move_m)
        along[slow] = found
    return along


def _walked(points: Float, start: Float, min_move_m: float) -> Float:
    """What `courses` says, step by step."""
    steps = np.ascontiguousarray(points.transpose(1, 2, 0))  # (P, 2, M)
    found = np.empty((len(steps) - 1, *steps.shape[1:]))
    renewed_at, along = steps[0].copy(), start.T
    for here, direction in zip(steps[1:], found, strict=True):
        way = here - renewed_at
        square = way * way
        moved = square[0] + square[1] >= min_move_m**2
        direction[:] = along
        np.copyto(direction, way, where=moved)
        np.copyto(renewed_at, here, where=moved)
        along = direction
    return found.transpose(2, 0, 1)


def _beyond(vectors: Float, length: float) -> Bool:
    """(...) whether (..., 2) are at least that long."""
    square = vectors * vectors
    return np.asarray(square[..., 0] + square[..., 1] >= length**2, bool)


def path_heading(
    start_heading: ArrayLike, start_xy: ArrayLike, paths: ArrayLike, min_move_m: float = 0.05
) -> Float:
    """Heading at every point of every path that does not jitter where the path hardly moves (see courses).

    start_heading (N,) rad and start_xy (N, 2) m, where the paths (N, K, T, 2) m start from -> (N, K, T)
    rad in [-pi, pi].
    """
    paths, heading = np.asarray(paths, np.float64), np.asarray(start_heading, np.float64)
    n, k, steps, _ = paths.shape
    points = np.empty((n, k, 1 + steps, 2))
    points[:, :, 0] = np.asarray(start_xy, np.float64)[:, None]
    points[:, :, 1:] = paths
    start = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    along = courses(points.reshape(-1, 1 + steps, 2), start.repeat(k, axis=0), min_move_m)
    return np.arctan2(along[..., 1], along[..., 0]).reshape(n, k, steps)


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
