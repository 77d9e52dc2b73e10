"""What the model in the box does, on simulated traffic and on real recordings, none of which it saw.

    TRAJPRED_DATA=... python benchmarks/default_model.py

Writes benchmarks/results/default_model.json, the tables of docs/model_card.md, and the card in the package.
--split val looks at `val` instead, to choose settings, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pages import fill_card, table

from data_tools.catalog import SIMULATED_SEEDS, open_data
from trajpred.config import DEFAULT_MODEL
from trajpred.evaluate import answered, evaluate, make_predictor
from trajpred.metrics import MotionType
from trajpred.runtime import OnnxModel, artefact
from trajpred.types import Float, Label
from trajpred.windows import DataSource

ROOT = Path(__file__).parents[1]
BASELINES = ("cv", "ctrv", "kalman")
GROUPS = {
    "cyclists": (Label.BICYCLE,),
    "vehicles": (Label.CAR, Label.TRUCK, Label.BUS, Label.MOTORCYCLE),
    "cars": (Label.CAR,),
    "trucks": (Label.TRUCK,),
    "buses": (Label.BUS,),
    "motorcycles": (Label.MOTORCYCLE,),
    "pedestrians": (Label.PEDESTRIAN,),
}
NEAR_S = 3.0
REAL = {
    "vru:{split}": "VRU cyclists, 4.8 s",
    "sdd:{split}:Biker": "SDD bikers, 4.8 s",
    "kitti": "KITTI, all classes, 1 s seen, 3 s",
    "womd": "Waymo, all classes, 1 s seen, 8 s",
}


def errors(model: str, source: DataSource) -> tuple[Float, Float, Float]:
    """(N,) labels, FDE of the single path at NEAR_S, FDE of the best path at the last step."""
    parts = []
    for answer in answered(make_predictor(model, protocol=source.protocol), source):
        batch = answer.batch
        near = int(np.argmin(np.abs(batch.offset_s - NEAR_S)))
        single = np.hypot(*(batch.single[:, near] - batch.truth[:, near]).T)
        last = np.hypot(*np.moveaxis(batch.paths[:, :, -1] - batch.truth[:, None, -1], -1, 0)).min(axis=1)
        parts.append((batch.label, single, last))
    label, single, last = (np.concatenate(column) for column in zip(*parts, strict=True))
    return label, single, last


def simulated(model: str, source: DataSource) -> dict[str, dict[str, float]]:
    """Mean errors by group: of the model and of each baseline."""
    found = {name: errors(name, source) for name in (model, *BASELINES)}
    rows: dict[str, dict[str, float]] = {}
    for group, labels in GROUPS.items():
        mine = np.isin(found[model][0], labels)
        rows[group] = {"n": int(mine.sum())}
        for name, (_, single, last) in found.items():
            who = "model" if name == model else name
            rows[group] |= {
                f"{who} near": float(single[mine].mean()),
                f"{who} last": float(last[mine].mean()),
            }
    return rows


def real(model: str, split: str) -> dict[str, dict[str, Any]]:
    """Scores of the model and of constant velocity, by data."""
    names = [name.format(split=split) for name in REAL]
    return {name: {who: evaluate(who, open_data(name)) for who in (model, "cv")} for name in names}


def less(ours: float, theirs: float) -> str:
    """How much lower."""
    return f"{100 * (ours / theirs - 1):+.0f} %"


def simulated_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """In Markdown; the better of CV and CTRV is what a row is compared with, and the Kalman filter."""
    lines = []
    for group, row in rows.items():
        cells = [group, f"{row['n']}"]
        for when in ("near", "last"):
            ours, best = row[f"model {when}"], min(row[f"cv {when}"], row[f"ctrv {when}"])
            others = "/".join(f"{row[f'{name} {when}']:.2f}" for name in BASELINES)
            cells += [f"{ours:.2f}", others, less(ours, best), less(ours, row[f"kalman {when}"])]
        lines.append(cells)
    header = [
        *(
            "",
            "n",
            f"FDE at {NEAR_S:g} s, single path",
            "CV/CTRV/Kalman",
            "to the better of CV, CTRV",
            "to Kalman",
        ),
        *("minFDE6 at 8 s", "CV/CTRV/Kalman", "to the better of CV, CTRV", "to Kalman"),
    ]
    return table(header, lines)


def real_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown."""
    lines = []
    for (name, scores), what in zip(found.items(), REAL.values(), strict=True):
        ours, cv = (scored["metrics"] for scored in scores.values())
        lines.append(
            [
                f"{what} (`{name}`)",
                str(next(iter(scores.values()))["n"]),
                f"{cv['ade_single']:.3f}/{cv['fde_single']:.3f}",
                f"{ours['ade_single']:.3f}/{ours['fde_single']:.3f}",
                less(ours["ade_single"], cv["ade_single"]),
                f"{ours['min_ade_6']:.3f}/{ours['min_fde_6']:.3f}",
                less(ours["min_ade_6"], cv["ade_single"]),
            ]
        )
    header = ["", "n", "CV", "single path", "ADE to CV", "best of 6", "ADE to CV"]
    return table(header, lines)


