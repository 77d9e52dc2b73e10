"""What a data name stands for: which recordings, and how they are scored.

| name | recordings | windows |
|---|---|---|
| eth_ucy:FOLD:SPLIT | the standard leave-one-out folds | 8 + 12 steps of 0.4 s |
| eth_ucy:FOLD:SPLIT:min2 | the same | only moments with at least two full tracks |
| vru:SPLIT | cyclists, by cyclist_split.csv, put on the grid | 8 + 12 steps of 0.4 s |
| vru_pedestrians | all pedestrians, put on the grid | 8 + 12 steps of 0.4 s |
| sdd_trajnet:SPLIT | standard pedestrian split; val is taken out of train | 8 + 12 steps of 0.4 s |
| sdd:SPLIT | raw annotations by video, all classes | 8 + 12 steps of 12 frames |
| sdd:SPLIT:CLASS | the same, but only this class (Biker ...) is scored | 8 + 12 steps of 12 frames |
| union:FOLD:SPLIT | train or val of all the above; train has simulated traffic too | 8 + 12 steps of 0.4 s |
| kitti, kitti:SEQUENCE | all sequences, or one | 10 + 30 steps of 0.1 s |
| womd | Waymo scenarios, the recording car left out | 11 + 80 steps of 0.1 s |
| simulated:SPLIT | what trackers see of simulated traffic, its true future | 3.5 s at 10 Hz + 16 of 0.5 s |
| simulated:SPLIT:SCENARIO | the same, of one scenario | the same |
| simulated:SPLIT:wheels | the same, of all scenarios; who is on foot is not scored | the same |
| simulated:SPLIT:foot | only who is on foot is scored; positions alone of all, as in recordings | the same |
| a folder of trajpred-data simulate | what the tracker saw, scored by the truth | played; cv: 16 of 0.5 s |
| a path | a Parquet table, a folder of them, or a rosbag2 log | the same |

FOLD is eth, hotel, univ, zara1 or zara2; SPLIT is train, val or test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from data_tools import eth_ucy, kitti, rosbag2, sdd, sdd_trajnet, vru, womd
from data_tools.simulate.layouts import LAYOUTS
from data_tools.simulate.record import Recording, record
from data_tools.text import WORD, find_files, read_columns
from trajpred import __version__
from trajpred.config import NS_PER_S, Protocol
from trajpred.errors import InputError
from trajpred.progress import bar
from trajpred.tables import read_tables
from trajpred.types import Label, Scene
from trajpred.windows import DataSource, on_grid

LOG = "tracks.mcap"
"""What a folder of simulated traffic calls it."""

ROOT_VARIABLE = "TRAJPRED_DATA"
DEFAULT_ROOT = Path("../shared/data")

KEPT_VARIABLE = "TRAJPRED_SIMULATED"
"""Names a folder that keeps simulated traffic, so that it is simulated once."""

FOLDS = ("eth", "hotel", "univ", "zara1", "zara2")
SPLITS = ("train", "val", "test")
KITTI_PROTOCOL = Protocol(step_ns=100_000_000, observe=10, predict=30)
PLAYED_PROTOCOL = Protocol(step_ns=500_000_000, predict=16)
"""Where each predictor has its own times, a baseline has those of the model in the box: they compare."""
WOMD_PROTOCOL = Protocol(step_ns=womd.STEP_NS, observe=11, predict=80)

SIMULATED_PROTOCOL = Protocol(step_ns=500_000_000, observe=36, predict=16, stride=20, fine=5)
SIMULATED_S = 60.0
SIMULATED_HZ = 10.0
SIMULATED_SEEDS = {"train": range(80), "val": range(10_000, 10_008), "test": range(20_000, 20_010)}
"""Recordings of each scenario, SIMULATED_S long, by seed: no place is in two splits."""
WHEELS, FOOT = "wheels", "foot"
"""Names of parts of simulated traffic."""
PARTS = {
    WHEELS: tuple(label for label in Label if label != Label.PEDESTRIAN),
    FOOT: (Label.PEDESTRIAN,),
}
"""Who is scored in each."""
UNION_SIMULATED_S = 10.0
UNION_SIMULATED_SEEDS = range(20)
"""Many places for a short time: about as many windows as all recordings of the union have."""

VRU_STEP_NS = 80_000_000
"""The nominal rate of the cyclists' clips; a fifth of the protocol's step, so that training can cut the
clips at every phase of it."""

SDD_TRAJNET_VAL = ("bookstore_3", "deathCircle_2", "gates_8", "hyang_6", "nexus_9")
"""Files of the standard train folder that are held back: one video of each place that has several
there, 1185 of the 8494 tracks. `coupa` has only one, which stays in train."""

SDD_HELD_OUT = {
    "test": ("gates/video4", "gates/video7", "hyang/video12", "nexus/video4", "quad/video1"),
    "val": ("gates/video5", "hyang/video9", "nexus/video5"),
}
SDD_GAP_NS = 200_000_000
"""Where boxes are missing for longer, nothing is interpolated."""
SDD_CLASSES = {name: label for name, label in sdd.LABELS.items() if name != "Cart"}
"""Classes that can be scored apart. Carts share a label with cars, so Car means both."""


def open_data(name: str, root: Path | None = None) -> DataSource:
    """The recordings of a data name (see above), read, with the protocol that scores them.

    root: the folder that holds eth_ucy/, vru/ and so on; None: what the environment variable
    TRAJPRED_DATA names, else ../shared/data. Raises InputError for an unknown name, for recordings
    that are not there, and for what their readers cannot read.
    """
    kind, *options = name.split(":")
    if kind in _SETS:
        if root is None:
            root = Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        return _SETS[kind](name, options, root)
    path = Path(name)
    if Recording.is_one(path):
        made = Recording.read(path)
        return DataSource(name, (made.tracks,), PLAYED_PROTOCOL, streamed=True, truth=(made.truth,))
    if path.suffix == ".parquet" or (path.is_dir() and not (path / "metadata.yaml").exists()):
        return DataSource(name, tuple(read_tables(path)), PLAYED_PROTOCOL, streamed=True)
    if path.exists() or path.suffix in (".mcap", ".db3"):
        return DataSource(name, tuple(rosbag2.read(path)), PLAYED_PROTOCOL, streamed=True)
    raise _unknown(name)


def log_of(path: Path) -> Path:
    """The log in a folder that `trajpred-data simulate` wrote; any other path as it is."""
    return path / LOG if Recording.is_one(path) else path


def _unknown(name: str) -> InputError:
    return InputError(
        f"unknown data {name!r}; known are eth_ucy:FOLD:SPLIT, eth_ucy:FOLD:SPLIT:min2, vru:SPLIT, "
        "vru_pedestrians, sdd_trajnet:SPLIT, sdd:SPLIT, sdd:SPLIT:CLASS, union:FOLD:SPLIT, kitti, "
        "kitti:SEQUENCE, womd, simulated:SPLIT, simulated:SPLIT:SCENARIO, simulated:SPLIT:wheels, "
        f"simulated:SPLIT:foot with FOLD one of {', '.join(FOLDS)}, SPLIT one of {', '.join(SPLITS)}, "
        f"CLASS one of {', '.join(SDD_CLASSES)}, SCENARIO one of {', '.join(LAYOUTS)}, "
        "and paths of Parquet tables and rosbag2 logs"
    )


def _folder(root: Path, *parts: str) -> Path:
    folder = root.joinpath(*parts)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder of recordings; name the folder that holds {parts[0]}/ "
            f"with the environment variable {ROOT_VARIABLE}"
        )
    return folder


def _eth_ucy(name: str, options: list[str], root: Path) -> DataSource:
    match options:
        case [fold, split, *rest] if fold in FOLDS and split in SPLITS and rest in ([], ["min2"]):
            scenes = tuple(eth_ucy.read(_folder(root, "eth_ucy", fold, split)))
            return DataSource(name, scenes, Protocol(min_tracks=2 if rest else 1))
    raise _unknown(name)


def _vru(name: str, options: list[str], root: Path) -> DataSource:
    if len(options) != 1 or options[0] not in SPLITS:
        raise _unknown(name)
    folder = _folder(root, "vru")
    table = read_columns(folder / "cyclist_split.csv", {"file": WORD, "split": WORD}, ",", header=True)
    files = table["file"][table["split"] == options[0]].tolist()
    return _gridded(name, [folder / "cyclists" / file for file in files])


def _vru_pedestrians(name: str, options: list[str], root: Path) -> DataSource:
    if options:
        raise _unknown(name)
    return _gridded(name, [_folder(root, "vru", "pedestrians")])


def _gridded(name: str, paths: list[Path]) -> DataSource:
    """Clips at VRU_STEP_NS, of which the protocol's windows take every fifth point from the first one."""
    protocol = Protocol()
    scenes = chain.from_iterable(vru.read(path) for path in paths)
    return DataSource(name, tuple(on_grid(scene, VRU_STEP_NS) for scene in scenes), protocol)


