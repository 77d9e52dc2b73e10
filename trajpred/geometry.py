"""Plane geometry on arrays: angles, rotations, quaternions, the heading along a path."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajpred.compiled import compiled
from trajpred.types import Float

Complex = NDArray[np.complex128]
"""Points and vectors of the plane as x + iy."""


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


@compiled
def half_turn(vectors: Complex, sine: Float, cosine: Float) -> None:
    """(P,) vectors x + iy of any length but zero -> sine and cosine (P,) of half the angle: z, w of its turn.

    Without the angle itself, which would take three trigonometric functions; to 1e-8.
    """
    for i in range(len(vectors)):  # what is done in this loop, the processor does to four at once
        x, y = vectors[i].real, vectors[i].imag
        half_cosine = 0.5 * x / math.sqrt(x * x + y * y)
        sine[i] = math.copysign(math.sqrt(0.5 - half_cosine), y)
        cosine[i] = math.sqrt(0.5 + half_cosine)


@compiled
def course(points: Complex, start: complex, along: Complex, min_move_m: float = 0.05) -> None:
    """The direction along a path that does not jitter where it hardly moves.

    At each point it is the direction from the last place at which it was renewed, once that lies
    min_move_m behind; until then the previous one holds. So standing still keeps the direction of the
    start, and slow motion still turns it.

    Args:
        points: (P,) x + iy in m, from the start of the path.
        start: The direction there, as a vector of any length but zero.
        along: (P,), becomes the directions as vectors of any length but zero.
        min_move_m: What is not jitter.
    """
    way, renewed_at = start, points[0]
    for step in range(len(points)):
        moved = points[step] - renewed_at
        if moved.real**2 + moved.imag**2 >= min_move_m**2:
            way, renewed_at = moved, points[step]
        along[step] = way


def path_heading(
    start_heading: ArrayLike, start_xy: ArrayLike, paths: ArrayLike, min_move_m: float = 0.05
) -> Float:
    """Heading at every point of every path that does not jitter where the path hardly moves (see courses).

    start_heading (N,) rad and start_xy (N, 2) m, where the paths (N, K, T, 2) m start from -> (N, K, T)
    rad in [-pi, pi].
    """
    paths, heading = np.asarray(paths, np.float64), np.asarray(start_heading, np.float64)
    n, k, steps, _ = paths.shape
    points = np.empty((n, k, 1 + steps), np.complex128)
    points.real[..., 0], points.imag[..., 0] = np.asarray(start_xy, np.float64).T[..., None]
    points.real[..., 1:], points.imag[..., 1:] = paths[..., 0], paths[..., 1]
    along = np.empty_like(points)
    for agent, mode in np.ndindex(n, k):
        course(points[agent, mode], complex(np.exp(1j * heading[agent])), along[agent, mode], min_move_m)
    found: Float = np.arctan2(along[..., 1:].imag, along[..., 1:].real)
    return found


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
