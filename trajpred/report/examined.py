"""What a page is about: the scores of a model and of the baselines, what each step took, the worst cases."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import numpy as np

from trajpred.baselines import BaselineName
from trajpred.config import NS_PER_S, PredictorConfig
from trajpred.errors import InputError
from trajpred.evaluate import Answer, Progress, evaluate
from trajpred.metrics import AgentScores, MotionType
from trajpred.recorded import is_log
from trajpred.runtime import ModelInfo, OnnxModel, artefact
from trajpred.types import Float, Label, Source
from trajpred.windows import DataSource

BASELINES = {"cv": "constant velocity", "ctrv": "constant turn rate", "kalman": "Kalman filter"}
"""What every evaluation is compared with."""
WORST = 20
WORST_BY = "min_ade_6"
CASE_ERRORS = ("min_ade_6", "min_fde_6", "ade_single", "fde_single")
NEIGHBOURS_WITHIN_M = 15.0


@dataclass(frozen=True, slots=True, eq=False)
class WorstCase:
    """One agent at one moment, what was said of it and what then happened. Positions in m in one fixed frame.

    scene, track, stamp_ns: what the recording calls it; error: CASE_ERRORS in m; now (2,): where it was seen
    to be; history (H, 2) and truth (S, 2) as far as they are known, in order of time; paths (K, T, 2);
    probability (K,); single (T, 2); heading rad; others: the history (h, 2) of each neighbour.
    """

    scene: str
    track: str
    stamp_ns: int
    label: Label
    motion: MotionType
    source: Source
    error: Mapping[str, float]
    now: Float
    history: Float
    truth: Float
    paths: Float
    probability: Float
    single: Float
    heading: float
    others: Sequence[Float]

    @property
    def anchor(self) -> str:
        """The same for the same agent and moment, whatever predicted it; good in a URL as it is."""
        scene = quote(self.scene, safe="", errors="replace").replace("%", "~")
        return f"case-{scene}-{self.track}-{self.stamp_ns}"


@dataclass(slots=True)
class Witness:
    """What an evaluation shows beside its scores, seen answer by answer: an evaluate.Watch.

    modes: K, the paths of an agent at most; offset_s (T,) s, the times that were scored; step_s: what each
    step of the predictor took; agents: how many it answered; sources: who answered the scored ones;
    worst: by number of the track its worst moment, of the WORST tracks whose is worst.
    """

    modes: int = 0
    offset_s: Float = field(default_factory=lambda: np.zeros(0))
    step_s: list[float] = field(default_factory=list)
    agents: list[int] = field(default_factory=list)
    sources: Counter[Source] = field(default_factory=Counter)
    worst: dict[int, WorstCase] = field(default_factory=dict)

    def __call__(self, answer: Answer, scores: AgentScores) -> None:
        """Take in one answer and the scores of its agents."""
        self.modes = max(self.modes, answer.batch.paths.shape[1])
        self.offset_s = answer.batch.offset_s
        self.step_s.append(answer.step_s)
        self.agents.append(len(answer.group))
        for source, count in zip(*np.unique(answer.prediction.source, return_counts=True), strict=True):
            self.sources[Source(source)] += int(count)
        error = scores.column(WORST_BY)
        for row in np.argsort(-error, kind="stable").tolist():
            least = min((case.error[WORST_BY] for case in self.worst.values()), default=0.0)
            if len(self.worst) == WORST and error[row] <= least:
                break
            known = self.worst.get(int(scores.track[row]))
            if known is None or error[row] > known.error[WORST_BY]:
                self.worst[int(scores.track[row])] = _worst_case(answer, scores, row)
            if len(self.worst) > WORST:
                self.worst.pop(min(self.worst, key=lambda track: self.worst[track].error[WORST_BY]))

    def cases(self) -> list[WorstCase]:
        """The worst first."""
        return sorted(self.worst.values(), key=lambda case: (-case.error[WORST_BY], case.anchor))


def _worst_case(answer: Answer, scores: AgentScores, row: int) -> WorstCase:
    prediction, batch, me = answer.prediction, answer.batch, int(answer.rows[row])
    valid = prediction.mode_valid[row]
    others = np.flatnonzero((answer.group == answer.group[me]) & answer.known[:, -1])
    near = np.hypot(*(answer.history[others, -1] - prediction.xy[row]).T) < NEIGHBOURS_WITHIN_M
    others = others[near & (others != me)]
    number = int.from_bytes(answer.ids[row].ljust(16, b"\0"), "big")
    return WorstCase(
        scene=str(answer.scene[row]),
        track=str(number) if number < 1 << 63 else f"{number:032x}",
        stamp_ns=int(answer.stamp_ns[row]),
        label=Label(scores.label[row]),
        motion=MotionType(scores.motion[row]),
        source=Source(prediction.source[row]),
        error={name: float(scores.column(name)[row]) for name in CASE_ERRORS},
        now=prediction.xy[row].copy(),
        history=answer.history[me, answer.known[me]],
        truth=batch.truth[row, batch.truth_valid[row]],
        paths=prediction.paths[row, valid],
        probability=prediction.probability[row, valid],
        single=prediction.single[row].copy(),
        heading=float(prediction.heading[row]),
        others=[answer.history[other, answer.known[other]] for other in others],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """An evaluation with what its page shows.

    scores: by model, as trajpred.evaluate.evaluate gives them, first what was asked for; info, and sha256 of
    the file: of an artefact.
    """

    source: DataSource
    scores: Mapping[str, Mapping[str, Any]]
    witness: Witness
    info: ModelInfo | None
    sha256: str | None

    @property
    def model(self) -> str:
        """What was asked for."""
        return next(iter(self.scores))

    @property
    def recorded(self) -> bool:
        """Whether the answers were read from a log."""
        return is_log(Path(self.model))


def examine(
    model: str,
    source: DataSource,
    *,
    config: PredictorConfig | None = None,
    progress: Progress[Any] | None = None,
) -> Examined:
    """Evaluate a model, and the baselines at the same times.

    Raises ArtefactError for the model, InputError for the data, and for a model whose times are not evenly
    spaced where the source leaves the choice of times to the model.
    """
    witness = Witness()
    scores = {model: evaluate(model, source, config=config, progress=progress, watch=witness)}
    same = _at_times(source, witness.offset_s)
    for name in BASELINES:
        if name != model:
            scores[name] = evaluate(name, same, config=config, progress=progress)
    if model in get_args(BaselineName) or is_log(Path(model)):
        return Examined(source, scores, witness, None, None)
    sha256 = hashlib.sha256(artefact(model).read_bytes()).hexdigest()
    return Examined(source, scores, witness, OnnxModel.load(model, provider="cpu").info, sha256)


def _at_times(source: DataSource, offset_s: Float) -> DataSource:
    """The source with a protocol whose times these (T,) s are."""
    if not source.streamed:
        return source
    if not np.allclose(offset_s, offset_s[0] * np.arange(1, len(offset_s) + 1), atol=1e-6):
        raise InputError(
            f"{source.name}: the model predicts at {offset_s} s, which are not evenly spaced: "
            "the baselines of a report cannot do the same"
        )
    step_ns = round(float(offset_s[0]) * NS_PER_S)
    return replace(source, protocol=replace(source.protocol, step_ns=step_ns, predict=len(offset_s)))
