"""The geometry of a road, to draw what happens on it: lines and areas, from and to GeoJSON.

A file is a GeoJSON FeatureCollection. Its coordinates are x, y in m in the frame of the log (what follows
them is not looked at), and it says so with the member `"unit": "m"` beside `"features"`. A feature is a
LineString or a Polygon without holes, with the property `kind`. The file of `street.mcap` is found by
itself if it is called `street.lanes.geojson`.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trajpred.errors import InputError
from trajpred.types import Float

UNIT = "m"
_ENDINGS = (".mcap", ".db3", ".parquet")


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A polyline: points (P, 2) m, P >= 2, in the frame of the log.

    kind: what it is, such as lane_edge, lane_centre, bicycle_lane, crosswalk, kerb, stop_line; a kind
    that is not known is drawn as a thin line. Raises InputError for points that are no such line, and for
    an empty kind.
    """

    kind: str
    points: Float

    def __post_init__(self) -> None:
        _check(self.kind, self.points, at_least=2)


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """A polygon: its corners outline (P, 2) m, P >= 3, in the frame of the log; the last joins the first.

    kind: what it is, such as road, sidewalk, building, parking. Later areas lie upon earlier ones. Raises
    InputError for an outline that is none, and for an empty kind.
    """

    kind: str
    outline: Float

    def __post_init__(self) -> None:
        _check(self.kind, self.outline, at_least=3)


@dataclass(frozen=True, slots=True)
class Lanes:
    """What is known of a road."""

    lines: tuple[Line, ...] = ()
    areas: tuple[Area, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Lanes:
        """The road of a GeoJSON file; raises InputError with its name and the feature (from 0) at fault."""
        lines, areas = [], []
        for number, feature in enumerate(_features(path)):
            try:
                part = _part(feature)
            except InputError as error:
                raise InputError(f"{path}: feature {number}: {error}") from None
            if isinstance(part, Line):
                lines.append(part)
            else:
                areas.append(part)
        return cls(tuple(lines), tuple(areas))

    def write(self, path: Path) -> None:
        """Writes it as GeoJSON, in place of what is there; `read` gives the same back. Raises InputError."""
        areas = [
            _feature(a.kind, "Polygon", [[*a.outline.tolist(), a.outline[0].tolist()]]) for a in self.areas
        ]
        lines = [_feature(line.kind, "LineString", line.points.tolist()) for line in self.lines]
        features = ",\n".join(json.dumps(feature) for feature in areas + lines)
        text = f'{{"type": "FeatureCollection", "unit": "{UNIT}", "features": [\n{features}\n]}}\n'
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as work:
                draft = Path(work, "lanes")
                draft.write_text(text, "utf-8")
                draft.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def lanes_beside(log: Path) -> Path:
    """Where the road of a log or table is looked for: street.mcap -> street.lanes.geojson, there or not."""
    stem = log.stem if log.suffix in _ENDINGS else log.name
    return log.with_name(f"{stem}.lanes.geojson")


def find_lanes(log: Path, named: Path | None = None) -> Lanes | None:
    """The road of a log or table: that of the named file, else of the one beside it, None if there is none.

    Raises InputError for a file that is no such road.
    """
    if named is None and log.name and lanes_beside(log).is_file():
        named = lanes_beside(log)
    return Lanes.read(named) if named is not None else None


def _check(kind: str, points: Float, at_least: int) -> None:
    if not kind:
        raise InputError("kind is empty")
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < at_least:
        raise InputError(f"{kind}: the points have shape {points.shape}, expected (P >= {at_least}, 2)")
    if not np.isfinite(points).all():
        raise InputError(f"{kind}: a point is not finite")


def _features(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # what is not UTF-8 is a ValueError, too
        raise InputError(f"{path}: not JSON: {error}") from error
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list) or content.get("type") != "FeatureCollection":
        raise InputError(f"{path}: not a GeoJSON FeatureCollection")
    if content.get("unit") != UNIT:
        raise InputError(
            f"{path}: the unit is {content.get('unit')!r}: coordinates are metres in the frame of the log, "
            f'which a file says with "unit": "{UNIT}" beside "features"'
        )
    return features


def _part(feature: Any) -> Line | Area:
    """A feature as what it is; raises InputError."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        raise InputError("no geometry in it")
    properties = feature.get("properties")
    kind = properties.get("kind") if isinstance(properties, dict) else None
    if not isinstance(kind, str) or not kind:
        raise InputError('no property "kind" that names what it is, such as lane_edge or road')
    form, coordinates = geometry.get("type"), geometry.get("coordinates")
    if form == "LineString":
        return Line(kind, _points(coordinates))
    if form != "Polygon":
        raise InputError(f"{kind} is a {form}, expected a LineString or a Polygon")
    if not isinstance(coordinates, list) or len(coordinates) != 1:
        raise InputError(f"{kind} is no polygon of one ring; draw a hole as a later area upon it")
    ring = _points(coordinates[0])
    closed = len(ring) > 1 and bool((ring[0] == ring[-1]).all())
    return Area(kind, ring[:-1] if closed else ring)


def _points(positions: Any) -> Float:
    """(P, 2) m of a list of lists of two numbers or more."""
    listed = isinstance(positions, list) and all(
        isinstance(xy, list) and len(xy) >= 2 and {type(xy[0]), type(xy[1])} <= {int, float}
        for xy in positions
    )
    if not listed:
        raise InputError("the coordinates are no list of [x, y]")
    try:
        return np.array([xy[:2] for xy in positions], np.float64).reshape(-1, 2)
    except OverflowError:
        raise InputError("a coordinate is too large") from None


def _feature(kind: str, form: str, coordinates: list[Any]) -> dict[str, Any]:
    geometry = {"type": form, "coordinates": coordinates}
    return {"type": "Feature", "properties": {"kind": kind}, "geometry": geometry}
