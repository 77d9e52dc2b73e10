"""Offline scores: recordings through the streaming predictor, its answers against what then happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from trajpred.baselines import BaselineName
from trajpred.config import NS_PER_S, PredictorConfig, Protocol
from trajpred.errors import InputError
from trajpred.flicker import flicker
from trajpred.metrics import AgentScores, Batch, MotionType, motion_type, score, summarise
from trajpred.predictor import Predictor
from trajpred.recorded import Recorded, is_log
from trajpred.runtime import OnnxModel, Provider
from trajpred.timegrid import resample
from trajpred.types import Bool, Float, Ids, Int, Label, Prediction, Scene, TrackFrame, ids_from_int
from trajpred.windows import DataSource, Windows, cut

T = TypeVar("T")
Progress = Callable[[Iterable[T], int, str], Iterable[T]]
"""Wraps a loop: the loop, its length, what it does. See `trajpred.progress`."""

Answers = Predictor | Recorded
"""What can be scored: `step`, `observe` and `reset`."""

ROWS_AT_ONCE = 2048
HISTORY_S = np.arange(-3.2, 0.1, 0.4)
"""What is shown of the past of an agent in a log, s."""
GAP_MAX_S = 1.0
"""Between two observations of a track farther apart than this, where it was is not known."""


def make_predictor(
    model: str,
    config: PredictorConfig | None = None,
    *,
    protocol: Protocol | None = None,
    provider: Provider = "cpu",
) -> Answers:
    """A predictor by name: `default` (the model in the box), a baseline's, the path of an artefact or log.

    A baseline predicts on the protocol's time grid, if one is given. Raises ArtefactError for an
    artefact, InputError for a log.
    """
    config = config or PredictorConfig()
    if is_log(Path(model)):
        return Recorded(Path(model))
    if model not in get_args(BaselineName):
        return Predictor(OnnxModel.load(model, threads=config.threads, provider=provider), config)
    if protocol is not None:
        config = replace(config, baseline_step_s=protocol.step_ns / NS_PER_S, baseline_steps=protocol.predict)
    return Predictor(None, replace(config, baseline=model))  # type: ignore[arg-type]


def evaluate(
    model: str,
    source: DataSource,
    *,
    config: PredictorConfig | None = None,
    progress: Progress[Any] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Score a baseline, an artefact or a log of answers on a data source: JSON-ready, see metrics.summarise.

    horizon_s is how far ahead was scored at most, modes the most paths of an agent. Of what is played from
    start to end there is `flicker` besides, see _unrest. watch is shown every answer with the scores of its N
    agents. Raises ArtefactError for the model, InputError for the data (nothing to
    score).
    """
    predictor = make_predictor(model, config, protocol=source.protocol)
    scores, changes, before = [], [], None
    horizon_s, modes = 0.0, 0
    for answer in answered(predictor, source, progress):
        scores.append(score(answer.batch))
        horizon_s, modes = float(answer.batch.offset_s[-1]), max(modes, answer.batch.paths.shape[1])
        if watch is not None:
            watch(answer, scores[-1])
        if source.streamed:
            follows = before is not None and np.array_equal(before.scene[:1], answer.scene[:1])
            if before is not None and follows:
                change = flicker(before.prediction, answer.prediction)
                changes.append(np.stack([change, motion_type(answer.batch) != MotionType.WAITING], axis=1))
            before = answer
    if not any(len(part) for part in scores):
        raise InputError(f"{source.name}: nothing to score: no agent is seen again within the horizon")
    summary = summarise(AgentScores.concatenate(scores))
    if source.streamed:
        summary["flicker"] = _unrest(np.concatenate([np.zeros((0, 2)), *changes]))
    return {"model": model, "data": source.name, "horizon_s": horizon_s, "modes": modes, **summary}


