"""A recording in the rerun viewer: to look around in it and in time, live or from an .rrd file.

Entities, on the timeline `stamp` (that of the headers):

| entity | what |
|---|---|
| objects/ID | box at the present pose, with class and id; a cube of 0.3 m where the size is not known |
| objects/ID/history | where it was |
| objects/ID/paths | its paths, the most probable last; width and colour grow with the probability |
| objects/ID/truth | where it then went, as far as that is recorded |
| objects/ID/probability | of each of its paths, for plots |
| latency | how long a prediction of all objects took, ms; not for recorded answers |
| road/KIND | lines and outlines of areas |

ID is the number of a track, or its UUID in hexadecimal digits. Metres in the frame of the recording, z = 0 is
the ground; of a map with large coordinates a round `origin_m`, a property of the recording, is taken off
first, since the viewer reckons in single precision.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajpred.errors import InputError, MissingExtraError
from trajpred.evaluate import Answers
from trajpred.figures import BLACK, BLUE, SKY, VERMILLION
from trajpred.geometry import quaternion_from_yaw
from trajpred.lanes import Lanes
from trajpred.looks import LINES, LOOKS, OTHER_LINE, id_text, name_of, share_of_top, short_id
from trajpred.moments import Moment, moments
from trajpred.progress import bar
from trajpred.recorded import Recorded
from trajpred.types import Float, Int, Label, Scene

if TYPE_CHECKING:
    from rerun import LineStrips3D, RecordingStream
    from rerun.blueprint import Blueprint, TimeSeriesView

TIMELINE = "stamp"
UNKNOWN_SIZE_M = 0.3
PLOTS_MAX = 8
"""How many objects, those seen longest, have a plot of their probabilities at first."""
OPENS_WITHIN_S = 60.0
CROWD = 12
"""Labels of more objects than this at a time would hide them; then they appear where the mouse points."""
_LARGE_M, _ROUND_M = 1e4, 1e3


@dataclass(frozen=True, slots=True, eq=False)
class Show:
    """What is shown: some ticks of a scene (M,), played through a predictor, on a road if it is known."""

    predictor: Answers
    scene: Scene
    ticks: Int
    lanes: Lanes | None = None


def write_recording(show: Show, out: Path) -> None:
    """Into an .rrd file, which appears when it is whole.

    Raises InputError for another suffix, for answers to another log (see moments), and if it cannot be
    written; MissingExtraError if rerun is not installed.
    """
    if out.suffix.lower() != ".rrd":
        raise InputError(f"{out}: the suffix of a recording for rerun is .rrd")
    stream = _stream(show)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.", suffix=".tmp") as work:
            draft = Path(work, "recording.rrd")
            stream.save(draft, default_blueprint=_blueprint(show))
            try:
                _fill(stream, show)
            finally:
                stream.disconnect()  # writes what is still on its way
            draft.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error}") from error


def open_viewer(show: Show) -> None:
    """Into a viewer, which opens in a window of its own and stays.

    Raises InputError if it does not open, and for answers to another log; MissingExtraError if rerun is
    not installed.
    """
    stream = _stream(show)
    from rerun import spawn

    # it is beside this Python also where nobody has put that on the path
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        spawn(
            recording=stream,
            default_blueprint=_blueprint(show),
            executable_path=shutil.which("rerun", path=here),
        )
        stream.flush(timeout_sec=OPENS_WITHIN_S)  # fails where it has closed again, for want of a display
    except (OSError, RuntimeError) as error:
        why = str(error).split("\n")[0].rstrip(".")
        raise InputError(f"the viewer does not open ({why}); write a file with --out NAME.rrd") from error
    _fill(stream, show)
    stream.disconnect()


def _stream(show: Show) -> RecordingStream:
    try:
        from rerun import RecordingStream
    except ModuleNotFoundError as error:
        missing = (error.name or "rerun").partition(".")[0]  # or something that it needs in turn
        raise MissingExtraError("rerun-sdk" if missing == "rerun" else missing, "view") from error
    stream = RecordingStream("trajpred")
    stream.set_log_time_enabled(False)  # when it was written says nothing
    stream.send_recording_name(show.scene.name)
    return stream


def _fill(stream: RecordingStream, show: Show) -> None:
    import rerun as rr

    origin = _origin(show.scene)
    stream.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    stream.send_property("origin_m", rr.AnyValues(x=origin[0], y=origin[1]))
    if show.lanes is not None:
        _log_road(stream, show.lanes, origin)
    before: set[str] = set()
    for moment in bar(moments(show.predictor, show.scene, show.ticks), len(show.ticks), "ticks"):
        stream.set_time(TIMELINE, timestamp=np.datetime64(moment.frame.stamp_ns, "ns"))
        here = [f"objects/{id_text(name)}" for name in moment.frame.ids.tolist()]
        for entity in before.difference(here):
            stream.log(entity, rr.Clear(recursive=True))
        for row, entity in enumerate(here):
            _log_object(stream, entity, moment, row, origin)
        before = set(here)
        if moment.step_ms is not None:
            stream.log("latency", rr.Scalars(moment.step_ms))


def _log_object(stream: RecordingStream, entity: str, moment: Moment, row: int, origin: Float) -> None:
    import rerun as rr

    frame = moment.frame
    label = Label(int(frame.label[row]))
    place = frame.xy[row] - origin
    size = frame.size[row] if frame.size_valid[row] else np.full(3, UNKNOWN_SIZE_M)
    stream.log(
        entity,
        rr.Boxes3D(
            centers=[[*place, size[2] / 2]],
            sizes=[size],
            quaternions=[quaternion_from_yaw(moment.heading[row])],
            colors=[_blend(LOOKS[label].colour)],
            fill_mode="solid",
        ),
        # a label has the colour of what it belongs to, and that of the box would be hard to read
        rr.Points3D(
            [[*place, size[2]]],
            colors=[_blend(BLACK)],
            radii=rr.Radius.ui_points(1.0),
            labels=[f"{name_of(label)} {short_id(frame.ids[row])}"],
        ),
    )
    stream.log(f"{entity}/history", _strips([moment.past(row) - origin], 0.04, [_blend(BLACK)], [1.0]))
    stream.log(f"{entity}/truth", _strips([moment.future(row) - origin], 0.05, [_blend(VERMILLION)], [1.2]))
    paths, probability = moment.ways(row)
    share = share_of_top(probability) if len(paths) else probability
    colours = [_blend(SKY, 0.3 + 0.6 * part) for part in share[:-1]] + [_blend(BLUE)] * len(share[-1:])
    stream.log(f"{entity}/paths", _strips(list(paths - origin), 0.03, colours, 0.5 + 1.5 * share))
    if len(paths):
        stream.log(f"{entity}/probability", rr.Scalars(moment.probability[row]))


def _strips(lines: list[Float], z: float, colours: list[NDArray[np.uint8]], width_pt: Any) -> LineStrips3D:
    """Polylines (P, 2) m at a height in m, each with its colour and its width on the screen."""
    import rerun as rr

    raised = [np.column_stack([line, np.full(len(line), z)]) for line in lines]
    return rr.LineStrips3D(raised, colors=colours, radii=rr.Radius.ui_points(np.asarray(width_pt) / 2))


def _blend(colour: str, alpha: float = 1.0) -> NDArray[np.uint8]:
    """A colour as it looks on white; lines in the viewer are never transparent."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return np.rint(255 - alpha * (255 - rgb)).astype(np.uint8)


