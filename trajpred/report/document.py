"""The page as a whole: the text of `report.html`, filled in."""

from __future__ import annotations

import math
from importlib.resources import files
from string import Template

from trajpred.config import NS_PER_S
from trajpred.metrics import TURN_MIN_RAD
from trajpred.report import cases, charts, facts, tables
from trajpred.report.examined import Examined
from trajpred.report.markup import choices, escaped
from trajpred.report.naming import model_name
from trajpred.types import Source


def page(found: Examined, command: str) -> str:
    """The whole page; `command` is what made it.

    The same evaluation gives the same page but for the section `cost`, which holds what was timed.
    """
    scores = found.scores[found.model]
    name, worst = model_name(found.model), found.witness.cases()
    parts: dict[str, str] = {
        "title": f"{name} on {scores['data']}",
        "heading": f"{name} on {scores['data']}",
        "subtitle": _summary(found),
        "headline": tables.headline(found),
        "all_scores": tables.all_scores(found),
        "horizon_chart": charts.horizon(found),
        "horizon_table": tables.horizon(found),
        "reliability_chart": charts.reliability(found),
        "calibration_table": tables.calibration(found),
        "reliability_table": tables.reliability(found),
        "class_table": tables.groups(found, "per_class", "Class", "By class of the agent"),
        "class_chart": charts.classes(found),
        "motion_table": tables.groups(found, "per_motion", "Motion", "By how the agent moves from now on"),
        "turn_deg": f"{math.degrees(TURN_MIN_RAD):.0f}",
        "cost": facts.cost(found),
        "case_note": cases.note(found, worst),
        "case_legend": cases.legend(found, worst),
        "case_classes": choices("case-label", cases.filters(case.label for case in worst)),
        "case_motions": choices("case-motion", cases.filters(case.motion for case in worst)),
        "case_orders": choices("case-order", cases.orders(found)),
        "cases": cases.cards(found, worst),
        "origin": facts.origin(found, command),
    }
    template = Template(files("trajpred.report").joinpath("report.html").read_text("utf-8"))
    text = template.substitute({key: escaped(part) for key, part in parts.items()})
    return text.encode("utf-8", "replace").decode()  # a file's name need not be text


def _summary(found: Examined) -> str:
    """What was scored, and whether the model had nothing to say of some of it."""
    reach_s, how, n = found.witness.offset_s[-1], found.source.protocol, found.scores[found.model]["n"]
    text = f"{n:,} predictions scored, "
    if found.source.streamed:
        text += f"up to {reach_s:g} s ahead, at every moment of the recordings"
    else:
        step_s = how.step_ns / NS_PER_S
        text += f"{reach_s:g} s ahead, from {how.observe} observations {step_s:g} s apart"
    if found.info is not None and (others := n - found.witness.sources[Source.MODEL]):
        text += f". {others:,} of them are of a baseline: the model could not answer"
    return f"{text}."
