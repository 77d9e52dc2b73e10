"""The worst cases: a card with a picture for each, what its lines mean, how cards are chosen and sorted."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import shapely

from trajpred.config import DEFAULT_MODEL, NS_PER_S
from trajpred.geometry import rotate
from trajpred.lanes import Lanes
from trajpred.metrics import MotionType
from trajpred.report import svg
from trajpred.report.examined import WORST_BY, Examined, WorstCase
from trajpred.report.markup import Html, definitions, element, joined
from trajpred.report.naming import words
from trajpred.types import Float, Label, Source

BEFORE_S = 4.0
"""So long before a worst moment the viewer begins."""
ARROW_PX = 6.0 * np.array([[1.2, 0.0], [-0.8, 0.7], [-0.4, 0.0], [-0.8, -0.7]])


def note(found: Examined, cases: Sequence[WorstCase]) -> str:
    """What these cases were chosen by."""
    by = f"the ADE of the best of {min(found.witness.modes, 6)}" if found.witness.modes > 1 else "ADE"
    return (
        f"One moment of each road user, the worst by {by}; of all of them the {len(cases)} worst. Two may "
        "have had the same track, where a tracker took one for the other. Positions in m from where the "
        "agent is now, along the axes of the recording. The command on a card opens its moment."
    )


def legend(found: Examined, cases: Sequence[WorstCase]) -> Html:
    """What the lines of these cases are."""
    several = any(len(case.paths) > 1 for case in cases)
    lines = {
        "black": ("seen so far", True),
        "blue": ("most probable path", True),
        "sky": ("other paths, denser if more probable", several),
        "green": ("single path", several),
        "orange": ("what then happened", True),
        "pale": ("other agents", any(case.others for case in cases)),
        "lane": ("the road", found.lanes is not None),
    }
    return svg.legend([(look, text) for look, (text, there) in lines.items() if there])


def filters(values: Iterable[Label | MotionType]) -> list[tuple[str, str]]:
    """Choices of what to show: value and text."""
    return [("", "all"), *((each, each) for each in sorted(set(map(words, values))))]


def orders(found: Examined) -> list[tuple[str, str]]:
    """Choices of what to sort by: the name of the rank that a card holds, and text."""
    modes = found.witness.modes
    return [
        ("rankError", f"best of {min(modes, 6)}, worst first" if modes > 1 else "ADE, worst first"),
        ("rankSingle", "FDE of the single path, worst first"),
        ("rankTime", "earliest first"),
        ("rankLabel", "by class and motion"),
    ]


def cards(found: Examined, cases: Sequence[WorstCase]) -> Html:
    """A card for each, with its place in every order."""
    ranks = {
        "error": _ranks(cases, lambda case: -case.error[WORST_BY]),
        "single": _ranks(cases, lambda case: -case.error["fde_single"]),
        "time": _ranks(cases, lambda case: (case.stamp_ns, case.scene)),
        "label": _ranks(cases, lambda case: (words(case.label), words(case.motion))),
    }
    return joined(
        element(
            "article",
            _card(found, case),
            id=case.anchor,
            class_="case",
            data_label=words(case.label),
            data_motion=words(case.motion),
            **{f"data_rank_{name}": rank[case.anchor] for name, rank in ranks.items()},
        )
        for case in cases
    )


def _ranks(cases: Sequence[WorstCase], key: Callable[[WorstCase], Any]) -> dict[str, int]:
    """By anchor, the place in the order of this key; equal ones stay as they are."""
    return {case.anchor: rank for rank, case in enumerate(sorted(cases, key=key))}


def _card(found: Examined, case: WorstCase) -> Html:
    modes, scene = found.witness.modes, next(s for s in found.source.scenes if s.name == case.scene)
    at_s = (case.stamp_ns - int(scene.stamp_ns.min())) / NS_PER_S
    title = f"{words(case.label)}, {words(case.motion)}"
    facts: list[tuple[str, str]] = [("scene", case.scene), ("track", case.track)]
    facts.append(("moment", f"{at_s:g} s after the start, stamp {case.stamp_ns} ns"))
    if modes > 1:
        facts.append((f"best of {min(modes, 6)}", _metres(case, "min_ade_6", "min_fde_6")))
    facts.append(("single path", _metres(case, "ade_single", "fde_single")))
    if case.source not in (Source.MODEL, Source.BASELINE):
        facts.append(("baseline", words(case.source)))
    facts.append(("look", element("code", _command(found, case, at_s), class_="copied")))
    return joined(
        [
            element("h3", element("a", title, href=f"#{case.anchor}")),
            element("figure", _picture(case, found.lanes)),
            definitions(facts),
        ]
    )


def _metres(case: WorstCase, ade: str, fde: str) -> str:
    return f"ADE {case.error[ade]:.2f}, FDE {case.error[fde]:.2f} m"


def _command(found: Examined, case: WorstCase, at_s: float) -> str:
    """What opens the viewer a little before the moment."""
    command = ["trajpred", "view", found.source.name, "--from-s", f"{max(0.0, at_s - BEFORE_S):g}"]
    command += ["--scene", case.scene] if len(found.source.scenes) > 1 else []
    command += ["--model", found.model] if found.model != DEFAULT_MODEL else []
    return shlex.join(command)


def _road(box: svg.Box, lanes: Lanes, now: Float) -> list[Html]:
    """What of the road is inside, under everything else."""
    corners = np.concatenate([np.add(box.low, now), np.add(box.high, now)]).tolist()

    def inside(whole: shapely.Geometry, kind: str) -> list[Float]:
        parts = shapely.get_parts(shapely.clip_by_rect(whole, *corners))
        kept = [part for part in parts if part.geom_type == kind and not part.is_empty]
        return [box.px(shapely.get_coordinates(part) - now) for part in kept]

    areas = (px for area in lanes.areas for px in inside(shapely.Polygon(area.outline), "Polygon"))
    lines = (px for line in lanes.lines for px in inside(shapely.LineString(line.points), "LineString"))
    drawn = [element("polygon", points=svg.coordinates(px), class_="road") for px in areas]
    return drawn + [svg.line(px, "lane") for px in lines]


def _picture(case: WorstCase, lanes: Lanes | None) -> Html:
    """What was seen, said and then happened, in m from where the agent is now."""
    now = case.now
    paths = np.insert(case.paths - now, 0, 0.0, axis=1)  # lines leave from the agent
    truth, history = np.insert(case.truth - now, 0, 0.0, axis=0), case.history - now
    points = np.concatenate([paths.reshape(-1, 2), truth, history])
    box = svg.Box(40.0, 6.0, 254.0, 254.0, *_square(points))
    drawn = _road(box, lanes, now) if lanes else []
    for other in case.others:
        line = box.px(other - now)
        drawn += [svg.line(line, "pale"), svg.dot(line[-1], 2.5, "pale")]
    order = np.argsort(-case.probability, kind="stable")
    share = case.probability / max(float(case.probability[order[0]]), 1e-9)
    for k in order[:0:-1].tolist():
        line, opacity = box.px(paths[k]), f"{0.35 + 0.6 * share[k]:.2f}"
        drawn += [svg.line(line, "sky", opacity=opacity), svg.dot(line[-1], 2.0, "sky", opacity=opacity)]
    top = box.px(paths[order[0]])
    drawn.append(svg.line(top, "blue"))
    if len(paths) > 1:
        drawn.append(svg.line(box.px(np.insert(case.single - now, 0, 0.0, axis=0)), "green"))
    end = box.px(truth)
    drawn += [svg.line(end, "orange"), svg.dot(end[-1], 3.5, "orange")]
    seen = box.px(history)
    drawn += [svg.line(seen, "black"), *(svg.dot(point, 1.8, "black") for point in seen)]
    arrow = box.px(np.zeros(2)) + rotate(ARROW_PX, case.heading) * [1.0, -1.0]
    drawn.append(element("polygon", points=svg.coordinates(arrow), class_="agent"))
    drawn.append(svg.dot(top[-1], 3.5, "blue"))  # on the agent, if that is to stay where it is
    title = f"{words(case.label)}, {words(case.motion)}, track {case.track}: paths and what then happened"
    return svg.picture(box, [box.axes("x, m", "y, m"), box.clipped(drawn)], title)


def _square(points: Float) -> tuple[tuple[float, float], tuple[float, float]]:
    """The lower left and upper right corner, m, of a square that holds (N, 2) points, 2 m wide at least."""
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), half = ((low + high) / 2).tolist(), max(float((high - low).max()) * 0.58, 1.0)
    return (x - half, y - half), (x + half, y + half)
