"""The tables of scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from trajpred.metrics import LENGTHS, METRICS, MISS_M
from trajpred.recorded import is_log
from trajpred.report import charts
from trajpred.report.examined import BASELINES, Examined
from trajpred.report.markup import Html, element, escaped, joined, table
from trajpred.report.naming import model_name


def headline(found: Examined) -> Html:
    """The models one below the other, with intervals where there are any."""
    errors, told = pairs(found.witness.modes), _told(found)
    best, rows = _best(told.values()), []
    for model, metrics in told.items():
        interval = found.scores[model]["interval"]
        row: list[str] = [model_name(model), f"{found.scores[model]['n']:,}"]
        for _, *keys in errors:
            ranges = (f"{low:.2f}–{high:.2f}" for low, high in (interval[k] for k in keys if k in interval))
            row.append(joined([_pair(metrics, keys, best), element("small", " / ".join(ranges))]))
        row.append(_percent(metrics["miss_rate_av2"]))
        row += [_shown(metrics.get(name), best.get(name)) for name in ("brier_min_fde", "nll")]
        rows.append(row)
    head = ["Model", "n", *(_head(title, "ADE / FDE, m") for title, *_ in errors)]
    head += [_head("misses", f"> {MISS_M:g} m, %"), _head("brier-minFDE", "m"), _head("NLL", "nats")]
    caption = (
        "Mean (ADE) and final (FDE) distance to where the agent then was; bold: the least; small: 95 % "
        "interval by resampling tracks. A miss: none of the 6 most probable paths ends within "
        f"{MISS_M:g} m (Argoverse 2)."
    )
    return table(caption, head, rows)


def all_scores(found: Examined) -> Html:
    """Every score of every model."""
    told = _told(found)
    rows = (
        [name, *(_shown(metrics.get(name)) for metrics in told.values())]
        for name in (*METRICS, "calibration_error")
    )
    caption = (
        f"By their names in the JSON: {LENGTHS[0]} to {LENGTHS[-1]} in m, nll in nats, others are shares."
    )
    return table(caption, ["Score", *map(model_name, told)], rows)


def horizon(found: Examined) -> Html:
    """The curves of the chart, as numbers."""
    lines, times = charts.curves(found), found.scores[found.model]["per_horizon"]
    rows = (
        [f"{float(at):g} s", f"{row['n']:,}", *(_shown(rows[i].get(key)) for _, _, rows, key in lines)]
        for i, (at, row) in enumerate(times.items())
    )
    caption = "Mean distance at a time ahead, m; the best path is chosen at each time by itself."
    return table(caption, ["Ahead", "n", *(text for _, text, *_ in lines)], rows)


def reliability(found: Examined) -> Html:
    """The points of the chart, as numbers; nothing of a single path."""
    if found.witness.modes == 1:
        return Html()
    rows = (
        [
            f"{each['low']:.1f}–{each['high']:.1f}",
            f"{each['count']:,}",
            f"{each['mean_probability']:.3f}",
            f"{each['frequency']:.3f}",
        ]
        for each in found.scores[found.model]["reliability"]
    )
    return table(
        "Paths by their probability.",
        ["Probability", "paths", "mean probability", "share that came closest"],
        rows,
    )


def calibration(found: Examined) -> Html:
    """Expected calibration error and coverage of each model."""
    rows = (
        [
            model_name(model),
            _shown(metrics.get("calibration_error")),
            *(_percent(metrics.get(name)) for name in ("coverage_50", "coverage_90")),
        ]
        for model, metrics in _told(found).items()
    )
    caption = (
        "ECE: mean gap between probability and the share that came closest, over all paths. Coverage: how "
        "many agents ended in the smallest region that should hold 50 % or 90 % of them."
    )
    return table(caption, ["Model", "ECE", _head("in 50 % region", "%"), _head("in 90 % region", "%")], rows)


def groups(found: Examined, key: str, what: str, caption: str) -> Html:
    """One row per class or type of motion, the single paths of all models beside each other."""
    models, errors = list(found.scores), pairs(found.witness.modes)[2:]
    rows = []
    for group in found.scores[found.model][key]:
        each = [found.scores[model][key][group] for model in models]
        best, ours = _best(each), each[0]
        row: list[str] = [group.replace("_", " "), f"{ours['n']:,}"]
        row += [_pair(scores, ("ade_single", "fde_single"), best) for scores in each]
        row += [_pair(ours, keys, {}) for _, *keys in errors]
        rows.append([*row, _percent(ours["miss_rate_av2"])])
    head = [what, "n", *(_head(model_name(model), "single path, ADE / FDE, m") for model in models)]
    head += [_head(title, "ADE / FDE, m") for title, *_ in errors]
    caption += f"; the last columns are of {model_name(models[0])} alone."
    return table(caption, [*head, _head("misses", "%")], rows)


def pairs(modes: int) -> list[tuple[str, str, str]]:
    """What is scored as a mean and a final distance: title and names in the scores."""
    named = [("single path", "ade_single", "fde_single"), ("most probable path", "ade_1", "fde_1")]
    if modes > 1:
        named.append((f"best of {min(modes, 6)}", "min_ade_6", "min_fde_6"))
    if modes > 6:
        named.append((f"best of {min(modes, 20)}", "min_ade_20", "min_fde_20"))
    return named


def _told(found: Examined) -> dict[str, dict[str, float]]:
    """Each model's metrics but those of what it does not say: a log no spread, a single path no shares."""
    told = {}
    for model, scores in found.scores.items():
        unsaid = {"nll", "coverage_50", "coverage_90"} if is_log(Path(model)) else set()
        if model in BASELINES or found.witness.modes == 1:
            unsaid.add("calibration_error")
        told[model] = {name: value for name, value in scores["metrics"].items() if name not in unsaid}
    return told


def _best(groups: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The least of each score that there is a choice of."""
    known: dict[str, list[float]] = {}
    for group in groups:
        for key, value in group.items():
            known.setdefault(key, []).append(value)
    return {key: min(values) for key, values in known.items() if len(values) > 1}


def _head(title: str, unit: str) -> Html:
    return joined([title, element("small", unit)])


def _pair(scores: Mapping[str, float], keys: Sequence[str], best: Mapping[str, float]) -> Html:
    """Both distances, bold where they are the least."""
    return Html(" / ".join(_shown(scores[key], best.get(key)) for key in keys))


def _shown(value: float | None, best: float | None = None) -> Html:
    text = "–" if value is None else f"{value:.3f}"
    return element("b", text) if best is not None and text == f"{best:.3f}" else escaped(text)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
