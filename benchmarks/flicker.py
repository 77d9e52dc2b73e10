"""How much the single path changes from one message to the next, of those who truly stand and those who move.

    python benchmarks/flicker.py --json benchmarks/results/flicker.json

Simulated traffic as trackers see it at 10 Hz, recordings that no model was trained on: half a minute of each
scenario. Fills the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import fill, table

from data_tools.catalog import SIMULATED_SEEDS
from data_tools.simulate.layouts import LAYOUTS
from data_tools.simulate.record import Recording, record
from trajpred.config import DEFAULT_MODEL, NS_PER_S
from trajpred.evaluate import make_predictor
from trajpred.flicker import flicker
from trajpred.types import Bool, Float, Label

ROOT = Path(__file__).parents[1]
SECONDS = 30.0
STANDS_M, BEFORE_S, AFTER_S = 0.05, 1.0, 8.0
"""Who truly stays within so much, from so long before to so long after."""
MODELS = (DEFAULT_MODEL, "cv", "ctrv", "kalman")


def stands(recording: Recording) -> Bool:
    """(R,) whether whom a row of the tracks shows stands; not where the truth ends before that is known."""
    seen, true = recording.tracks, recording.truth.scene
    found = np.zeros(len(seen), bool)
    for name in np.unique(true.ids):
        rows = np.flatnonzero(true.ids == name)
        stamp_ns, xy = true.stamp_ns[rows], true.xy[rows]
        for row in np.flatnonzero(recording.truth.ids == name):
            begin = seen.stamp_ns[row] - round(BEFORE_S * NS_PER_S)
            end = seen.stamp_ns[row] + round(AFTER_S * NS_PER_S)
            first, last = np.searchsorted(stamp_ns, [begin, end])
            whole = stamp_ns[0] <= begin and end <= stamp_ns[-1]
            found[row] = whole and np.ptp(xy[first:last], axis=0).max() <= STANDS_M
    return found


def changes(model: str, recording: Recording) -> tuple[Float, Float]:
    """(R,) m: of the path, and of the position, since the message before; NaN where there was none."""
    predictor = make_predictor(model)
    before, paths, positions = None, [], []
    for frame in recording.tracks.frames():
        answer = predictor.step(frame)
        change = np.full(len(frame), np.nan)
        moved = change.copy()
        if before is not None:
            change = flicker(before, answer)
            was = dict(zip(before.ids.tolist(), before.xy, strict=True))
            for row, name in enumerate(answer.ids.tolist()):
                if name in was:
                    moved[row] = np.hypot(*(answer.xy[row] - was[name]))
        paths.append(change)
        positions.append(moved)
        before = answer
    return np.concatenate(paths), np.concatenate(positions)


def quantiles(values: Float) -> dict[str, float]:
    """Mean, median, 99th percentile and largest of what is known, and the share above STANDS_M."""
    known = values[np.isfinite(values)]
    median, high, largest = np.quantile(known, (0.5, 0.99, 1.0)).tolist()
    return {
        "n": len(known),
        "mean": float(known.mean()),
        "median": median,
        "p99": high,
        "max": largest,
        "share_above_0.05_m": float(np.mean(known > STANDS_M)),
    }


def main() -> None:
    """Simulate, predict, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/flicker.json")
    given = parser.parse_args()
    seed = SIMULATED_SEEDS["test"][0]
    recordings = [record(scenario, SECONDS, seed) for scenario in LAYOUTS]
    standing = np.concatenate([stands(recording) for recording in recordings])
    label = np.concatenate([recording.tracks.label for recording in recordings])
    result: dict[str, Any] = {}
    rows = []
    for model in MODELS:
        path, position = (
            np.concatenate(parts)
            for parts in zip(*(changes(model, recording) for recording in recordings), strict=True)
        )
        if not rows:
            result["position"] = {"standing": quantiles(position[standing])}
            about = result["position"]["standing"]
            rows.append(["their position, as reported", *_words(about), _share(about), "", ""])
        result[model] = {"standing": quantiles(path[standing]), "others": quantiles(path[~standing])}
        mean, high = _words(result[model]["others"])
        name = "the model in the box" if model == DEFAULT_MODEL else model
        standing_of = result[model]["standing"]
        rows.append([name, *_words(standing_of), _share(standing_of), mean, high])
        if model == DEFAULT_MODEL:
            classes = {one.name: quantiles(path[standing & (label == one)]) for one in _seen(label[standing])}
            standing_of["by_class"] = classes
            for kind, of_kind in classes.items():
                about = f"of it {kind.lower()} (n = {of_kind['n']})"
                rows.append([about, *_words(of_kind), _share(of_kind), "", ""])
    count = {kind: result[DEFAULT_MODEL][kind]["n"] for kind in ("standing", "others")}
    header = [
        "change, m",
        f"who stands (n = {count['standing']}): mean, median",
        "99 %, largest",
        "above 0.05 m",
        f"all others (n = {count['others']}): mean, median",
        "99 %, largest",
    ]
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    lines = table(header, rows)
    print(lines)
    fill(ROOT / "docs/reliability.md", {"flicker": lines})


def _words(found: dict[str, float]) -> tuple[str, str]:
    return f"{found['mean']:.3f}, {found['median']:.3f}", f"{found['p99']:.2f}, {found['max']:.1f}"


def _share(found: dict[str, float]) -> str:
    return f"{found['share_above_0.05_m']:.1%}"


def _seen(labels: NDArray[np.uint8]) -> list[Label]:
    return [Label(one) for one in np.unique(labels)]


if __name__ == "__main__":
    main()
