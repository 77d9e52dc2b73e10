"""The tables of docs/accuracy.md from the results of benchmarks/accuracy.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
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

    def fold_mean(
        self, models: str, data: str, pick: Pick, folds: Sequence[str] = FOLDS
    ) -> np.ndarray[Any, Any]:
        """(seeds,) mean of the folds; {} in the names stands for the fold."""
        return np.mean([self.values(models.format(f), data.format(f), pick) for f in folds], axis=0)

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


def _two(values: Sequence[float], digits: int = 3) -> str:
    """ADE/FDE without a spread."""
    return " / ".join(f"{value:.{digits}f}" for value in values)


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
            "universal, worst ratio to the specialised, ADE / FDE",
            "1.08",
            "1.00",
            _two(np.max([ratios for *_, ratios in compared(r)], axis=0), 2),
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
        ("ONNX call for 128 agents, histories encoded, one thread, ms", "3", "1", _ms(r)),
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
            rows.append((f"{fold}, {title}", n, pair(both(BEST20)), pair(both(SINGLE)), _two(cv)))
    unseen, count = "simulated_people", "eth_ucy:{}:test"
    before = (pair([r.fold_mean(unseen, count, pick) for pick in picks]) for picks in (BEST20, SINGLE))
    rows.append(("mean, all windows, of `simulated_people`, which saw no recording", "", *before, ""))
    return table(("fold", "n", "best of 20, ADE / FDE m", "single path", "constant velocity"), rows)


PUBLISHED = (
    (
        "Trajectron++ (LSTM), features without a look at the future",
        "0.31 / 0.52",
        "",
        "",
        "128 (20 samples)",
    ),
    ("Trajectron++ as published", "0.19 / 0.41", "0.376 / 0.925", "", ""),
    ("SGCN, run side by side, two tracks or more", "0.349 / 0.618", "0.518 / 1.089", "", "51"),
    ("Graph-TERN, likewise", "0.222 / 0.336", "", "", ""),
    (
        "EqMotion, TUTR, EigenTrajectory, LED, SingularTrajectory",
        "0.21 / 0.32 to 0.36",
        "0.51 / 1.11 (EigenTrajectory)",
        "7.76 / 12.69 (TUTR)",
        "110 (TUTR)",
    ),
    ("MART", "", "", "7.4 / 11.8", ""),
    ("MoFlow 2025, ViTE 2026", "0.20 / 0.32", "", "7.50 / 11.96 (MoFlow)", ""),
    ("MoRE 2026 (language model)", "0.20 / 0.29", "0.476 / 0.877", "6.4 / 9.5", ""),
)
"""Of others: best of 20 and single path on ETH/UCY, best of 20 on SDD's standard split, milliseconds."""


def field(r: Results) -> str:
    """Ours beside what others publish."""
    counts = {"all windows": "eth_ucy:{}:test", "two tracks or more": "eth_ucy:{}:test:min2"}
    rows = []
    for title, data in counts.items():
        cv = _two([float(np.mean([r.cv(data.format(f), pick) for f in FOLDS])) for pick in SINGLE])
        rows.append((f"constant velocity, {title}", "", cv, "", ""))
    rows += PUBLISHED
    others = pair([r.values("sdd_trajnet", "sdd_trajnet:test", pick) for pick in PIXELS20], 2), _ms(r)
    for title, data in counts.items():
        best, single = (
            pair([r.fold_mean("eth_ucy_{}", data, pick) for pick in picks]) for picks in (BEST20, SINGLE)
        )
        rows.append((f"**trajpred**, {title}", best, single, *others))
        others = "", ""
    header = "", "ETH/UCY best of 20, m", "single path, m", "SDD best of 20, px", "128 agents, one thread, ms"
    return table(header, rows)


def _ms(r: Results) -> str:
    return f"{largest(r, 'ms'):.1f}"


def neighbours(r: Results) -> str:
    """With and without, for everyone and in dense scenes."""
    rows = []
    groups: tuple[tuple[str, tuple[str, ...]], ...] = (("everyone", ()), ("dense", ("dense", "metrics")))
    for fold, (title, group) in [*product(FOLDS, groups), ("mean", groups[0])]:
        folds = FOLDS if fold == "mean" else (fold,)
        dense = [r.raw["constant_velocity"][f"eth_ucy:{f}:test"]["dense"]["n"] for f in folds]
        if group:
            title = f"dense, n = {sum(dense)}"
        picks = [metric(name, *group) for name in ("min_ade_20", "min_fde_20", "ade_single", "fde_single")]
        alone, among = (
            [r.fold_mean(models, "eth_ucy:{}:test", pick, folds) for pick in picks]
            for models in ("alone_{}", "eth_ucy_{}")
        )
        seeds = len(alone[0])
        change = [100.0 * (b[:seeds].mean() / a.mean() - 1.0) for a, b in zip(alone, among, strict=True)]
        for what, one in (("best of 20", slice(2)), ("single path", slice(2, 4))):
            changes = " / ".join(f"{each:+.1f}" for each in change[one])
            rows.append((f"{fold}, {title}", what, pair(alone[one]), pair(among[one]), changes))
    return table(("fold", "ADE / FDE, m", "without", "with", "change, the same seed, %"), rows)


