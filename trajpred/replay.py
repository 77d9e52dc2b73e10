"""A recorded log through the streaming predictor, without ROS."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from trajpred.bags import LogWriter, read_raw
from trajpred.cdr import TrackedObjects
from trajpred.config import OutputConfig
from trajpred.errors import InputError
from trajpred.messages import PREDICTED, decode_tracked, encode_predicted, steps_by_label
from trajpred.predictor import Predictor
from trajpred.progress import bar
from trajpred.recorded import Recorded
from trajpred.types import TrackFrame

OUTPUT_TOPIC = "/perception/object_recognition/objects"
AT_ONCE = 8
"""So many messages are decoded, then predicted, then encoded: the code of each stays in the caches."""
FIRST_MESSAGES = AT_ONCE
"""While these are answered, compiled code is loaded."""


@dataclass(slots=True)
class Replayed:
    """What went through: messages and objects answered, who answered them, and how long each message took.

    That is the mean of those that were answered at once.
    """

    messages: int = 0
    objects: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)

    @property
    def p50_p99_ms(self) -> tuple[float, float]:
        """Of one message: decoded, predicted, encoded. Without the first few; NaN if there are no more."""
        took = self.took_ms[FIRST_MESSAGES:]
        if not took:
            return math.nan, math.nan
        return float(np.percentile(took, 50)), float(np.percentile(took, 99))


def replay(
    predictor: Predictor | Recorded,
    log: Path,
    out: Path,
    *,
    topic: str | None = None,
    output: OutputConfig | None = None,
    overwrite: bool = False,
) -> Replayed:
    """Answer every message of the log, in order, into a new log of PredictedObjects.

    The answers keep the receive stamps of their messages; output: their paths, by default a pose
    every 0.5 s to 10 s. The live node does the same with each message, so that it says the same.
    Raises InputError for a log that cannot be read (nothing is left at `out` then), if `out` exists,
    and for an output that cannot be.
    """
    done, output = Replayed(), output or OutputConfig()
    steps_by_label(output)
    with LogWriter(out, overwrite=overwrite) as writer:
        writer.add_topic(OUTPUT_TOPIC, PREDICTED)
        messages = bar(read_raw(log, topic), None, "messages")
        while batch := list(islice(messages, AT_ONCE)):
            begun = time.perf_counter()
            asked = [_decoded(log, done.messages + i, raw) for i, (_, _, raw) in enumerate(batch)]
            predictions = [predictor.step(frame) for frame, _ in asked]
            answers = [
                encode_predicted(tracked, prediction, output)
                for (_, tracked), prediction in zip(asked, predictions, strict=True)
            ]
            took_ms = 1e3 * (time.perf_counter() - begun) / len(batch)
            for (_, received_ns, _), (frame, _), answer in zip(batch, asked, answers, strict=True):
                writer.write(OUTPUT_TOPIC, received_ns, answer)
                done.messages += 1
                done.objects += len(frame)
                done.took_ms.append(took_ms)
    done.sources.update({source.name.lower(): count for source, count in predictor.counts.answers.items()})
    return done


def _decoded(log: Path, number: int, raw: bytes) -> tuple[TrackFrame, TrackedObjects]:
    """One message of the log, which an error names."""
    try:
        return decode_tracked(raw)
    except InputError as error:
        raise InputError(f"{log}: message {number}: {error}") from None
