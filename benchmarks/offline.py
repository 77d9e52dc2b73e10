"""Speed of the offline line: windows per second of `evaluate`, and training time per ETH/UCY fold.

    python benchmarks/offline.py --runs runs --json benchmarks/results/offline.json

Folds that are not trained yet are trained first, with configs/eth_ucy.yaml.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from data_tools.catalog import FOLDS, open_data
from trajpred.config import PredictorConfig
from trajpred.evaluate import evaluate, make_predictor, score_windows
from trajpred.learn.train import Run
from trajpred.windows import cut

ROOT = Path(__file__).resolve().parents[1]


def train(runs: Path, fold: str) -> Path:
    """The fold's artefact, trained and exported by the command line if it is not there."""
    run, artefact = runs / fold, runs / f"{fold}.onnx"
    command = [sys.executable, "-m", "trajpred.cli"]
    subprocess.run(
        [
            *command,
            "train",
            "--config",
            str(ROOT / "configs/eth_ucy.yaml"),
            "--fold",
            fold,
            "--out",
            str(run),
        ],
        check=True,
    )
    if not artefact.exists():
        subprocess.run([*command, "export", str(run), "--out", str(artefact)], check=True)
    return artefact


def measure(artefact: Path, fold: str, threads: int) -> dict[str, float]:
    """Seconds to read and cut the recordings, to predict and score all windows, and for all of `evaluate`."""
    data = f"eth_ucy:{fold}:test"
    started = time.perf_counter()
    source = open_data(data)
    windows = cut(source.scenes, source.protocol)
    read = time.perf_counter()
    score_windows(make_predictor(str(artefact), PredictorConfig(threads=threads)), windows)
    scored = time.perf_counter()
    summary = evaluate(str(artefact), source, config=PredictorConfig(threads=threads))
    return {
        "n": summary["n"],
        "read_s": read - started,
        "predict_and_score_s": scored - read,
        "evaluate_s": time.perf_counter() - scored,
        "min_ade_20": summary["metrics"]["min_ade_20"],
        "min_fde_20": summary["metrics"]["min_fde_20"],
        "ade_1": summary["metrics"]["ade_1"],
        "fde_1": summary["metrics"]["fde_1"],
    }


def main() -> None:
    """Measure every fold and write one JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=2, help="folds trained side by side, one core each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/offline.json"))
    given = parser.parse_args()
    folds = {}
    with ThreadPoolExecutor(given.jobs) as pool:
        artefacts = list(pool.map(partial(train, given.runs), FOLDS))
    for fold, artefact in zip(FOLDS, artefacts, strict=True):
        folds[fold] = {
            "training_s": Run.read(given.runs / fold).seconds,
            **measure(artefact, fold, given.threads),
        }
        print(fold, {k: round(v, 3) for k, v in folds[fold].items() if v is not None})
    total = {key: sum(f[key] for f in folds.values()) for key in ("n", "predict_and_score_s", "evaluate_s")}
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": given.threads,
        "folds": folds,
        "total": {**total, "windows_per_s": total["n"] / total["evaluate_s"]},
    }
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=2) + "\n")
    print(given.json, result["total"])


if __name__ == "__main__":
    main()
