"""A recording of a scenario: what a tracker saw of it, with the truth alongside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from data_tools.convert import write_log
from data_tools.simulate.layouts import LAYOUTS
from data_tools.simulate.perceive import Tracker, perceive
from data_tools.simulate.traffic import truth
from data_tools.simulate.world import EGO_PATH, World, turned
from trajpred.errors import InputError
from trajpred.lanes import Lanes
from trajpred.tables import read_table, read_true_ids, write_table
from trajpred.types import Float, Ids, Label, Scene
from trajpred.windows import Truth

TRACKS, TRUTH = "tracks.parquet", "truth.parquet"


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """tracks: what the tracker reports; truth: what really was; lanes: the place."""

    tracks: Scene
    truth: Truth
    lanes: Lanes

    def write(self, folder: Path, overwrite: bool = False) -> None:
        """tracks.mcap, tracks.parquet, truth.parquet and tracks.lanes.geojson. Raises InputError."""
        if folder.exists() and not overwrite:
            raise InputError(f"{folder}: exists already; choose another name, or ask with --overwrite")
        self.write_tables(folder)
        write_log(self.tracks, folder / "tracks.mcap", overwrite)

    def write_tables(self, folder: Path) -> None:
        """All but the log: what `read` reads, which gives back the very same numbers. Raises InputError."""
        folder.mkdir(parents=True, exist_ok=True)
        write_table(self.tracks, folder / TRACKS, self.truth.ids)
        write_table(self.truth.scene, folder / TRUTH)
        self.lanes.write(folder / "tracks.lanes.geojson")

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        """Whether a folder was written as a recording."""
        return (folder / TRACKS).is_file() and (folder / TRUTH).is_file()

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """What was written, but for the log, which says the same as the table. Raises InputError."""
        truth = Truth(read_table(folder / TRUTH), read_true_ids(folder / TRACKS))
        return cls(read_table(folder / TRACKS), truth, Lanes.read(folder / "tracks.lanes.geojson"))


def record(
    scenario: str, seconds: float, seed: int, rate_hz: float = 10.0, tracker: Tracker | None = None
) -> Recording:
    """The scenario of this name (see LAYOUTS), the same for the same seed.

    tracker: None draws one. Raises InputError for an unknown scenario, and for no time or rate.
    """
    if scenario not in LAYOUTS:
        raise InputError(f"no scenario {scenario!r}; there are {', '.join(LAYOUTS)}")
    if not (seconds > 0 and 0.5 <= rate_hz <= 100):
        raise InputError(
            f"{seconds} s at {rate_hz} Hz: a recording lasts, and has 0.5 to 100 moments a second"
        )
    rng = np.random.default_rng([seed, list(LAYOUTS).index(scenario)])
    world = LAYOUTS[scenario](rng)
    if not world.cast:  # a scene on stage is shown as it was written
        world = turned(world, rng.uniform(-np.pi, np.pi))
    true = truth(world, seconds, rate_hz, rng, f"{scenario}_{seed}")
    ego, at = _sensor(true, world, rng)
    tracks, true_ids = perceive(true, tracker or Tracker.draw(rng), rng, ego, at)
    return Recording(tracks, Truth(true, true_ids), world.lanes)


def _sensor(true: Scene, world: World, rng: Generator) -> tuple[Ids | None, Float | None]:
    """Where the sensor is: on the car that is there for longest, or at the place."""
    if world.cast:  # seen from the car that the scene is about
        return None, next(line.points for line in world.lanes.lines if line.kind == EGO_PATH)[40]
    cars = true.ids[(true.label == Label.CAR) & (np.hypot(*true.velocity.T) > 1.0)]
    if len(cars) and rng.random() < 0.6:
        names, count = np.unique(cars, return_counts=True)
        return names[[count.argmax()]], None
    return None, true.xy.mean(axis=0) + rng.normal(scale=5.0, size=2)