def _sdd_trajnet(name: str, options: list[str], root: Path) -> DataSource:
    if len(options) != 1 or options[0] not in SPLITS:
        raise _unknown(name)
    split = options[0]
    scenes = tuple(sdd_trajnet.read(_folder(root, "sdd_trajnet", "test" if split == "test" else "train")))
    if split != "test":
        scenes = tuple(s for s in scenes if (s.name in SDD_TRAJNET_VAL) == (split == "val"))
    return DataSource(name, scenes, Protocol())


def _sdd(name: str, options: list[str], root: Path) -> DataSource:
    match options:
        case [split, *rest] if split in SPLITS and len(rest) <= 1 and set(rest) <= set(SDD_CLASSES):
            scored = tuple(SDD_CLASSES[each] for each in rest)
        case _:
            raise _unknown(name)
    folder, protocol = _folder(root, "sdd_raw"), Protocol()
    if split == "train":
        held_out = {video for videos in SDD_HELD_OUT.values() for video in videos}
        found = (f"{f.parts[-3]}/{f.parts[-2]}" for f in sorted(folder.glob("*/*/annotations.txt")))
        videos = tuple(video for video in found if video not in held_out)
    else:
        videos = SDD_HELD_OUT[split]
    scenes = chain.from_iterable(sdd.read(folder / video) for video in videos)
    on_time = tuple(_from_grid_point(scene, protocol.step_ns) for scene in scenes)
    return DataSource(name, on_time, protocol, scored_labels=scored)


