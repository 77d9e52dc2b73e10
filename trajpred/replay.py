"""A recorded log through the streaming predictor, without ROS."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trajpred.bags import LogWriter, read_raw
from trajpred.cdr import TrackedObjects, read_predicted
from trajpred.config import OutputConfig
from trajpred.errors import InputError
from trajpred.markers import MARKERS, markers
from trajpred.messages import PREDICTED, decode_tracked, encode_predicted, steps_by_label
from trajpred.predictor import Predictor
from trajpred.progress import bar
from trajpred.recorded import Recorded
from trajpred.types import TrackFrame

T = TypeVar("T")

OUTPUT_TOPIC = "/perception/object_recognition/objects"
MARKERS_TOPIC = f"{OUTPUT_TOPIC}/markers"
AT_ONCE = 8
"""So many messages are decoded, then predicted, then encoded: the code of each stays in the caches."""
FIRST_MESSAGES = AT_ONCE
"""While these are answered, compiled code is loaded."""


@dataclass(slots=True)
class Replayed:
    """What went through: messages and objects answered, who answered them, and how long each message took."""

    messages: int = 0
    objects: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)

    @property
    def p50_p99_ms(self) -> tuple[float, float]:
        """Of one message: decoded, predicted, encoded; not read, not written.

        Without the first few; NaN if there are no more.
        """
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
    with_markers: bool = True,
    overwrite: bool = False,
) -> Replayed:
    """Answer every message of the log, in order, into a new log of PredictedObjects.

    The answers keep the receive stamps of their messages; output: their paths, by default a pose
    every 0.5 s to 10 s. The live node does the same with each message, so that it says the same.
    with_markers: beside each answer stands what RViz and Foxglove draw of it; it replaces what was drawn
    before, whatever the rate of the log.
    Raises InputError for a log that cannot be read (nothing is left at `out` then), if `out` exists,
    and for an output that cannot be.
    """
    done, output = Replayed(), output or OutputConfig()
    steps_by_label(output)
    with LogWriter(out, overwrite=overwrite) as writer:
        writer.add_topic(OUTPUT_TOPIC, PREDICTED)
        if with_markers:
            writer.add_topic(MARKERS_TOPIC, MARKERS)
        messages = bar(read_raw(log, topic), None, "messages")
        while batch := list(islice(messages, AT_ONCE)):
            took_ms = [0.0] * len(batch)
            numbers = range(done.messages, done.messages + len(batch))
            asked = _each(took_ms, partial(_decoded, log), numbers, (raw for _, _, raw in batch))
            predictions = _each(took_ms, predictor.step, (frame for frame, _ in asked))
            encode = partial(encode_predicted, output=output)
            answers = _each(took_ms, encode, (tracked for _, tracked in asked), predictions)
            done.took_ms += took_ms
            for (_, received_ns, _), (frame, _), answer in zip(batch, asked, answers, strict=True):
                writer.write(OUTPUT_TOPIC, received_ns, answer)
                if with_markers:
                    drawn = markers(read_predicted(answer), lifetime_s=0.0, delete_all=True)
                    writer.write(MARKERS_TOPIC, received_ns, drawn)
                done.messages += 1
                done.objects += len(frame)
    done.sources.update({source.name.lower(): count for source, count in predictor.counts.answers.items()})
    return done


def _each(took_ms: list[float], stage: Callable[..., T], *columns: Iterable[Any]) -> list[T]:
    """What a stage makes of each message of a batch; the time of each is added to its own."""
    done = []
    for number, given in enumerate(zip(*columns, strict=True)):
        begun = time.perf_counter()
        done.append(stage(*given))
        took_ms[number] += 1e3 * (time.perf_counter() - begun)
    return done


def _decoded(log: Path, number: int, raw: bytes) -> tuple[TrackFrame, TrackedObjects]:
    """One message of the log, which an error names."""
    try:
        return decode_tracked(raw)
    except InputError as error:
        raise InputError(f"{log}: message {number}: {error}") from None
