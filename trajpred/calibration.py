"""How far probabilities and spreads can be believed: likelihood, coverage and reliability.

At one step a prediction is a mixture of K isotropic Gaussians, one round each mode's point. Modes
that are not valid have probability 0 here; the probabilities of an agent sum to 1.
"""

from __future__ import annotations

import numpy as np

from trajpred.types import Bool, Float

SPREAD_FLOOR_M = 0.01
"""Smallest spread that is believed. Below it one lucky hit would outweigh a whole log."""

RELIABILITY_BINS = 10
COVERAGE_SAMPLES = 199
"""One less than a multiple of 10: ranks among them then cut exactly at 50 % and 90 %."""


def mixture_nll(distance: Float, probability: Float, spread: Float, truth_valid: Bool) -> Float:
    """Negative log-likelihood of the true path, the mean over its valid steps.

    Args:
        distance: (N, K, T) m between each mode and the truth, finite where probability > 0.
        probability: (N, K).
        spread: (N, K, T) m, standard deviation of each coordinate; SPREAD_FLOOR_M at least.
        truth_valid: (N, T), at least one step per agent.

    Returns:
        (N,) nats of a density per square metre: -log sum_k p_k N(truth; path_k, spread_k^2 I).
    """
    variance = np.square(np.maximum(spread, SPREAD_FLOOR_M))
    with np.errstate(divide="ignore"):  # a mode of probability 0 has no share: log 0 = -inf
        log_probability = np.log(probability)[:, :, None]
    log_density = log_probability - 0.5 * np.square(distance) / variance - np.log(2.0 * np.pi * variance)
    top = log_density.max(axis=1)
    log_mixture = top + np.log(np.exp(log_density - top[:, None]).sum(axis=1))
    nll: Float = -np.mean(log_mixture, axis=1, where=truth_valid)
    return nll


def _standard_samples() -> tuple[Float, Float]:
    """(S,) uniform shares that pick a mode, (S, 2) standard normal points round it.

    A fixed low-discrepancy set instead of random draws: less error for the same number, and an
    agent's score depends on nothing but its own prediction. Radii are the exact quantiles of the
    Rayleigh distribution; angle and mode follow the R2 sequence (M. Roberts, 2018).
    """
    i = np.arange(1, COVERAGE_SAMPLES + 1)
    plastic = 1.324717957244746  # the real root of x^3 = x + 1
    radius = np.sqrt(-2.0 * np.log1p(-i / (COVERAGE_SAMPLES + 1)))
    angle = 2.0 * np.pi * (i / plastic % 1.0)
    return i / plastic**2 % 1.0, np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def region_share(point: Float, mean: Float, spread: Float, probability: Float) -> Float:
    """Mass of the smallest highest-density region of the mixture that holds a point.

    Estimated from the density's rank among COVERAGE_SAMPLES samples. If the prediction is right it
    is uniform: half of all true positions lie where it is at most 0.5. Memory is O(N K S).

    Args:
        point: (N, 2) m.
        mean: (N, K, 2) m, finite.
        spread: (N, K) m, standard deviation of each coordinate; SPREAD_FLOOR_M at least.
        probability: (N, K).

    Returns:
        (N,) in (0, 1].
    """
    pick, normal = _standard_samples()
    centre = (probability[..., None] * mean).sum(axis=1, keepdims=True)
    mean, point = mean - centre, point[:, None] - centre  # map coordinates would cost digits
    spread = np.maximum(spread, SPREAD_FLOOR_M)
    cumulative = np.cumsum(probability, axis=1)
    cumulative = cumulative / cumulative[:, -1:]  # ends at exactly 1, so that every share finds its mode
    mode = (pick[:, None] > cumulative[:, None, :]).sum(axis=2)  # (N, S)
    agent = np.arange(len(mean))[:, None]
    samples = mean[agent, mode] + spread[agent, mode][..., None] * normal
    at_samples = _density(samples, mean, spread, probability)
    at_point = _density(point, mean, spread, probability)
    share: Float = (1 + (at_samples > at_point).sum(axis=1)) / (COVERAGE_SAMPLES + 1)
    return share


def _density(points: Float, mean: Float, spread: Float, probability: Float) -> Float:
    """(N, S, 2) points -> (N, S) density of the mixture, without the constant 1 / (2 pi).

    -|x - m|^2 / 2 v is written out as a product of (|x|^2, x, 1) and (-1, 2 m, -|m|^2) / 2 v: with
    N S K exponents the time goes into passes over them.
    """
    weight = 0.5 / np.square(spread)[:, :, None]
    of_mode = weight * np.concatenate([-np.ones_like(weight), 2.0 * mean, -_square(mean)], axis=2)
    of_point = np.concatenate([_square(points), points, np.ones((*points.shape[:2], 1))], axis=2)
    exponent = of_point @ of_mode.transpose(0, 2, 1)  # (N, S, K)
    np.minimum(exponent, 0.0, out=exponent)  # rounding of large terms must not make it positive
    density: Float = (np.exp(exponent, out=exponent) @ (probability[:, :, None] * 2.0 * weight))[..., 0]
    return density


def _square(vectors: Float) -> Float:
    """(..., 2) -> (..., 1) squared length."""
    square: Float = np.square(vectors).sum(axis=-1, keepdims=True)
    return square


def reliability_counts(probability: Float, error: Float, mode_valid: Bool) -> Float:
    """What each agent adds to the reliability bins, equally wide over [0, 1].

    Args:
        probability: (N, K).
        error: (N, K) m, inf where the mode is not valid. The first of the least errors is the closest.
        mode_valid: (N, K).

    Returns:
        (N, RELIABILITY_BINS, 3): modes in the bin, sum of their probabilities, how many were closest.
    """
    closest = np.arange(error.shape[1]) == error.argmin(axis=1)[:, None]
    index = np.minimum((probability * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    member = (index[..., None] == np.arange(RELIABILITY_BINS)) & mode_valid[..., None]
    parts = (member, member * probability[..., None], member & closest[..., None])
    return np.stack([part.sum(axis=1, dtype=np.float64) for part in parts], axis=2)


def reliability_bins(counts: Float) -> list[dict[str, float]]:
    """(RELIABILITY_BINS, 3) summed counts -> the bins that hold any mode, in ascending order.

    Each has low, high, count, mean_probability and frequency, the share that were closest.
    """
    return [
        {
            "low": index / RELIABILITY_BINS,
            "high": (index + 1) / RELIABILITY_BINS,
            "count": int(count),
            "mean_probability": probability / count,
            "frequency": hits / count,
        }
        for index, (count, probability, hits) in enumerate(counts.tolist())
        if count > 0
    ]


def expected_calibration_error(counts: Float) -> float:
    """(RELIABILITY_BINS, 3) summed counts -> mean |frequency - mean probability|, weighted by count.

    Naeini et al., AAAI 2015, over all (agent, mode) pairs. Needs at least one mode.
    """
    # count * |hits / count - probability / count|, so that empty bins need no division
    return float(np.abs(counts[:, 2] - counts[:, 1]).sum() / counts[:, 0].sum())