def _log_road(stream: RecordingStream, lanes: Lanes, origin: Float) -> None:
    """All lines of a kind are one entity."""
    shapes: dict[str, list[Float]] = {}
    for line in lanes.lines:
        shapes.setdefault(line.kind, []).append(line.points - origin)
    for area in lanes.areas:
        ring = np.concatenate([area.outline, area.outline[:1]])
        shapes.setdefault(area.kind, []).append(ring - origin)
    for kind, lines in shapes.items():
        colour, width_pt, _ = LINES.get(kind, OTHER_LINE)
        strips = _strips(lines, 0.0, [_blend(colour)] * len(lines), [width_pt] * len(lines))
        stream.log(["road", kind], strips, static=True)


def _origin(scene: Scene) -> Float:
    """(2,) m, what is taken off: a round place near the first object if coordinates are large, else zeros."""
    if np.abs(scene.xy).max() < _LARGE_M:
        return np.zeros(2)
    rounded: Float = np.rint(scene.xy[0] / _ROUND_M) * _ROUND_M
    return rounded


def _blueprint(show: Show) -> Blueprint:
    """The map from above; beside it, the probabilities of who is seen longest, and the latency."""
    import rerun as rr
    import rerun.blueprint as rrb

    scene = show.scene
    low, high = (edge(scene.xy - _origin(scene), axis=0) for edge in (np.min, np.max))
    centre, extent = (low + high) / 2, float((high - low).max())
    crowded = len(scene) > CROWD * len(np.unique(scene.stamp_ns))
    around = rrb.Spatial3DView(
        contents=["+ /objects/**", "+ /road/**"],
        name=scene.name,
        background=(255, 255, 255),
        eye_controls=rrb.EyeControls3D(
            position=(*centre, max(extent, 20.0)), look_target=(*centre, 0.0), eye_up=(0.0, 1.0, 0.0)
        ),
        defaults=[rr.Points3D.from_fields(show_labels=not crowded)],
    )
    longest = [name for name, _ in Counter(scene.ids.tolist()).most_common(PLOTS_MAX)]
    plots: list[rrb.Container | rrb.View] = [
        rrb.Tabs(*(_probability_plot(scene, name) for name in longest), name="probability of each path")
    ]
    if not isinstance(show.predictor, Recorded):
        plots.append(rrb.TimeSeriesView(origin="latency", name="latency [ms]"))
    return rrb.Blueprint(
        rrb.Horizontal(around, rrb.Vertical(*plots), column_shares=[3, 2]),
        rrb.TimePanel(timeline=TIMELINE),
        rrb.SelectionPanel(state="collapsed"),
    )


def _probability_plot(scene: Scene, name: bytes) -> TimeSeriesView:
    import rerun.blueprint as rrb

    return rrb.TimeSeriesView(
        origin=f"objects/{id_text(name)}/probability",
        name=f"{name_of(scene.label[scene.ids == name][-1])} {short_id(name)}",
        axis_y=rrb.ScalarAxis(range=(-0.02, 1.02)),
    )
