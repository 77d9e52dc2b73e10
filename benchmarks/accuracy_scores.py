"""What benchmarks/accuracy.py measures of a model: errors, also by how much was seen, time and size."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_tables import HIDDEN

from data_tools.catalog import open_data
from trajpred.config import NS_PER_S, PredictorConfig
from trajpred.evaluate import Answer, answered, make_predictor, score_windows, scored_only
from trajpred.metrics import AgentScores, score, summarise
from trajpred.predictor import Predictor
from trajpred.runtime import OnnxModel
from trajpred.types import Bool
from trajpred.windows import cut

DENSE_M, DENSE_OTHERS = 3.0, 3
LATENCY_AGENTS, LATENCY_CALLS = 128, 300
FINE = 5
"""Of the protocol's step of 0.4 s: the cyclists' clips have all of these points."""
HISTORIES = ((1, FINE), (2, FINE), (4, FINE), (8, FINE), (18, 2), (36, 1))
"""How many observations, the last at the moment itself, and how many points of the fine grid apart."""
SHORT = ("min_ade_6", "min_fde_6", "ade_single", "fde_single")


def scores(model: str, data: str) -> dict[str, Any]:
    """Of all scored agents, and of those in dense scenes: at least DENSE_OTHERS others within DENSE_M.

    evaluate_s: what it took to predict and to score, on one core.
    """
    source = open_data(data.removesuffix(HIDDEN))
    config = PredictorConfig(place=not data.endswith(HIDDEN))
    begun = time.perf_counter()
    parts, dense = [], []
    for answer in answered(make_predictor(model, config, protocol=source.protocol), source):
        parts.append(score(answer.batch))
        dense.append(crowded(answer))
    everyone = AgentScores.concatenate(parts)
    among = np.concatenate(dense)
    summary = summarise(everyone)
    summary["evaluate_s"] = time.perf_counter() - begun
    summary["dense"] = {"n": int(among.sum())}
    if among.any():
        summary["dense"]["metrics"] = summarise(everyone.take(among), bootstrap=0)["metrics"]
    return summary


def histories(model: str, data: str) -> dict[str, dict[str, float]]:
    """By how much of its history a predictor is given, the same agents each time: their errors, metres.

    Named by the number of observations and their rate.
    """
    source = open_data(data.removesuffix(HIDDEN))
    coarse = source.protocol
    fine = {"fine": FINE, "observe": FINE * (coarse.observe - 1) + 1, "stride": FINE * coarse.stride}
    protocol = replace(coarse, **fine)
    windows = scored_only(cut(source.scenes, protocol, source.truth), source)
    predictor = make_predictor(model, PredictorConfig(place=not data.endswith(HIDDEN)), protocol=protocol)
    assert isinstance(predictor, Predictor)
    found = {}
    for observations, apart in HISTORIES:
        given = windows.valid.copy()
        at = np.arange(protocol.observe - 1, -1, -apart)[:observations]
        given[:, np.setdiff1d(np.arange(protocol.observe), at)] = False
        summary = summarise(score_windows(predictor, replace(windows, valid=given)), bootstrap=0)["metrics"]
        rate = FINE * NS_PER_S / (apart * protocol.step_ns)
        found[f"{observations} at {rate:g} Hz"] = {name: summary[name] for name in SHORT}
    return found


def crowded(answer: Answer) -> Bool:
    """(N,) whether a scored agent has so many others so near."""
    now, group = answer.history[:, -1], answer.group
    others = np.empty(len(answer.rows), np.int64)
    for at, row in enumerate(answer.rows.tolist()):
        first, end = np.searchsorted(group, [group[row], group[row] + 1])
        gap = np.hypot(*(now[first:end] - now[row]).T)
        others[at] = np.count_nonzero(gap <= DENSE_M) - 1
    return others >= DENSE_OTHERS


def milliseconds(artefact: Path) -> float:
    """Median time of one step of LATENCY_AGENTS agents on one thread, their history encoded before."""
    from trajpred.features import FEATURES, RELATION, Neighbours

    model, rng = OnnxModel.load(artefact, threads=1, provider="cpu"), np.random.default_rng(0)
    n, near = LATENCY_AGENTS, max(model.info.neighbours, 1)
    state = {
        name: rng.normal(size=(n, *shape)).astype(np.float32) for name, shape in model.info.state.items()
    }
    steps = rng.normal(size=(n, 1, len(FEATURES))).astype(np.float32)
    relation = rng.normal(size=(n, near, len(RELATION))).astype(np.float32)
    seen = Neighbours(rng.integers(0, n, (n, near)), np.ones((n, near), bool), relation)
    given = (
        steps,
        np.ones((n, 1), bool),
        np.full(n, 7, np.uint8),
        np.ones(n, np.float32),
        state,
        np.arange(n),
        seen,
    )
    times = []
    for _ in range(LATENCY_CALLS):
        begun = time.perf_counter()
        model.run(*given)
        times.append(1e3 * (time.perf_counter() - begun))
    return float(np.median(times))


def parameters(run: Path) -> int:
    """Of the network."""
    from trajpred.learn.train import load_model

    return sum(part.numel() for part in load_model(run)[0].parameters())
