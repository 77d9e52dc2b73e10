"""What perception can do wrong, drawn at random from a seed, as the bytes that it would publish.

`FAULTS` names each fault; `Perception` plays sound traffic in which they begin at random and last a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from trajpred import cdr
from trajpred.cdr import TrackedObjects
from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.messages import decode_tracked, encode_tracked
from trajpred.types import Ids, Label, TrackFrame, ids_from_bytes

START_S, END_S = 1_700_000_000, 2**31 - 1
SOUND = "none"
ILL_SHARE = 0.05
"""Of the objects of a message that a fault of single objects befalls; one at least."""
THOUSANDS = 5000
BURST = 5
SILENCE_S = 1.5
SETTLE_S = 0.2
"""Nothing is sent for so long after damaged bytes, which have no answer to wait for."""


class Sent(NamedTuple):
    """One message as it is published."""

    raw: bytes
    objects: TrackedObjects | None
    """What is in it; None where nobody can read it."""
    fault: str = SOUND
    waits: bool = True
    """Whether its answer is waited for before the next goes out."""
    silence_s: float = 0.0
    """Nothing goes out for so long after it."""


class Perception:
    """Sound traffic in which faults begin at random.

    frames: the traffic; their own stamps are not used. step_ns: from one to the next. share: of the
    ticks that a fault befalls. faults: those that are drawn from, each as often as the others.
    """

    def __init__(
        self,
        frames: Iterator[TrackFrame],
        step_ns: int,
        seed: int,
        share: float = 0.0,
        faults: Mapping[str, Fault] | None = None,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.step_ns = step_ns
        self.now_ns = START_S * NS_PER_S
        self._frames = frames
        self._faults = FAULTS if faults is None else dict(faults)
        mean = np.mean([(1 + fault.longest) / 2 for fault in self._faults.values()])
        self._begins = share / (mean * (1.0 - share) + share)

    def __iter__(self) -> Iterator[Sent]:
        names = list(self._faults)
        while True:
            if self.rng.random() >= self._begins:
                yield self.sound()
                continue
            name = names[self.rng.integers(len(names))]
            for _ in range(self.rng.integers(1, self._faults[name].longest + 1)):
                yield from self.befallen(name)

    def sound(self) -> Sent:
        """The next message, without a fault."""
        return sent(self.frame())

    def befallen(self, name: str) -> list[Sent]:
        """The next messages, with this fault."""
        return [one._replace(fault=name) for one in self._faults[name].change(self)]

    def frame(self) -> TrackFrame:
        """What is there at the next tick."""
        self.now_ns += self.step_ns
        return replace(next(self._frames), stamp_ns=self.now_ns)

    def objects(self) -> TrackedObjects:
        """The same as a message."""
        return cdr.read_tracked(encode_tracked(self.frame()))

    def ids(self, count: int) -> Ids:
        """(count,) that nobody has."""
        return ids_from_bytes(self.rng.integers(1, 256, (count, 16), np.uint8))


class Fault(NamedTuple):
    """What becomes of a tick, and for how many ticks it lasts at most."""

    change: Callable[[Perception], list[Sent]]
    longest: int = 20


def sent(what: TrackFrame | TrackedObjects | bytes) -> Sent:
    """As a message; bytes may be damaged."""
    if isinstance(what, bytes):
        raw = what
    else:
        raw = encode_tracked(what) if isinstance(what, TrackFrame) else cdr.write_tracked(what)
    try:
        return Sent(raw, decode_tracked(raw)[1])
    except InputError:
        return Sent(raw, None, silence_s=SETTLE_S)


def _ill(rng: Generator, count: int) -> np.ndarray:
    """The rows of the objects that are ill."""
    return rng.permutation(count)[: max(1, round(ILL_SHARE * count))]


def _in_frame(name: str, value: Callable[[Generator, np.ndarray], object]) -> Fault:
    """value(rng, the ill ones' own) in the place of what the ill objects have in this field of the frame."""

    def change(perception: Perception) -> list[Sent]:
        frame = perception.frame()
        column = getattr(frame, name).copy()
        rows = _ill(perception.rng, len(frame))
        column[rows] = value(perception.rng, column[rows])
        return [sent(replace(frame, **{name: column}))]

    return Fault(change)


def _in_message(name: str, value: object, columns: slice | None = None) -> Fault:
    """This value in the place of what the ill objects have there in the message."""

    def change(perception: Perception) -> list[Sent]:
        objects = perception.objects()
        column = getattr(objects, name).copy()
        rows = _ill(perception.rng, len(objects))
        column[rows if columns is None else (rows, columns)] = value
        return [sent(replace(objects, **{name: column}))]

    return Fault(change)


def _without_class(perception: Perception) -> list[Sent]:
    objects = perception.objects()
    kept = np.ones(len(objects), bool)
    kept[_ill(perception.rng, len(objects))] = False
    return [
        sent(
            replace(
                objects,
                class_start=np.concatenate([[0], np.cumsum(kept)]),
                class_label=objects.class_label[kept],
                class_probability=objects.class_probability[kept],
            )
        )
    ]


def _ids(of_rows: Callable[[Perception, Ids], Ids]) -> Fault:
    """Other ids: a function of those that are there."""

    def change(perception: Perception) -> list[Sent]:
        frame = perception.frame()
        return [sent(replace(frame, ids=of_rows(perception, frame.ids)))]

    return Fault(change)


def _doubled(perception: Perception, ids: Ids) -> Ids:
    doubled = ids.copy()
    doubled[_ill(perception.rng, len(ids))] = ids[perception.rng.integers(len(ids))]
    return doubled


def _switched(perception: Perception, ids: Ids) -> Ids:
    switched, rows = ids.copy(), np.sort(perception.rng.permutation(len(ids))[:2])
    switched[rows] = ids[rows[::-1]]
    return switched


def _stamped(offset_ns: Callable[[Generator], int], lasting: bool = False, longest: int = 5) -> Fault:
    """A stamp that is so much off; lasting: and all later ones with it."""

    def change(perception: Perception) -> list[Sent]:
        frame, off_ns = perception.frame(), offset_ns(perception.rng)
        if lasting:
            perception.now_ns += off_ns
        return [sent(replace(frame, stamp_ns=frame.stamp_ns + off_ns))]

    return Fault(change, longest)


def _stamp(stamp_ns: int) -> Fault:
    return Fault(lambda perception: [sent(replace(perception.frame(), stamp_ns=stamp_ns))], longest=3)


def _again(perception: Perception) -> list[Sent]:
    """The second message of a stamp puts the objects elsewhere."""
    frame = perception.frame()
    return [sent(frame), sent(replace(frame, xy=frame.xy + 0.1))]


def _out_of_order(perception: Perception) -> list[Sent]:
    first, second = perception.frame(), perception.frame()
    return [sent(second), sent(first)]


def _burst(perception: Perception) -> list[Sent]:
    every = [perception.sound() for _ in range(BURST)]
    return [*(one._replace(waits=False) for one in every[:-1]), every[-1]]


def _silent(perception: Perception) -> list[Sent]:
    last = perception.sound()._replace(silence_s=SILENCE_S)
    perception.now_ns += round(SILENCE_S * NS_PER_S)
    return [last]


def _some(kept: Callable[[Generator, int], np.ndarray]) -> Fault:
    """Only the rows that kept(rng, number of objects) gives."""

    def change(perception: Perception) -> list[Sent]:
        frame = perception.frame()
        rows = kept(perception.rng, len(frame))
        shared = ("stamp_ns", "frame_id")
        columns = {f.name: getattr(frame, f.name)[rows] for f in fields(frame) if f.name not in shared}
        return [sent(replace(frame, **columns))]

    return Fault(change)


def _thousands(perception: Perception) -> list[Sent]:
    rng, stamp_ns = perception.rng, perception.frame().stamp_ns
    return [
        sent(
            TrackFrame.build(
                stamp_ns,
                perception.ids(THOUSANDS),
                rng.uniform(-500.0, 500.0, (THOUSANDS, 2)),
                label=rng.integers(0, len(Label), THOUSANDS),
                yaw=rng.uniform(-np.pi, np.pi, THOUSANDS),
                velocity=rng.normal(scale=5.0, size=(THOUSANDS, 2)),
            )
        )
    ]


def _framed(frame_id: str) -> Fault:
    return Fault(lambda perception: [sent(replace(perception.frame(), frame_id=frame_id))], longest=5)


def _damaged(damage: Callable[[Generator, bytes], bytes]) -> Fault:
    return Fault(lambda p: [sent(damage(p.rng, p.sound().raw))], longest=3)


def _flipped(rng: Generator, raw: bytes) -> bytes:
    """Ten bits; what is still a message is one."""
    flipped = bytearray(raw)
    for place in rng.integers(0, len(raw), 10):
        flipped[place] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


FAULTS: dict[str, Fault] = {
    # time
    "stamps 0.1 s back": _stamped(lambda rng: -NS_PER_S // 10),
    "time jumps back by a second": _stamped(lambda rng: -NS_PER_S, lasting=True, longest=3),
    "time jumps back by an hour": _stamped(lambda rng: -3600 * NS_PER_S, lasting=True, longest=3),
    "time goes on 1 s later": _stamped(lambda rng: NS_PER_S, lasting=True),
    "time goes on an hour later": _stamped(lambda rng: 3600 * NS_PER_S, lasting=True, longest=3),
    "stamps jitter by 20 ms": _stamped(lambda rng: int(rng.uniform(-0.02, 0.02) * NS_PER_S), longest=20),
    "each stamp twice": Fault(_again),
    "out of order": Fault(_out_of_order),
    "bursts": Fault(_burst, longest=3),
    "stamps of zero": _stamp(0),
    "stamps of the far future": _stamp(END_S * NS_PER_S),
    "silence": Fault(_silent, longest=1),
    # ids
    "an id several times": _ids(_doubled),
    "two ids switched": _ids(_switched),
    "all ids new": _ids(lambda perception, ids: perception.ids(len(ids))),
    "a third of the objects missed": _some(lambda rng, count: np.flatnonzero(rng.random(count) > 1 / 3)),
    # numbers
    "positions of NaN": _in_frame("xy", lambda rng, own: np.nan),
    "positions of infinity": _in_frame("xy", lambda rng, own: np.inf),
    "positions of 1e9 m": _in_frame("xy", lambda rng, own: 1e9),
    "positions jump by 50 m": _in_frame("xy", lambda rng, own: own + 50.0),
    "yaw turned round": _in_frame("yaw", lambda rng, own: own + np.pi),
    "quaternions of zero": _in_message("state", 0.0, cdr.ORIENTATION),
    "quaternions of NaN": _in_message("state", np.nan, cdr.ORIENTATION),
    "twists of NaN": _in_message("state", np.nan, cdr.TWIST),
    "twists of 1e300 m/s": _in_message("state", 1e300, cdr.TWIST),
    "covariances of NaN": _in_message("state", np.nan, cdr.POSE_COVARIANCE),
    "covariances of -1e300": _in_message("state", -1e300, cdr.TWIST_COVARIANCE),
    "negative dimensions": _in_message("dimensions", (-4.5, -1.8, -1.5)),
    # classes
    "no class": Fault(_without_class),
    "an unknown label": _in_message("class_label", 99),
    "classes flicker": _in_frame("label", lambda rng, own: rng.integers(0, len(Label), len(own))),
    # how many
    "no object": _some(lambda rng, count: np.zeros(0, np.int64)),
    "one object": _some(lambda rng, count: np.zeros(1, np.int64)),
    f"{THOUSANDS} objects": Fault(_thousands, longest=3),
    # frame
    "another frame": _framed("odom"),
    "an empty frame id": _framed(""),
    # bytes
    "bytes cut off": _damaged(lambda rng, raw: raw[: rng.integers(4, len(raw) - 8)]),
    "bytes overwritten": _damaged(lambda rng, raw: raw[:40] + b"\xff" * (len(raw) - 40)),
    "bytes appended": _damaged(lambda rng, raw: raw + bytes(64)),
    "bytes at random": _damaged(lambda rng, raw: raw[:4] + rng.bytes(1000)),
    "bits flipped": _damaged(_flipped),
}
"""What becomes of a tick, by what it is called."""