def _union(name: str, options: list[str], root: Path) -> DataSource:
    """Train or val of all the benchmarks, fit to be scored on the test of each of them.

    The two splits of SDD share videos. Whoever is scored in one (of the standard split, pedestrians) in its
    test is left out of the other, and whoever is in its val out of the other's train. The pedestrians
    at the cyclists' place have no split: all are train. The cyclists are in train twice and ETH/UCY thrice,
    being few. Whoever is not on foot in simulated traffic is in it as they truly went: the recordings have
    few fast vehicles and turning cyclists.
    """
    match options:
        case [fold, ("train" | "val") as split] if fold in FOLDS:
            pass
        case _:
            raise _unknown(name)
    kept_back = ("test",) if split == "val" else ("test", "val")
    raw_videos = {video for other in kept_back for video in SDD_HELD_OUT[other]}
    standard = {s.name for other in kept_back for s in _sdd_trajnet(name, [other], root).scenes}
    raw = (
        scene.take(scene.label != Label.PEDESTRIAN) if _in_standard_split(scene.name) in standard else scene
        for scene in _sdd(name, [split], root).scenes
    )
    crowds, cyclists = _eth_ucy(name, [fold, split], root).scenes, _vru(name, [split], root).scenes
    scenes = [
        *crowds,
        *(
            scene
            for scene in _sdd_trajnet(name, [split], root).scenes
            if scene.name not in map(_in_standard_split, raw_videos)
        ),
        *(on_grid(scene, VRU_STEP_NS, together=True, gap_max_ns=SDD_GAP_NS) for scene in raw),
        *cyclists,
    ]
    if split == "train":
        wanted = [(scenario, seed) for seed in UNION_SIMULATED_SEEDS for scenario in LAYOUTS]
        made = _simulate(name, wanted, UNION_SIMULATED_S, NS_PER_S / VRU_STEP_NS)
        scenes += [
            *(2 * crowds),
            *cyclists,
            *_vru_pedestrians(name, [], root).scenes,
            *(_positions(one.truth.scene.take(one.truth.scene.label != Label.PEDESTRIAN)) for one in made),
        ]
    return DataSource(name, tuple(scenes), Protocol())


