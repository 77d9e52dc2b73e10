"""Time of `Predictor.step` by part and number of agents, beside the least that its arithmetic takes.

    python benchmarks/latency.py --json benchmarks/results/latency.json

Simulated traffic as a tracker sees it, one core, one thread unless said; the store is warm. Where the core is
shared with other machines, so are its times: everything is measured in several rounds, a fixed loop in
between tells how much of the core there was, and the figures are those of the round in which that loop ran
fastest. All rounds are in the file. Also: streaming against encoding the whole history again at every tick,
and onnxruntime against torch (benchmarks/backends.py). The floor is explained in benchmarks/floor.py.
Written to benchmarks/results/latency.json, the figures fill docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from backends import compare
from floor import Bench, Rates, Work, work
from latency_tables import tables
from pages import fill
from parts import PARTS, Halves, Watch
from rounds import calmest, loop_times, machine, quantiles
from town import town

from trajpred.config import DEFAULT_MODEL
from trajpred.features import fold, neighbours, to_map
from trajpred.memory import keep_freed_memory
from trajpred.predictor import MOVES_M, Predictor
from trajpred.runtime import OnnxModel
from trajpred.types import Source, TrackFrame

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/latency.json"
RATE_HZ = 10.0
WARM_UP, BLOCK = 40, 20
HISTORY = 36
LENGTHS = (1, 10, HISTORY, 100)


def timed_steps(model: OnnxModel, halves: Halves, frames: Sequence[TrackFrame], core: int) -> dict[str, Any]:
    """One round: whole steps as they are, the parts of others in between, and a fixed loop between blocks."""
    predictor = Predictor(model)
    watch = Watch(predictor)
    for frame in frames[:WARM_UP]:
        predictor.step(frame)
    whole: list[float] = []
    parts: list[dict[str, float]] = []
    loop: list[float] = []
    for number in range(WARM_UP, len(frames), BLOCK):
        block = frames[number : number + BLOCK]
        loop += loop_times(core)
        if number // BLOCK % 3:
            whole += [_took(predictor, frame)[0] for frame in block]
            continue
        with watch.on():
            for frame in block:
                total, answered = _took(predictor, frame)
                assert (answered == Source.MODEL).all()
                lap = watch.lap()
                parts.append({**lap, "rest": total - sum(lap.values()), **halves.times(watch.feeds)})
    return {
        "loop_ms": float(np.median(loop)),
        "step_ms": quantiles(whole),
        "parts_ms": {name: quantiles([lap[name] for lap in parts]) for name in PARTS},
    }


def _took(predictor: Predictor, frame: TrackFrame) -> tuple[float, np.ndarray[Any, Any]]:
    """Ms of a step, and who answered."""
    begun = time.perf_counter()
    prediction = predictor.step(frame)
    return 1e3 * (time.perf_counter() - begun), prediction.source


def past(frame: TrackFrame, length: int) -> list[TrackFrame]:
    """The frame's objects in so many frames that end with it, at their velocities, with noise."""
    rng = np.random.default_rng(0)
    before = []
    for ago in range(length - 1, 0, -1):
        xy = frame.xy - ago / RATE_HZ * frame.velocity + rng.normal(scale=0.02, size=frame.xy.shape)
        before.append(replace(frame, xy=xy, stamp_ns=frame.stamp_ns - round(ago / RATE_HZ * 1e9)))
    return [*before, frame]


