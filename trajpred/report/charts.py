"""The two charts: the distance over the time ahead, and how far probabilities can be believed."""

from __future__ import annotations

import numpy as np

from trajpred.report import svg
from trajpred.report.examined import Examined
from trajpred.report.markup import Html, element
from trajpred.report.naming import model_name

FEW_PATHS = 30
"""A share of fewer is mostly chance."""


def horizon(found: Examined) -> Html:
    """Mean distance over the time ahead."""
    lines = curves(found)
    at = np.array([float(time) for time in found.scores[found.model]["per_horizon"]])
    error = np.array([[row.get(key, np.nan) for row in rows] for _, _, rows, key in lines])  # (lines, times)
    known = np.isfinite(error).all(axis=0)
    if not known.any():
        return element("p", "Where agents were is not known at any of these times.")
    box = svg.Box(
        44.0, 8.0, 346.0, 232.0, (0.0, 0.0), (float(at.max()), max(float(error[:, known].max()), 0.01))
    )
    drawn = (
        svg.line(box.px(np.stack([at[known], each[known]], axis=1)), look)
        for (look, *_), each in zip(lines, error, strict=True)
    )
    title = (
        f"Paths of {model_name(found.model)} and of the baselines: mean distance to where the agent then was"
    )
    chart = svg.picture(box, [box.axes("time ahead, s", "distance, m"), *drawn], title)
    legend = svg.legend([(look, text) for look, text, *_ in lines])
    return element("figure", chart, legend, element("figcaption", title, class_="note"))


def curves(found: Examined) -> list[tuple[str, str, list[dict[str, float]], str]]:
    """What is drawn over the horizon: look, title, a row of scores for each time, which of them."""
    rows = {model: list(scores["per_horizon"].values()) for model, scores in found.scores.items()}
    modes, (ours, *others) = found.witness.modes, found.scores
    lines = [("blue", "most probable path", rows[ours], "error_1")]
    if modes > 1:
        lines.append(("sky", f"best of {min(modes, 6)}", rows[ours], "min_error_6"))
    if modes > 6:
        lines.append(("green", f"best of {min(modes, 20)}", rows[ours], "min_error_20"))
    looks = ("orange", "dots", "dashes")
    return lines + [(looks[i], model_name(other), rows[other], "error_1") for i, other in enumerate(others)]


def reliability(found: Examined) -> Html:
    """How often a path came closest, over its probability."""
    bins = found.scores[found.model]["reliability"]
    if found.witness.modes == 1:
        return element("p", "A single path has probability 1: there is nothing to calibrate about it.")
    box = svg.Box(44.0, 8.0, 346.0, 346.0, (0.0, 0.0), (1.0, 1.0))
    points = box.px(np.array([(each["mean_probability"], each["frequency"]) for each in bins]))
    few = [each["count"] < FEW_PATHS for each in bins]
    ideal = box.px(np.array([(0.0, 0.0), (1.0, 1.0)]))
    title = "How often a path of some probability came closest"
    drawn = [
        box.axes("probability of a path", "share that came closest"),
        svg.line(ideal, "ideal"),
        svg.line(points, "blue"),
        *(
            svg.dot(point, 4.0, "few" if hollow else "blue")
            for point, hollow in zip(points, few, strict=True)
        ),
    ]
    legend = svg.legend([("blue", model_name(found.model)), ("ideal", "perfectly calibrated")])
    note = f"{title}; hollow: fewer than {FEW_PATHS} paths" if any(few) else title
    return element(
        "figure", svg.picture(box, drawn, title), legend, element("figcaption", note, class_="note")
    )
