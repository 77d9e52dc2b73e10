"""Recordings as Parquet tables, one row per observation.

| column | type | null | meaning |
|---|---|---|---|
| stamp_ns | int64 | no | time |
| track_id | fixed_size_binary(16) | no | UUID; a number is big-endian in the last 8 bytes |
| label | dictionary of string | no | name of a Label, such as BICYCLE |
| x, y | double | no | position, m |
| yaw | double | where unknown | heading, rad |
| vx, vy | double | where unknown | velocity along x and y, m/s |
| length, width, height | double | where unknown | m |

The file's metadata hold the recording's name (`trajpred.scene`), its frame (`trajpred.frame_id`) and, where
it was annotated in pixels, metres per pixel (`trajpred.m_per_px`); without them the name is the file's and
the frame is `map`. A table of what a tracker made of a known truth has one more column, `true_id`, as
track_id: whom in the truth the row shows, 16 zeros for nobody. Other columns are not looked at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trajpred.errors import InputError
from trajpred.memory import unfolded_max
from trajpred.types import Float, Ids, Label, Scene, bytes_from_ids, ids_from_bytes

_SCENE, _FRAME_ID, _M_PER_PX = b"trajpred.scene", b"trajpred.frame_id", b"trajpred.m_per_px"

ROW_BYTES = 100
"""What a row takes in memory, nearly."""
SCHEMA = pa.schema(
    [
        pa.field("stamp_ns", pa.int64(), nullable=False),
        pa.field("track_id", pa.binary(16), nullable=False),
        pa.field("label", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("x", pa.float64(), nullable=False),
        pa.field("y", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("yaw", "vx", "vy", "length", "width", "height")),
    ]
)
TRUE_ID = pa.field("true_id", pa.binary(16), nullable=False)


def write_table(scene: Scene, path: Path, true_ids: Ids | None = None) -> None:
    """Writes a scene as one Parquet file, in place of what is there; read_table gives the scene back.

    true_ids (R,): see above. Raises InputError if it cannot be written.
    """
    no_yaw, no_velocity, no_size = ~scene.yaw_valid, ~scene.velocity_valid, ~scene.size_valid
    names = pa.array([label.name for label in Label])
    columns = [
        pa.array(scene.stamp_ns),
        _id_column(scene.ids),
        pa.DictionaryArray.from_arrays(scene.label.astype(np.int8), names),
        *(pa.array(scene.xy[:, i]) for i in range(2)),
        pa.array(scene.yaw, mask=no_yaw),
        *(pa.array(scene.velocity[:, i], mask=no_velocity) for i in range(2)),
        *(pa.array(scene.size[:, i], mask=no_size) for i in range(3)),
    ]
    about = {_SCENE: scene.name, _FRAME_ID: scene.frame_id}
    if scene.m_per_px is not None:
        about[_M_PER_PX] = repr(float(scene.m_per_px))
    table = pa.Table.from_arrays(columns, schema=SCHEMA.with_metadata(about))
    if true_ids is not None:
        table = table.append_column(TRUE_ID, _id_column(true_ids))
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp") as work:
            pq.write_table(table, f"{work}/table", write_page_checksum=True)
            Path(work, "table").replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_table(path: Path) -> Scene:
    """The scene of one Parquet file.

    Raises InputError if it is not one, is damaged, lacks a column, has one of another type, holds
    no rows, or holds an unknown label, a null or a non-finite number where a value must be, or two
    rows of one track at one stamp.
    """
    table, about = _load(path)
    numbers = {f.name: _numbers(table, f.name) for f in SCHEMA if f.type == pa.float64()}
    try:
        return Scene.build(
            about.get(_SCENE, path.stem),
            table["stamp_ns"].to_numpy(),
            _ids(table["track_id"]),
            np.stack([numbers["x"], numbers["y"]], axis=1),
            label=_labels(table["label"]),
            yaw=numbers["yaw"],
            velocity=np.stack([numbers["vx"], numbers["vy"]], axis=1),
            size=np.stack([numbers["length"], numbers["width"], numbers["height"]], axis=1),
            frame_id=about.get(_FRAME_ID, "map"),
            m_per_px=_m_per_px(about),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_true_ids(path: Path) -> Ids:
    """(R,) of the rows that read_table gives, whom in the truth each shows, empty for nobody.

    Raises InputError if the table has no such column.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_column(path, file.schema_arrow, TRUE_ID)
            _check_rows(path, file)
            table = file.read(columns=["stamp_ns", "track_id", TRUE_ID.name]).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file, or a damaged one: {error}") from error
    if table[TRUE_ID.name].null_count:
        raise InputError(f"{path}: {TRUE_ID.name} is null somewhere")
    order = np.lexsort((_ids(table["track_id"]), table["stamp_ns"].to_numpy()))
    return _ids(table[TRUE_ID.name])[order]