def _unrest(changes: Float) -> dict[str, dict[str, float]]:
    """By whether an agent moves: n, mean_m, q99_m of what the single path changes between two messages.

    changes (N, 2): m, NaN where there is none, and whether it is not waiting (MotionType).
    """
    known = changes[~np.isnan(changes[:, 0])]
    groups = {"all": known[:, 0], "moving": known[known[:, 1] > 0, 0], "waiting": known[known[:, 1] == 0, 0]}
    return {
        name: {
            "n": len(part),
            **({"mean_m": float(part.mean()), "q99_m": float(np.quantile(part, 0.99))} if len(part) else {}),
        }
        for name, part in groups.items()
    }


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was predicted for the N scored agents, what then happened, and what A agents did before.

    rows (N,) the scored ones among the A; history (A, H, 2) m, oldest first, with known (A, H);
    group (A,): who shares a scene and a moment. scene (N,), stamp_ns (N,) and ids (N,): what the recording
    calls the scored ones and their moment; step_s: how long the predictor took to answer all A.
    """

    prediction: Prediction
    batch: Batch
    rows: Int
    history: Float
    known: Bool
    group: Int
    scene: NDArray[np.str_]
    stamp_ns: Int
    ids: Ids
    step_s: float


Watch = Callable[[Answer, AgentScores], None]


def answered(
    predictor: Answers, source: DataSource, progress: Progress[Any] | None = None
) -> Iterator[Answer]:
    """Every scored agent of a source, batch by batch, always in the same order.

    Raises InputError for recorded answers to a source that is not played as it is.
    """
    if source.streamed:
        yield from _stream(predictor, source, progress)
    else:
        windows = scored_only(cut(source.scenes, source.protocol, source.truth), source)
        yield from _play_windows(predictor, windows, progress)


def scored_only(windows: Windows, source: DataSource) -> Windows:
    """The moments of those of the classes that the source scores: they alone are targets.

    Raises InputError if nobody of them has a complete window.
    """
    if not source.scored_labels:
        return windows
    scored = windows.of_interest(np.isin(windows.label, source.scored_labels))
    if not len(scored):
        names = ", ".join(Label(label).name for label in source.scored_labels)
        raise InputError(
            f"{source.name}: nothing to score or to train on: no {names} is seen for a whole window"
        )
    return scored


def score_windows(predictor: Answers, windows: Windows, progress: Progress[Any] | None = None) -> AgentScores:
    """Scores of every target of the windows."""
    return AgentScores.concatenate(
        [score(answer.batch) for answer in _play_windows(predictor, windows, progress)]
    )


def _play_windows(predictor: Answers, windows: Windows, progress: Progress[Any] | None) -> Iterator[Answer]:
    """Each window is a fresh set of tracks. Many moments are played at once, as separate groups."""
    if isinstance(predictor, Recorded):
        raise InputError(
            f"{predictor.path}: recorded answers can only be scored on the log or table that they answer, "
            "not on a benchmark that is cut into windows"
        )
    offset_s = np.array(windows.protocol.offset_s)
    track = _track_numbers(windows.scene, windows.ids)
    scene_names = np.array(windows.scene_names)
    chunks = _chunks(windows)
    for rows in progress(chunks, len(chunks), "windows") if progress else chunks:
        part = windows.take(rows)
        answers, step_s = _timed_step(predictor, _play(predictor, part))
        prediction = resample(answers, offset_s)
        kept = np.flatnonzero(part.target)
        prediction = prediction.take(kept)
        past = part.protocol.observe
        first = part.valid[kept, :past].argmax(axis=1)
        batch = _batch(
            prediction,
            start=part.xy[kept, first],
            truth=part.xy[kept, past:],
            truth_valid=part.valid[kept, past:],
            label=part.label[kept],
            track=track[rows][kept],
            m_per_px=part.m_per_px[kept],
        )
        yield Answer(
            prediction,
            batch,
            rows=kept,
            history=part.xy[:, :past],
            known=part.valid[:, :past],
            group=part.group,
            scene=scene_names[part.scene[kept]],
            stamp_ns=part.stamp_ns[kept],
            ids=part.ids[kept],
            step_s=step_s,
        )


def _timed_step(predictor: Answers, frame: TrackFrame) -> tuple[Prediction, float]:
    """The answer, and the time in s that it took."""
    start = perf_counter()
    prediction = predictor.step(frame)
    return prediction, perf_counter() - start


def _play(predictor: Predictor, windows: Windows) -> TrackFrame:
    """The history of windows of one coordinate frame as perception ticks, all but the last only observed.

    The last one holds all rows.
    """
    predictor.reset()
    past, past_ns = windows.protocol.observe, windows.protocol.past_ns
    ids = ids_from_int(np.arange(len(windows)))
    for t in range(past):
        seen = windows.valid[:, t]
        frame = TrackFrame(
            stamp_ns=past_ns[t],
            frame_id=windows.frame_ids[windows.scene[0]],
            ids=ids[seen],
            label=windows.label[seen],
            xy=windows.xy[seen, t],
            yaw=windows.yaw[seen, t],
            yaw_valid=windows.yaw_valid[seen, t],
            velocity=windows.velocity[seen, t],
            velocity_valid=windows.velocity_valid[seen, t],
            size=np.zeros((int(seen.sum()), 3)),
            size_valid=np.zeros(int(seen.sum()), bool),
            group=windows.group[seen],
        )
        if t < past - 1:
            predictor.observe(frame)
    return frame


def _chunks(windows: Windows) -> list[slice]:
    """Rows in runs of whole groups of one coordinate frame, about ROWS_AT_ONCE each."""
    rows = len(windows)
    first = np.append(np.flatnonzero(np.diff(windows.group, prepend=-1)), rows)
    cuts = first[np.searchsorted(first, np.arange(0, rows, ROWS_AT_ONCE))]
    _, frame = np.unique(windows.frame_ids, return_inverse=True)
    bounds = np.unique([*cuts, *np.flatnonzero(np.diff(frame[windows.scene], prepend=-1)), rows])
    return [slice(a, b) for a, b in pairwise(bounds.tolist())]


def _stream(
    predictor: Predictor | Recorded, source: DataSource, progress: Progress[Any] | None
) -> Iterator[Answer]:
    """Each scene from start to end; a prediction is scored where its agent is seen later on."""
    tracks = 0
    for scene, true in zip_longest(source.scenes, source.truth):
        predictor.reset()
        later = Later.of(true.scene if true else scene)
        whom = later.number(true.ids if true else scene.ids)
        frames = scene.frames()
        count, begin = len(np.unique(scene.stamp_ns)), 0
        for frame in progress(frames, count, scene.name) if progress else frames:
            prediction, step_s = _timed_step(predictor, frame)
            number, begin = whom[begin : begin + len(frame)], begin + len(frame)
            truth, valid = later.positions(number, frame.stamp_ns, prediction.offset_s)
            kept = valid.any(axis=1)
            if source.scored_labels:
                kept &= np.isin(frame.label, source.scored_labels)
            rows = np.flatnonzero(kept)
            prediction = prediction.take(rows)
            batch = _batch(
                prediction,
                start=prediction.xy,
                truth=truth[rows],
                truth_valid=valid[rows],
                label=frame.label[rows],
                track=number[rows] + tracks,
                m_per_px=np.full(len(rows), np.nan if scene.m_per_px is None else scene.m_per_px),
            )
            history, known = later.positions(number, frame.stamp_ns, HISTORY_S)
            yield Answer(
                prediction,
                batch,
                rows,
                history,
                known,
                group=frame.group,
                scene=np.full(len(rows), scene.name),
                stamp_ns=np.full(len(rows), frame.stamp_ns),
                ids=frame.ids[rows],
                step_s=step_s,
            )
        tracks += len(later.names)


@dataclass(frozen=True, slots=True, eq=False)
class Later:
    """Where each track of a scene was at any time: rows sorted by track, then time."""

    names: Ids  # (P,) sorted
    key: Int  # (R,) track * span + time since the start: ascending
    xy: Float
    start_ns: int
    span_ns: int

    @classmethod
    def of(cls, scene: Scene) -> Later:
        """Index a scene."""
        names, track = np.unique(scene.ids, return_inverse=True)
        start = int(scene.stamp_ns[0])
        span = int(scene.stamp_ns[-1]) - start + 1
        order = np.lexsort((scene.stamp_ns, track))
        key = track[order] * span + (scene.stamp_ns[order] - start)
        return cls(names, key, scene.xy[order], start, span)

    def number(self, ids: Ids) -> Int:
        """(N,) ids -> (N,) track numbers, -1 for those that are not in the scene."""
        at = np.minimum(np.searchsorted(self.names, ids), len(self.names) - 1)
        return np.where(self.names[at] == ids, at, -1)

    def positions(self, track: Int, stamp_ns: int, offset_s: Float) -> tuple[Float, Bool]:
        """(N, T, 2) m and (N, T) known: linear between observations at most GAP_MAX_S apart."""
        at = stamp_ns - self.start_ns + np.rint(offset_s * NS_PER_S).astype(np.int64)  # (T,)
        inside = (at >= 0) & (at < self.span_ns)
        wanted = track[:, None] * self.span_ns + np.where(inside, at, 0)
        after = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        exact = self.key[after] == wanted
        before = np.where(exact, after, np.maximum(after - 1, 0))
        gap = self.key[after] - self.key[before]
        same = (self.key[after] // self.span_ns == track[:, None]) & (
            self.key[before] // self.span_ns == track[:, None]
        )
        known = inside & same & (gap <= GAP_MAX_S * NS_PER_S) & (self.key[after] >= wanted)
        share = (wanted - self.key[before]) / np.maximum(gap, 1)
        points = self.xy[before] + share[..., None] * (self.xy[after] - self.xy[before])
        return np.where(known[..., None], points, 0.0), known


def _batch(prediction: Prediction, **known: Any) -> Batch:
    return Batch(
        paths=prediction.paths,
        probability=prediction.probability,
        mode_valid=prediction.mode_valid,
        spread=prediction.spread,
        single=prediction.single,
        offset_s=prediction.offset_s,
        origin=prediction.xy,
        heading=prediction.heading,
        speed=np.hypot(prediction.velocity[:, 0], prediction.velocity[:, 1]),
        **known,
    )


def _track_numbers(scene: Int, ids: Ids) -> Int:
    """(A,) one number per track of each scene."""
    _, number = np.unique(ids, return_inverse=True)
    _, pair = np.unique(np.stack([scene, number], axis=1), axis=0, return_inverse=True)
    return np.asarray(pair, np.int64).reshape(-1)
