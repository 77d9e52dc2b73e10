"""A recorded log through the streaming predictor, without ROS."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from trajpred.bags import LogWriter, read_raw
from trajpred.config import OutputConfig
from trajpred.errors import InputError
from trajpred.messages import PREDICTED, decode_tracked, encode_predicted, steps_by_label
from trajpred.predictor import Predictor
from trajpred.progress import bar
from trajpred.recorded import Recorded

OUTPUT_TOPIC = "/perception/object_recognition/objects"


@dataclass(slots=True)
class Replayed:
    """What went through: messages and objects answered, and who answered them."""

    messages: int = 0
    objects: int = 0
    sources: Counter[str] = field(default_factory=Counter)


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
        for number, (_, received_ns, raw) in enumerate(bar(read_raw(log, topic), None, "messages")):
            try:
                frame, tracked = decode_tracked(raw)
            except InputError as error:
                raise InputError(f"{log}: message {number}: {error}") from None
            prediction = predictor.step(frame)
            writer.write(OUTPUT_TOPIC, received_ns, encode_predicted(tracked, prediction, output))
            done.messages += 1
            done.objects += len(frame)
    done.sources.update({source.name.lower(): count for source, count in predictor.counts.answers.items()})
    return done