def _id_column(ids: Ids) -> pa.FixedSizeBinaryArray:
    raw = pa.py_buffer(bytes_from_ids(ids).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids), [None, raw])


def read_tables(path: Path) -> Iterator[Scene]:
    """The scene of a Parquet file, or those of all files *.parquet in a folder, by name."""
    found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not found:
        raise InputError(f"{path}: no *.parquet in this folder")
    yield from map(read_table, found)


def _load(path: Path) -> tuple[pa.Table, dict[bytes, str]]:
    """The columns of SCHEMA, each in one piece, and the metadata."""
    if not path.is_file():
        raise InputError(f"{path}: no such table")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            for field in SCHEMA:
                _check_column(path, schema, field)
            _check_rows(path, file)
            table = file.read(columns=SCHEMA.names).combine_chunks()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path}: not a Parquet file, or a damaged one: {why}") from error
    if not len(table):
        raise InputError(f"{path}: the table holds no rows")
    for name in (field.name for field in SCHEMA if not field.nullable):
        if table[name].null_count:
            row = table[name].is_null().to_numpy().argmax()
            raise InputError(f"{path}: row {row}: {name} is null")
    return table, {k: v.decode("utf-8", "replace") for k, v in (schema.metadata or {}).items()}


def _check_rows(path: Path, file: pq.ParquetFile) -> None:
    """Rows that are all alike take no room in a file, and all the more in memory."""
    rows = file.metadata.num_rows
    if rows * ROW_BYTES > unfolded_max(path.stat().st_size):
        raise InputError(f"{path}: says that it holds {rows} rows, too many for its size")


def _check_column(path: Path, schema: pa.Schema, field: pa.Field) -> None:
    if schema.names.count(field.name) != 1:
        raise InputError(f"{path}: no column, or more than one, named {field.name}")
    found = schema.field(field.name).type
    words = found.value_type if pa.types.is_dictionary(found) else found
    fits = pa.types.is_string(words) if field.name == "label" else found == field.type
    if not fits:
        raise InputError(f"{path}: column {field.name} is {found}, expected {field.type}")


def _numbers(table: pa.Table, name: str) -> Float:
    """(R,) float64, NaN for null."""
    values: Float = table[name].to_numpy()
    return values


def _ids(column: pa.ChunkedArray) -> Ids:
    """(R,) ids, straight from the bytes of a column without nulls."""
    (chunk,) = column.chunks
    raw = np.frombuffer(chunk.buffers()[1], np.uint8)
    return ids_from_bytes(raw[16 * chunk.offset : 16 * (chunk.offset + len(chunk))].reshape(-1, 16))


def _labels(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """(R,) uint8 Label of a column of names, plain or as a dictionary."""
    (chunk,) = column.cast(pa.string()).dictionary_encode().chunks
    codes = np.array([Label.__members__.get(name, -1) for name in chunk.dictionary.to_pylist()])
    label = codes[chunk.indices.to_numpy()]
    bad = np.flatnonzero(label < 0)
    if bad.size:
        raise InputError(f"row {bad[0]}: unknown label {chunk[int(bad[0])].as_py()!r}")
    return np.asarray(label, np.uint8)


def _m_per_px(about: dict[bytes, str]) -> float | None:
    if _M_PER_PX not in about:
        return None
    try:
        return float(about[_M_PER_PX])
    except ValueError as error:
        raise InputError(f"metadata {_M_PER_PX.decode()}: {error}") from error
