"""The tables of docs/accuracy.md from the results of benchmarks/accuracy.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pages import fill, table

from data_tools.catalog import FOLDS

HIDDEN = ":hidden"
"""Ends the name of data whose place a model is not told, though it knows it."""

Result = dict[str, Any]
Pick = Callable[[Result], float]


def metric(name: str, *group: str) -> Pick:
    """Reads a score out of a summary, of a group of agents or of all."""

    def pick(summary: Result) -> float:
        for key in group:
            summary = summary[key]
        return float((summary if group else summary["metrics"])[name])

    return pick


class Results:
    """What was measured, with mean and spread over seeds."""

    def __init__(self, result: Result) -> None:
        self.raw = result
        self.models = result["models"]

    def values(self, model: str, data: str, pick: Pick, kind: str = "scores") -> np.ndarray[Any, Any]:
        """(seeds,)."""
        return np.array([pick(row[kind][data]) for row in self.models[model]["seeds"]])

    def fold_mean(self, models: str, data: str, pick: Pick) -> np.ndarray[Any, Any]:
        """(seeds,) mean of the five folds; {} in the names stands for the fold."""
        return np.mean([self.values(models.format(f), data.format(f), pick) for f in FOLDS], axis=0)

    def cv(self, data: str, pick: Pick) -> float:
        """Of constant velocity."""
        return pick(self.raw["constant_velocity"][data])


def spread(values: np.ndarray[Any, Any], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    deviation = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{deviation}"


def pair(values: Sequence[np.ndarray[Any, Any]], digits: int = 3) -> str:
    """ADE/FDE, each with its spread."""
    return " / ".join(spread(v, digits) for v in values)


BEST20 = metric("min_ade_20"), metric("min_fde_20")
BEST6 = metric("min_ade_6"), metric("min_fde_6")
SINGLE = metric("ade_single"), metric("fde_single")
PIXELS20 = metric("min_ade_20", "pixels"), metric("min_fde_20", "pixels")
PIXELS_SINGLE = metric("ade_single", "pixels"), metric("fde_single", "pixels")


def headline(r: Results) -> str:
    """Measure, goal, aim, reached."""

    def folds(models: str, picks: tuple[Pick, Pick]) -> list[np.ndarray[Any, Any]]:
        return [r.fold_mean(models, "eth_ucy:{}:test", pick) for pick in picks]

    def of(model: str, data: str, picks: Iterable[Pick]) -> list[np.ndarray[Any, Any]]:
        return [r.values(model, data, pick) for pick in picks]

    bikers, cv = "sdd:test:Biker", r.cv("sdd:test:Biker", SINGLE[0])
    lower = [100.0 * (1.0 - values / cv) for values in of("sdd_bikers", bikers, (SINGLE[0], BEST6[0]))]
    rows = [
        (
            "ETH/UCY best of 20, all windows, m",
            "0.200/0.320",
            "0.180/0.280",
            pair(folds("eth_ucy_{}", BEST20)),
        ),
        (
            "ETH/UCY single path, all windows, m",
            "0.505/1.070",
            "0.470/0.950",
            pair(folds("eth_ucy_{}", SINGLE)),
        ),
        (
            "SDD TrajNet best of 20, px",
            "7.45/11.8",
            "6.4/9.5",
            pair(of("sdd_trajnet", "sdd_trajnet:test", PIXELS20), 2),
        ),
        *(
            (f"VRU cyclists{where}, {what}, m", goal, aim, pair(of("vru", data, picks)))
            for data, where in (("vru:test", ""), (f"vru:test{HIDDEN}", " where the place is not known"))
            for what, goal, aim, picks in (
                ("single path", "0.55/1.18", "0.50/1.05", SINGLE),
                ("best of 6", "0.32/0.61", "0.28/0.52", BEST6),
            )
        ),
        ("SDD bikers, single path, % below CV's ADE", "5", "15", spread(lower[0], 1)),
        ("SDD bikers, minADE6, % below CV's ADE", "50", "60", spread(lower[1], 1)),
        (
            "universal, worst ratio to the specialised",
            "1.08",
            "1.00",
            f"{max(ratio for *_, ratio in compared(r)):.2f}",
        ),
        (
            "expected calibration error, K = 6: VRU",
            "0.04",
            "0.02",
            spread(r.values("vru", "vru:test", metric("calibration_error"))),
        ),
        (
            "the same: SDD bikers",
            "0.04",
            "0.02",
            spread(r.values("sdd_bikers", bikers, metric("calibration_error"))),
        ),
        ("parameters", "1.5 M", "", f"{largest(r, 'parameters') / 1e6:.2f} M"),
        ("one step of 128 agents, one thread, ms", "3", "1", f"{largest(r, 'ms'):.1f}"),
    ]
    return table(("measure, `test`, mean ± standard deviation over seeds", "goal", "aim", "reached"), rows)


def largest(r: Results, name: str) -> float:
    """Over all models; of seeds the median, since other machines share the processor."""
    return max(float(np.median([row[name] for row in model["seeds"]])) for model in r.models.values())


def eth_ucy(r: Results) -> str:
    """Per fold and for both counts of windows."""
    rows = []
    for count, title in (("eth_ucy:{}:test", "all windows"), ("eth_ucy:{}:test:min2", "two tracks or more")):
        for fold in (*FOLDS, "mean"):
            name, data = "eth_ucy_" + fold, count.format(fold)

            def both(
                picks: tuple[Pick, Pick], name: str = name, data: str = data, count: str = count
            ) -> list[Any]:
                if name == "eth_ucy_mean":
                    return [r.fold_mean("eth_ucy_{}", count, pick) for pick in picks]
                return [r.values(name, data, pick) for pick in picks]

            n = "" if fold == "mean" else str(r.raw["constant_velocity"][data]["n"])
            cv = (
                [np.mean([r.cv(count.format(f), pick) for f in FOLDS]) for pick in SINGLE]
                if fold == "mean"
                else [r.cv(data, pick) for pick in SINGLE]
            )
            rows.append(
                (f"{fold}, {title}", n, pair(both(BEST20)), pair(both(SINGLE)), f"{cv[0]:.3f} / {cv[1]:.3f}")
            )
    unseen, count = "simulated_people", "eth_ucy:{}:test"
    before = (pair([r.fold_mean(unseen, count, pick) for pick in picks]) for picks in (BEST20, SINGLE))
    rows.append(("mean, all windows, of `simulated_people`, which saw no recording", "", *before, ""))
    return table(("fold", "n", "best of 20, ADE / FDE m", "single path", "constant velocity"), rows)


def neighbours(r: Results) -> str:
    """With and without, for everyone and in dense scenes."""
    rows = []
    for fold in FOLDS:
        data = f"eth_ucy:{fold}:test"
        dense = r.raw["constant_velocity"][data]["dense"]["n"]
        for title, group in (("everyone", ()), (f"dense, n = {dense}", ("dense", "metrics"))):
            if group and not dense:
                continue
            picks = [
                metric(name, *group) for name in ("min_ade_20", "min_fde_20", "ade_single", "fde_single")
            ]
            alone, among = ([r.values(f"{m}_{fold}", data, p) for p in picks] for m in ("alone", "eth_ucy"))
            same_seeds = among[0][: len(alone[0])]
            change = 100.0 * (same_seeds.mean() / alone[0].mean() - 1.0)
            rows.append(
                (
                    f"{fold}, {title}",
                    pair(alone[:2]),
                    pair(among[:2]),
                    f"{change:+.1f} %",
                    pair(alone[2:]),
                    pair(among[2:]),
                )
            )
    header = (
        "fold",
        "best of 20 without",
        "with",
        "change of ADE, same seeds",
        "single path without",
        "with",
    )
    return table(header, rows)


def sdd_trajnet(r: Results) -> str:
    """In pixels."""
    data = "sdd_trajnet:test"
    rows = [
        ("constant velocity", "", f"{r.cv(data, PIXELS_SINGLE[0]):.2f} / {r.cv(data, PIXELS_SINGLE[1]):.2f}")
    ]
    rows.append(
        (
            "trajpred",
            pair([r.values("sdd_trajnet", data, pick) for pick in PIXELS20], 2),
            pair([r.values("sdd_trajnet", data, pick) for pick in PIXELS_SINGLE], 2),
        )
    )
    return table((f"n = {r.raw['constant_velocity'][data]['n']}", "best of 20, px", "single path, px"), rows)


def wanderers(r: Results) -> str:
    """Cyclists and others, K = 6: per data, and the VRU cyclists by motion."""
    rows = []
    for data, model in (
        ("vru:test", "vru"),
        (f"vru:test{HIDDEN}", "vru"),
        ("vru:test", "simulated"),
        ("sdd:test:Biker", "sdd_bikers"),
        ("sdd:test:Biker", "simulated"),
        ("sdd:test", "sdd_bikers"),
        ("kitti", "universal"),
    ):
        cv = r.raw["constant_velocity"][data]
        groups: list[tuple[str, tuple[str, ...]]] = [("all", ())]
        groups += [
            (name, (key, name)) for key in ("per_motion", "per_class") for name in cv[key] if len(cv[key]) > 1
        ]
        for title, group in groups:
            n = int(metric("n", *group)({**cv, "metrics": {"n": cv["n"]}}))
            picks = [metric(name, *group) for name in ("ade_single", "fde_single", "min_ade_6", "min_fde_6")]
            if n < 20:
                continue
            ours = [r.values(model, data, pick) for pick in picks]
            base = " / ".join(f"{r.cv(data, pick):.3f}" for pick in picks[:2])
            rows.append((f"{data} ({model})", title, str(n), pair(ours[:2]), pair(ours[2:]), base))
    return table(("data (model)", "who", "n", "single path, m", "best of 6, m", "constant velocity, m"), rows)


def compared(r: Results) -> list[tuple[str, str, str, str, float]]:
    """The universal model beside each specialised one: what, universal, specialised, ratio."""
    rows = []
    for title, models, special, data, names in (
        (
            "ETH/UCY, mean of folds",
            "universal20_{}",
            "eth_ucy_{}",
            "eth_ucy:{}:test",
            ("min_ade_20", "ade_single"),
        ),
        ("SDD TrajNet", "universal20_{}", "sdd_trajnet", "sdd_trajnet:test", ("min_ade_20", "ade_single")),
        ("VRU cyclists", "universal", "vru", "vru:test", ("min_ade_6", "ade_single")),
        (
            "VRU cyclists, place not known",
            "universal",
            "vru",
            f"vru:test{HIDDEN}",
            ("min_ade_6", "ade_single"),
        ),
        ("SDD bikers", "universal", "sdd_bikers", "sdd:test:Biker", ("min_ade_6", "ade_single")),
        ("SDD, all classes", "universal", "sdd_bikers", "sdd:test", ("min_ade_6", "ade_single")),
    ):
        for name in names:
            ours, theirs = (r.fold_mean(m, data, metric(name)) for m in (models, special))
            rows.append((title, name, spread(ours), spread(theirs), float(ours.mean() / theirs.mean())))
    return rows


def universal(r: Results) -> str:
    """As a table."""
    rows = [(*row, f"{ratio:.2f}") for *row, ratio in compared(r)]
    return table(("data", "score", "universal, m", "specialised, m", "ratio"), rows)


BOTH_WAYS = (
    *((f"eth_ucy_{f}", f"eth_ucy:{f}:test") for f in FOLDS),
    ("sdd_trajnet", "sdd_trajnet:test"),
    ("vru", "vru:test"),
    ("sdd_bikers", "sdd:test:Biker"),
    ("universal", "vru:test"),
    ("universal", "sdd:test:Biker"),
)
"""Models and data that are scored without calibration, too."""


def probabilities(r: Results) -> str:
    """Before and after calibration on val."""
    rows = []
    for model, data in BOTH_WAYS:
        for title, kind in (("before", "uncalibrated"), ("after", "scores")):
            names = ("calibration_error", "nll", "brier_min_fde", "coverage_50", "coverage_90")
            rows.append(
                (f"{model}, {data}", title, *(spread(r.values(model, data, metric(n), kind)) for n in names))
            )
    return table(
        (
            "model, data",
            "calibration",
            "ECE",
            "NLL, nats",
            "brier-minFDE",
            "50 % region holds",
            "90 % region holds",
        ),
        rows,
    )


def cost(r: Results) -> str:
    """Training time, size and latency of each model."""
    rows = []
    for name, model in r.models.items():
        seeds = model["seeds"]
        seconds, ms = (np.array([row[key] for row in seeds]) for key in ("training_s", "ms"))
        scored = [summary["n"] / summary["evaluate_s"] for row in seeds for summary in row["scores"].values()]
        rows.append(
            (
                name,
                f"`{model['command']}`",
                f"{seconds.mean():.0f}",
                str(seeds[0]["parameters"]),
                f"{np.median(ms):.2f}",
                f"{np.median(scored):.0f}" if scored else "",
            )
        )
    header = ("model", "command, seed 0", "training, s", "parameters", "128 agents, ms", "scored windows/s")
    return table(header, rows)


def cyclists(_: Results) -> str:
    """Pictures that benchmarks/accuracy.py draws."""
    return (
        "![Typical cyclists](pictures/cyclists_typical.png)\n\n"
        "![The worst predicted cyclists](pictures/cyclists_worst.png)"
    )


def reliability(_: Results) -> str:
    """Likewise."""
    return "![Reliability before and after calibration](pictures/reliability.png)"


PARTS = {
    "headline": headline,
    "eth_ucy": eth_ucy,
    "neighbours": neighbours,
    "sdd_trajnet": sdd_trajnet,
    "wanderers": wanderers,
    "cyclists": cyclists,
    "universal": universal,
    "probabilities": probabilities,
    "reliability": reliability,
    "cost": cost,
}


def write_tables(result: Result, path: Path) -> None:
    """Put each table into its place on a page."""
    measured = Results(result)
    fill(path, {name: part(measured) for name, part in PARTS.items()})
