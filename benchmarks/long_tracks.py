"""What a model makes of who has been seen for minutes, beside the same people seen for a short time.

    python benchmarks/long_tracks.py runs/universal.onnx trajpred/models/default.onnx

Training sees histories of seconds; a tracker keeps a track as long as it sees it, and the encoder's state
goes on. Cyclists on smooth random rides, observed with noise at 12.5 Hz: the error of the best path from a
state as old as the ride, and from one that is SHORT observations old. Both should be the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from trajpred.config import NS_PER_S
from trajpred.evaluate import make_predictor
from trajpred.types import Float, Label, Prediction, TrackFrame, ids_from_int

STEP_S, NOISE_M = 0.08, 0.03
SHORT = 40
AGES = (100, 200, 500, 1000, 3000)
AHEAD_S = 4.8
MEAN_MPS, FASTEST_MPS = 4.0, 8.0


def rides(agents: int, rng: np.random.Generator) -> Float:
    """(T, N, 2) m: speed and heading each wander."""
    shape = (max(AGES) + round(AHEAD_S / STEP_S) + 1, agents)
    speed = np.clip(MEAN_MPS + np.cumsum(0.05 * rng.normal(size=shape), axis=0), 0.0, FASTEST_MPS)
    heading = np.cumsum(0.01 * rng.normal(size=shape), axis=0)
    step = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    path: Float = np.cumsum(speed[..., None] * STEP_S * step, axis=0)
    return path


def frames(seen: Float, first: int, end: int) -> Iterator[TrackFrame]:
    """What a tracker says from tick `first` to before `end`."""
    who = ids_from_int(np.arange(seen.shape[1]))
    for tick in range(first, end):
        stamp_ns = NS_PER_S + round(tick * STEP_S * NS_PER_S)
        yield TrackFrame.build(stamp_ns, who, seen[tick], label=Label.BICYCLE)


def error(answer: Prediction, path: Float, now: int) -> float:
    """M, mean over agents of the best path's mean distance to where they went until AHEAD_S."""
    within = answer.offset_s <= AHEAD_S + 1e-6
    ticks = now + np.rint(answer.offset_s[within] / STEP_S).astype(int)
    gap = answer.paths[:, :, within] - path[ticks].transpose(1, 0, 2)[:, None]
    return float(np.hypot(*np.moveaxis(gap, -1, 0)).mean(-1).min(1).mean())


def measure(model: str, path: Float, seen: Float) -> list[tuple[float, float]]:
    """For each of AGES: error from a state of that age, and from one of SHORT observations."""
    predictor, found, tick = make_predictor(model), [], 0
    for age in AGES:
        for frame in frames(seen, tick, age):
            old = predictor.step(frame)
        fresh = make_predictor(model)
        for frame in frames(seen, age - SHORT, age):
            new = fresh.step(frame)
        found.append((error(old, path, age - 1), error(new, path, age - 1)))
        tick = age
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="artefacts")
    parser.add_argument("--agents", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    path = rides(given.agents, rng)
    seen = path + NOISE_M * rng.normal(size=path.shape)
    print(
        f"| best path, ADE m: after so many observations / after the last {SHORT} of them alone | "
        + " | ".join(map(str, AGES))
        + " |"
    )
    print("|---" * (len(AGES) + 1) + "|")
    for model in given.models:
        cells = [f"{old:.3f} / {new:.3f} ({old / new - 1:+.0%})" for old, new in measure(model, path, seen)]
        print(f"| {model} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