def _in_standard_split(video: str) -> str:
    """gates/video2 as the standard pedestrian split names it: gates_2."""
    return video.replace("/video", "_")


def _from_grid_point(scene: Scene, step_ns: int) -> Scene:
    """The scene from its first stamp on that is a multiple of the step.

    Windows are cut on a grid that starts with the scene; the benchmark's frames are multiples of 12.
    """
    on_grid_rows = np.flatnonzero(scene.stamp_ns % step_ns == 0)
    if not on_grid_rows.size:
        raise InputError(f"{scene.name}: no row at a multiple of {step_ns / 1e9} s")
    return scene.take(scene.stamp_ns >= scene.stamp_ns[on_grid_rows[0]])


def _kitti(name: str, options: list[str], root: Path) -> DataSource:
    if len(options) > 1:
        raise _unknown(name)
    sequence = options[0] if options else None
    return DataSource(name, tuple(kitti.read(_folder(root, "kitti"), sequence)), KITTI_PROTOCOL)


def _womd(name: str, options: list[str], root: Path) -> DataSource:
    if options:
        raise _unknown(name)
    # The sample of another format, tf.Example, lies beside the scenarios.
    files = find_files(_folder(root, "womd_waymo"), "*scenario*.tfrecord*")
    return DataSource(name, tuple(chain.from_iterable(map(womd.read, files))), WOMD_PROTOCOL)


def _simulated(name: str, options: list[str], _root: Path) -> DataSource:
    match options:
        case [split, *rest] if split in SPLITS and rest in ([], *([part] for part in PARTS)):
            scenarios = list(LAYOUTS)
        case [split, scenario] if split in SPLITS and scenario in LAYOUTS:
            scenarios = [scenario]
        case _:
            raise _unknown(name)
    wanted = [(scenario, seed) for seed in SIMULATED_SEEDS[split] for scenario in scenarios]
    found = _simulate(name, wanted, SIMULATED_S, SIMULATED_HZ)
    return DataSource(
        name,
        tuple(_positions(one.tracks) if FOOT in options else one.tracks for one in found),
        SIMULATED_PROTOCOL,
        scored_labels=PARTS.get(options[-1], ()),
        truth=tuple(one.truth for one in found),
    )


def _simulate(name: str, wanted: list[tuple[str, int]], seconds: float, rate_hz: float) -> list[Recording]:
    """Each scenario with its seed, on all cores."""
    with ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), len(wanted))) as pool:
        made = [pool.submit(_recorded, scenario, seconds, seed, rate_hz) for scenario, seed in wanted]
        return [future.result() for future in bar(made, len(made), f"simulating {name}")]


def _recorded(scenario: str, seconds: float, seed: int, rate_hz: float) -> Recording:
    """As kept, if there is a folder for that and it is there; else simulated, and kept."""
    kept = os.environ.get(KEPT_VARIABLE)
    if not kept:
        return record(scenario, seconds, seed, rate_hz)
    folder = Path(kept) / __version__ / f"{scenario}_{seed}_{seconds:g}s_{rate_hz:g}Hz"
    if Recording.is_one(folder):
        return Recording.read(folder)
    made = record(scenario, seconds, seed, rate_hz)
    if not (len(made.tracks) and len(made.truth.scene)):  # a table has rows
        return made
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        made.write_tables(draft)
        draft.rename(folder)
    except OSError as error:
        if not Recording.is_one(folder):  # or else another process was faster
            raise InputError(f"{folder}: cannot be written ({error.strerror}): see {KEPT_VARIABLE}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return made


def _positions(scene: Scene) -> Scene:
    """Without yaw and velocity, which the recordings of most sets do not have."""
    nothing = np.zeros(len(scene), bool)
    return replace(scene, yaw_valid=nothing, velocity_valid=nothing)


_SETS: dict[str, Callable[[str, list[str], Path], DataSource]] = {
    "eth_ucy": _eth_ucy,
    "vru": _vru,
    "vru_pedestrians": _vru_pedestrians,
    "sdd_trajnet": _sdd_trajnet,
    "sdd": _sdd,
    "kitti": _kitti,
    "union": _union,
    "womd": _womd,
    "simulated": _simulated,
}
