"""Offline scores: recordings through the streaming predictor, its answers against what then happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from trajpred.baselines import BaselineName
from trajpred.config import NS_PER_S, PredictorConfig, Protocol
from trajpred.errors import InputError
from trajpred.metrics import AgentScores, Batch, score, summarise
from trajpred.predictor import Predictor
from trajpred.recorded import Recorded, is_log
from trajpred.runtime import OnnxModel, Provider
from trajpred.timegrid import resample
from trajpred.types import Bool, Float, Ids, Int, Prediction, Scene, TrackFrame, ids_from_int
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
    """A predictor from the name of a baseline, the path of an artefact, or that of a log of PredictedObjects.

    A baseline predicts on the protocol's time grid, if one is given. Raises ArtefactError for an
    artefact, InputError for a log.
    """
    config = config or PredictorConfig()
    if is_log(Path(model)):
        return Recorded(Path(model))
    if model not in get_args(BaselineName):
        return Predictor(OnnxModel.load(Path(model), threads=config.threads, provider=provider), config)
    if protocol is not None:
        config = replace(config, baseline_step_s=protocol.step_ns / NS_PER_S, baseline_steps=protocol.predict)
    return Predictor(None, replace(config, baseline=model))  # type: ignore[arg-type]


def evaluate(
    model: str,
    source: DataSource,
    *,
    config: PredictorConfig | None = None,
    progress: Progress[Any] | None = None,
) -> dict[str, Any]:
    """Score a baseline, an artefact or a log of answers on a data source: JSON-ready, see metrics.summarise.

    Raises ArtefactError for the model, InputError for the data (nothing to score).
    """
    predictor = make_predictor(model, config, protocol=source.protocol)
    scores = [score(answer.batch) for answer in answered(predictor, source, progress)]
    if not any(len(part) for part in scores):
        raise InputError(f"{source.name}: nothing to score: no agent is seen again within the horizon")
    summary = summarise(AgentScores.concatenate(scores))
    return {"model": model, "data": source.name, **summary}


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was predicted for the N scored agents, what then happened, and what A agents did before.

    rows (N,) the scored ones among the A; history (A, H, 2) m, oldest first, with known (A, H);
    group (A,): who shares a scene and a moment.
    """

    prediction: Prediction
    batch: Batch
    rows: Int
    history: Float
    known: Bool
    group: Int


def answered(
    predictor: Answers, source: DataSource, progress: Progress[Any] | None = None
) -> Iterator[Answer]:
    """Every scored agent of a source, batch by batch, always in the same order.

    Raises InputError for recorded answers to a source that is not played as it is.
    """
    if source.streamed:
        yield from _stream(predictor, source, progress)
    else:
        yield from _play_windows(
            predictor, scored_only(cut(source.scenes, source.protocol), source), progress
        )


def scored_only(windows: Windows, source: DataSource) -> Windows:
    """Windows whose targets are of the class that the source scores."""
    if source.scored_label is None:
        return windows
    return replace(windows, target=windows.target & (windows.label == source.scored_label))


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
    chunks = _chunks(windows.group)
    for rows in progress(chunks, len(chunks), "windows") if progress else chunks:
        part = windows.take(rows)
        prediction = resample(_play(predictor, part), offset_s)
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
        yield Answer(prediction, batch, kept, part.xy[:, :past], part.valid[:, :past], part.group)


def _play(predictor: Predictor, windows: Windows) -> Prediction:
    """The history of windows as perception ticks; the prediction for all rows after the last one."""
    predictor.reset()
    past, past_ns = windows.protocol.observe, windows.protocol.past_ns
    ids = ids_from_int(np.arange(len(windows)))
    for t in range(past):
        seen = windows.valid[:, t]
        frame = TrackFrame(
            stamp_ns=past_ns[t],
            frame_id="map",
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
    return predictor.step(frame)


def _chunks(group: Int) -> list[slice]:
    """Rows in runs of whole groups, about ROWS_AT_ONCE each."""
    first = np.append(np.flatnonzero(np.diff(group, prepend=-1)), len(group))
    cuts = np.searchsorted(first, np.arange(0, len(group), ROWS_AT_ONCE))
    bounds = np.append(first[np.unique(cuts)], len(group))
    return [slice(a, b) for a, b in pairwise(bounds.tolist()) if b > a]


def _stream(
    predictor: Predictor | Recorded, source: DataSource, progress: Progress[Any] | None
) -> Iterator[Answer]:
    """Each scene from start to end; a prediction is scored where its agent is seen later on."""
    tracks = 0
    for scene in source.scenes:
        predictor.reset()
        later = Later.of(scene)
        frames = scene.frames()
        count = len(np.unique(scene.stamp_ns))
        for frame in progress(frames, count, scene.name) if progress else frames:
            prediction = predictor.step(frame)
            number = later.number(frame.ids)
            truth, valid = later.positions(number, frame.stamp_ns, prediction.offset_s)
            kept = valid.any(axis=1)
            if source.scored_label is not None:
                kept &= frame.label == source.scored_label
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
            yield Answer(prediction, batch, rows, history, known, frame.group)
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
        """(N,) ids of the scene -> (N,) track numbers."""
        return np.searchsorted(self.names, ids)

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