def timed_history(
    model: OnnxModel, frame: TrackFrame, length: int, repeats: int, core: int
) -> dict[str, Any]:
    """A tick of agents seen so many times: streaming, and with all their observations encoded again.

    The same tick is measured again and again: a repeated stamp starts from what was remembered before it.
    """
    info, predictor = model.info, Predictor(model)
    seen = past(frame, length)
    for one in seen:
        answer = predictor.step(one)
    stamps = np.array([one.stamp_ns for one in seen])
    columns = [
        np.stack([getattr(one, name) for one in seen], axis=1)
        for name in ("yaw", "yaw_valid", "velocity", "velocity_valid")
    ]
    xy, everybody = np.stack([one.xy for one in seen], axis=1), np.arange(len(frame))
    valid = np.ones(xy.shape[:2], bool)
    blank = {name: np.zeros((len(frame), *shape), np.float32) for name, shape in info.state.items()}
    streaming, again, network = [], [], []
    loop: list[float] = []
    for _ in range(repeats):
        loop += loop_times(core)
        streaming += [_took(predictor, frame)[0] for _ in range(5)]
        begun = time.perf_counter()
        steps, mask, motion = fold(stamps, xy, valid, *columns)
        near = neighbours(motion, frame.group, everybody, info.neighbours, info.neighbour_radius_m)
        folded = time.perf_counter()
        forecast, _ = model.run(steps, mask, frame.label, motion.speed, blank, everybody, near)
        done = time.perf_counter()
        again.append(1e3 * (done - begun))
        network.append(1e3 * (done - folded))
    paths = motion.xy[:, None, None] + to_map(forecast.paths.astype(float), motion.heading[:, None, None])
    moves = np.hypot(*np.moveaxis(paths - paths[:, :, :1], -1, 0)).max(axis=-1) > MOVES_M  # others are held
    return {
        "loop_ms": float(np.median(loop)),
        "streaming_ms": quantiles(streaming),
        "again_ms": quantiles(again),
        "again_network_ms": quantiles(network),
        "largest_difference_m": float(np.abs(paths - answer.paths)[moves].max()),
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it goes into the file."""
    os.sched_setaffinity(0, {given.core})
    keep_freed_memory()  # as the node does
    model, halves, bench = OnnxModel.load(given.model, provider="cpu"), Halves(given.model), Bench()
    info = model.info
    seconds = (WARM_UP + given.ticks - 1) / RATE_HZ
    frames = {}
    for count in sorted({*given.agents, *given.torch_agents, given.history_agents}):
        _say(f"simulated traffic of {count}")
        frames[count] = town(count, seconds, RATE_HZ)
    need = {count: work(given.model, count) for count in given.agents}
    tick = replace(frames[given.history_agents][WARM_UP], stamp_ns=10**12)
    steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    history: dict[int, list[dict[str, Any]]] = defaultdict(list)
    rates = bench.rates()
    for number in range(given.rounds):
        for count in given.agents:
            one = timed_steps(model, halves, frames[count], given.core)
            one["products_alone_ms"] = bench.alone_ms(need[count])
            steps[count].append(one)
            rates = rates.better(bench.rates())
            _say(f"round {number + 1}, {count} agents: p50 {one['step_ms']['p50']:.3f} ms")
        for length in LENGTHS:
            history[length].append(timed_history(model, tick, length, given.repeats, given.core))
            _say(f"round {number + 1}, {length} observations")
    return {
        "machine": {**machine(), **rates._asdict()},
        "model": {
            "name": Path(given.model).name,
            "encoder": info.encoder,
            "state": {name: list(shape) for name, shape in info.state.items()},
            "modes": info.modes,
            "steps": len(info.offset_s),
            "neighbours": info.neighbours,
        },
        "agents": {count: _beside(need[count], rates, found, count) for count, found in steps.items()},
        "history": {
            "agents": given.history_agents,
            "lengths": {length: {**calmest(found), "rounds": found} for length, found in history.items()},
        },
        "backends": compare(given, frames, _say),
    }


def _beside(need: Work, rates: Rates, rounds: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """The calmest round, and the floor."""
    best = calmest(rounds)
    step_ms, floor_ms = best["step_ms"]["p50"], need.floor_ms(rates)
    return {
        **best,
        "per_agent_us": 1e3 * step_ms / count,
        "operations": need.operations,
        "bytes": need.bytes,
        "floor_ms": floor_ms,
        "step_to_floor": step_ms / floor_ms,
        "rounds": rounds,
    }


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, write, fill the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an artefact; default: the model in the box")
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 10, 50, 128, 256, 512, 1024])
    parser.add_argument(
        "--ticks", type=int, default=300, help="a round; the parts are timed in every third block"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--history-agents", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=10, help="of encoding a history again, a round")
    parser.add_argument(
        "--run", type=Path, help="a training run's folder, for torch; default: random weights"
    )
    parser.add_argument(
        "--torch-agents", type=int, nargs="*", default=[1, 10, 50, 128, 256, 512, 1024], help="none: no torch"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="where it runs")
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.cores = os.sched_getaffinity(0)
    result: Mapping[str, Any] = measure(given)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    parts = tables(result)
    print("\n\n".join(parts.values()))
    if given.json == RESULTS:
        fill(ROOT / "docs/performance.md", parts)


if __name__ == "__main__":
    main()
