"""What steps took, and what made the page."""

from __future__ import annotations

import json
import os
import platform

import numpy as np

from trajpred import __version__
from trajpred.report.examined import Examined
from trajpred.report.markup import Html, definitions, element, joined
from trajpred.report.naming import words

PERCENTILE_STEPS = 100
"""Of fewer steps, the 99th percentile would be the slowest one."""


def cost(found: Examined) -> Html:
    """What was timed, without the first step, which loads compiled code."""
    witness = found.witness
    if found.recorded:
        return element("p", "The answers were read from a log: there was nothing to time.")
    first, *rest = (1e3 * seconds for seconds in witness.step_s)
    agents = np.array(witness.agents[1:] if rest else witness.agents)
    step_ms = np.array(rest or [first])
    pairs = [
        ("steps timed", f"{len(step_ms):,}" + (f", after the first one ({first:.2f} ms)" if rest else "")),
        ("agents in a step", f"{np.median(agents):,.0f} (median), {agents.max():,} at most"),
        ("median (p50)", f"{np.median(step_ms):.2f} ms"),
    ]
    if len(step_ms) >= PERCENTILE_STEPS:
        pairs.append(("99 % within (p99)", f"{np.percentile(step_ms, 99):.2f} ms"))
    pairs.append(("slowest", f"{step_ms.max():.2f} ms"))
    pairs.append(("for each agent", f"{1e3 * step_ms.sum() / agents.sum():.1f} µs (mean)"))
    note = (
        "Wall-clock time of the predictor's step during this very evaluation, on one machine "
        f"({platform.machine()}, {os.cpu_count()} cores, with whatever else it was doing): it says little "
        "about another one."
    )
    if not found.source.streamed:
        note += (
            " The windows of many moments are answered in one step here, so that a step has more agents than "
            "a frame of a live tracker."
        )
    return joined([definitions(pairs), element("p", note, class_="note")])


def origin(found: Examined, command: str) -> Html:
    """What made the page: command, data, model."""
    scores, info, source = found.scores[found.model], found.info, found.source
    answered = ", ".join(f"{words(who)} {count:,}" for who, count in sorted(found.witness.sources.items()))
    pairs: list[tuple[str, str]] = [
        ("command", element("code", command)),
        ("version", f"trajpred {__version__}"),
        (
            "data",
            f"{source.name} (recordings: {len(source.scenes):,}, predictions scored: {scores['n']:,})",
        ),
        ("model", element("code", found.model)),
        ("answered by", answered),
    ]
    if info is None:
        return definitions(pairs)
    pairs += [
        ("SHA-256 of the file", element("code", str(found.sha256))),
        (
            "network",
            f"{info.encoder}, K = {info.modes}, {len(info.offset_s)} steps to {info.offset_s[-1]:g} s",
        ),
        ("trained on", info.trained_on),
        ("trained classes", ", ".join(name.lower().replace("_", " ") for name in info.trained_classes)),
        *([("knows the place", info.place.frame_id)] if info.place else []),
        ("exported by", f"trajpred {info.code_version}"),
    ]
    settings = json.dumps(info.trained_by, indent=2, sort_keys=True)
    more = element("details", element("summary", "How it was trained"), element("pre", settings, tabindex=0))
    return joined([definitions(pairs), more])