def sdd_trajnet(r: Results) -> str:
    """In pixels."""
    data = "sdd_trajnet:test"
    rows = [("constant velocity", "", _two([r.cv(data, pick) for pick in PIXELS_SINGLE], 2))]
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
        ("kitti", "simulated"),
    ):
        cv = r.raw["constant_velocity"][data]
        groups: list[tuple[str, tuple[str, ...]]] = [("all", ())]
        groups += [
            (name if key == "per_motion" else f"class: {name}", (key, name))
            for key in ("per_motion", "per_class")
            for name in cv[key]
            if len(cv[key]) > 1
        ]
        for title, group in groups:
            n = int(metric("n", *group)({**cv, "metrics": {"n": cv["n"]}}))
            picks = [metric(name, *group) for name in ("ade_single", "fde_single", "min_ade_6", "min_fde_6")]
            if n < 20:
                continue
            ours = [r.values(model, data, pick) for pick in picks]
            base = _two([r.cv(data, pick) for pick in picks[:2]])
            rows.append((f"{data} ({model})", title, str(n), pair(ours[:2]), pair(ours[2:]), base))
    return table(("data (model)", "who", "n", "single path, m", "best of 6, m", "constant velocity, m"), rows)


def compared(r: Results) -> list[tuple[str, str, str, str, list[float]]]:
    """The universal model beside each specialised one: data, score, universal, specialised, ratios."""
    rows = []
    for title, models, special, data, best in (
        ("ETH/UCY, mean of folds", "universal20_{}", "eth_ucy_{}", "eth_ucy:{}:test", BEST20),
        ("SDD TrajNet", "universal20_{}", "sdd_trajnet", "sdd_trajnet:test", BEST20),
        ("VRU cyclists", "universal", "vru", "vru:test", BEST6),
        ("VRU cyclists, place not known", "universal", "vru", f"vru:test{HIDDEN}", BEST6),
        ("SDD bikers", "universal", "sdd_bikers", "sdd:test:Biker", BEST6),
        ("SDD, all classes", "universal", "sdd_bikers", "sdd:test", BEST6),
    ):
        for score, picks in ((f"best of {20 if best is BEST20 else 6}", best), ("single path", SINGLE)):
            ours, theirs = ([r.fold_mean(m, data, pick) for pick in picks] for m in (models, special))
            ratios = [float(a.mean() / b.mean()) for a, b in zip(ours, theirs, strict=True)]
            rows.append((title, score, pair(ours), pair(theirs), ratios))
    return rows


def universal(r: Results) -> str:
    """As a table."""
    rows = [(*row, _two(ratios, 2)) for *row, ratios in compared(r)]
    return table(("data", "ADE / FDE", "universal, m", "specialised, m", "ratios"), rows)


def histories(r: Results) -> str:
    """The universal model by how much of a history it is given."""
    rows = []
    for data, whom in (("vru:test", "place known"), (f"vru:test{HIDDEN}", "place not known")):
        seeds = [row["histories"][data] for row in r.models["universal"]["seeds"]]
        for given, cv in r.raw["constant_velocity_histories"][data].items():
            ours = {name: np.array([each[given][name] for each in seeds]) for name in cv}
            rows.append(
                (
                    f"{given}, {whom}",
                    pair([ours["ade_single"], ours["fde_single"]]),
                    pair([ours["min_ade_6"], ours["min_fde_6"]]),
                    _two([cv["ade_single"], cv["fde_single"]]),
                )
            )
    return table(("observations", "single path, m", "best of 6, m", "constant velocity, m"), rows)


BOTH_WAYS = (
    *((f"eth_ucy_{f}", f"eth_ucy:{f}:test") for f in FOLDS),
    ("sdd_trajnet", "sdd_trajnet:test"),
    ("vru", "vru:test"),
    ("sdd_bikers", "sdd:test:Biker"),
    ("universal", "vru:test"),
    ("universal", "sdd:test:Biker"),
)
"""Models and data that are scored without calibration, too."""
CALIBRATED = (
    ("vru", f"vru:test{HIDDEN}"),
    ("universal", f"vru:test{HIDDEN}"),
    ("universal", "sdd:test"),
    ("universal", "kitti"),
)
"""Those whose probabilities are shown as they are used, with calibration."""


def probabilities(r: Results) -> str:
    """Before and after calibration on val."""
    rows = []
    both = [(*each, *way) for each in BOTH_WAYS for way in (("before", "uncalibrated"), ("after", "scores"))]
    for model, data, title, kind in [*both, *((*each, "after", "scores") for each in CALIBRATED)]:
        names = ("calibration_error", "nll", "brier_min_fde", "coverage_50", "coverage_90")
        values = (spread(r.values(model, data, metric(n), kind)) for n in names)
        rows.append((f"{model}, {data}", title, *values))
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
    hours = sum(row["training_s"] for model in r.models.values() for row in model["seeds"]) / 3600.0
    rows.append(("all seeds of all models", "", f"{hours:.2f} h", "", "", ""))
    header = ("model", "command, seed 0", "training, s", "parameters", "128 agents, ms", "scored windows/s")
    return table(header, rows)


PARTS = {
    "headline": headline,
    "eth_ucy": eth_ucy,
    "field": field,
    "neighbours": neighbours,
    "sdd_trajnet": sdd_trajnet,
    "wanderers": wanderers,
    "universal": universal,
    "histories": histories,
    "probabilities": probabilities,
    "cost": cost,
}


def write_tables(result: Result, path: Path) -> None:
    """Put each table into its place on a page."""
    measured = Results(result)
    fill(path, {name: part(measured) for name, part in PARTS.items()})