def motion_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown: the single path's ADE and constant velocity's, by what the road users did."""
    lines = []
    for name, scores in found.items():
        ours, cv = (scored["per_motion"] for scored in scores.values())
        cells = []
        for motion in map(str.lower, MotionType.__members__):
            n, cell = ours.get(motion, {"n": 0})["n"], "-"
            if n:
                a, b = ours[motion]["ade_single"], cv[motion]["ade_single"]
                cell = f"{a:.2f}, {b:.2f}, {less(a, b)} ({n})"
            cells.append(cell)
        lines.append([f"`{name}`", *cells])
    return table(["ADE: model, CV (n)", *map(str.lower, MotionType.__members__)], lines)


def calibration_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown: how often the truth lay where it was said to lie."""
    lines = []
    for name, scores in found.items():
        ours = next(iter(scores.values()))["metrics"]
        shares = (f"{100 * ours[f'coverage_{p}']:.0f} %" for p in (50, 90))
        lines.append([f"`{name}`", *shares, f"{ours['calibration_error']:.3f}"])
    return table(["", "in the 50 % region", "in the 90 % region", "error of the probabilities (ECE)"], lines)


def about(model: str, simulating_min: float) -> str:
    """What the artefact says of itself, and how long its traffic took."""
    info, size = OnnxModel.load(model).info, artefact(model).stat().st_size
    by = info.trained_by
    return table(
        ["", ""],
        [
            ["file", f"{artefact(model).name}, {size / 1e6:.2f} MB"],
            ["trained on", f"`{info.trained_on}`"],
            [
                "time on one core",
                f"{simulating_min:.0f} minutes to simulate, {by['seconds'] / 60:.0f} minutes to train",
            ],
            ["classes", ", ".join(name.lower() for name in info.trained_classes)],
            [
                "paths",
                f"{info.modes} of {len(info.offset_s)} steps to {info.offset_s[-1]:g} s, and a single one",
            ],
            ["neighbours", f"the nearest {info.neighbours} within {info.neighbour_radius_m:g} m"],
            ["code version", info.code_version],
        ],
    )


def main() -> None:
    """Score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/default_model.json")
    given = parser.parse_args()
    source = open_data(f"simulated:{given.split}")
    # The processor's time of the processes that simulated, from these recordings to those for training.
    spent, made = os.times(), SIMULATED_SEEDS[given.split]
    minutes = (spent.children_user + spent.children_system) / 60 * len(SIMULATED_SEEDS["train"]) / len(made)
    on_simulated, on_real = simulated(given.model, source), real(given.model, given.split)
    parts = {
        "about": about(given.model, minutes),
        "simulated": simulated_table(on_simulated),
        "real": real_table(on_real),
        "motion": motion_table(on_real),
        "calibration": calibration_table(on_real),
    }
    print("\n\n".join(parts.values()))
    if given.split == "test" and given.model == DEFAULT_MODEL:
        given.json.write_text(json.dumps({"simulated": on_simulated, "real": on_real}, indent=1) + "\n")
        fill_card(parts)


if __name__ == "__main__":
    main()
