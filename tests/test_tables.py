import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trajpred.errors import InputError
from trajpred.tables import TRUE_ID, read_table, read_tables, read_true_ids, write_table
from trajpred.types import Label, Scene, ids_from_int


def small_scene(**kwargs):
    """Two tracks at two stamps; of the first row everything is known, of the others not all."""
    nan = np.nan
    return Scene.build(
        "gates/video4",
        [0, 0, 100, 100],
        ids_from_int([1, 256, 1, 256]),
        [[0.1, 1.0], [2.0, 3.0], [0.2, 1.0], [2.0, 3.5]],
        label=[Label.CAR, Label.BICYCLE, Label.CAR, Label.UNKNOWN],
        yaw=[0.3, nan, nan, -1.0],
        velocity=[[1.0, 2.0], [nan, 0.0], [3.0, 4.0], [nan, nan]],
        size=[[4.0, 2.0, 1.5], [nan] * 3, [nan] * 3, [nan] * 3],
        **kwargs,
    )


def assert_same(a, b):
    assert (a.name, a.frame_id, a.m_per_px) == (b.name, b.frame_id, b.m_per_px)
    for name in ("stamp_ns", "ids", "label", "xy", "yaw_valid", "velocity_valid", "size_valid"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("yaw", "velocity", "size"):
        valid = getattr(a, f"{name}_valid")
        np.testing.assert_array_equal(getattr(a, name)[valid], getattr(b, name)[valid], err_msg=name)


@pytest.mark.parametrize("about", [{}, {"frame_id": "odom", "m_per_px": 1 / 3}])
def test_a_scene_survives_the_table(tmp_path, about):
    scene = small_scene(**about)
    write_table(scene, tmp_path / "t.parquet")
    assert_same(scene, read_table(tmp_path / "t.parquet"))
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1), st.binary(min_size=16, max_size=16), finite, finite, finite
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda row: row[:2],
    ),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_numbers_and_names_survive_exactly(tmp_path, rows, name):
    stamp, ids, x, y, yaw = zip(*rows, strict=True)
    scene = Scene.build(name, stamp, np.array(ids, "S16"), np.stack([x, y], axis=1), yaw=yaw)
    write_table(scene, tmp_path / "t.parquet")
    assert_same(scene, read_table(tmp_path / "t.parquet"))


def test_the_table_is_as_documented(tmp_path):
    write_table(small_scene(m_per_px=0.04), tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert {f.name: str(f.type) for f in table.schema} == {
        "stamp_ns": "int64",
        "track_id": "fixed_size_binary[16]",
        "label": "dictionary<values=string, indices=int8, ordered=0>",
        **dict.fromkeys(("x", "y", "yaw", "vx", "vy", "length", "width", "height"), "double"),
    }
    assert [f.name for f in table.schema if not f.nullable] == [
        "stamp_ns",
        "track_id",
        "label",
        "x",
        "y",
    ]
    rows = table.to_pylist()
    assert rows[0] == {
        "stamp_ns": 0,
        "track_id": bytes(15) + b"\1",
        "label": "CAR",
        "x": 0.1,
        "y": 1.0,
        "yaw": 0.3,
        "vx": 1.0,
        "vy": 2.0,
        "length": 4.0,
        "width": 2.0,
        "height": 1.5,
    }
    assert rows[1]["track_id"] == bytes(14) + b"\1\0"
    assert [rows[1][name] for name in ("yaw", "vx", "vy", "length", "width", "height")] == [None] * 6
    about = {key: table.schema.metadata[key] for key in table.schema.metadata if key.startswith(b"trajpred")}
    assert about == {
        b"trajpred.scene": b"gates/video4",
        b"trajpred.frame_id": b"map",
        b"trajpred.m_per_px": b"0.04",
    }


def plain(rows=2, **changes):
    """Columns of a table made by somebody else: labels as plain strings, no metadata."""
    columns = {
        "stamp_ns": pa.array(range(rows), pa.int64()),
        "track_id": pa.array([bytes(16)] * rows, pa.binary(16)),
        "label": pa.array(["CAR"] * rows, pa.string()),
        **{name: pa.array([1.0] * rows, pa.float64()) for name in ("x", "y")},
        **{name: pa.nulls(rows, pa.float64()) for name in ("yaw", "vx", "vy", "length", "width", "height")},
    } | changes
    return pa.table({name: column for name, column in columns.items() if column is not None})


def test_somebody_elses_table_is_read(tmp_path):
    table = plain(extra=pa.array(["a", "b"])).select(
        ["y", "x", "extra", *plain().column_names[:3], *plain().column_names[5:]]
    )
    pq.write_table(table, tmp_path / "theirs.parquet", row_group_size=1)
    scene = read_table(tmp_path / "theirs.parquet")
    assert (scene.name, scene.frame_id, scene.m_per_px, len(scene)) == ("theirs", "map", None, 2)
    assert not scene.yaw_valid.any()


def test_unsorted_rows_are_sorted(tmp_path):
    pq.write_table(plain(stamp_ns=pa.array([5, 3], pa.int64())), tmp_path / "t.parquet")
    np.testing.assert_array_equal(read_table(tmp_path / "t.parquet").stamp_ns, [3, 5])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"x": None}, "no column.* named x"),
        ({"yaw": None}, "no column.* named yaw"),
        ({"x": pa.array(["1", "2"])}, "column x is string, expected double"),
        ({"x": pa.array([1, 2])}, "column x is int64"),
        ({"stamp_ns": pa.array([1.0, 2.0])}, "column stamp_ns is double"),
        ({"track_id": pa.array([b"a", b"b"])}, "column track_id is binary"),
        ({"label": pa.array([1, 2])}, "column label is int64"),
        ({"label": pa.array(["CAR", "HORSE"])}, "row 1: unknown label 'HORSE'"),
        ({"label": pa.array(["CAR", None])}, "row 1: label is null"),
        ({"stamp_ns": pa.array([1, None], pa.int64())}, "row 1: stamp_ns is null"),
        ({"track_id": pa.array([bytes(16), None], pa.binary(16))}, "row 1: track_id is null"),
        ({"x": pa.array([1.0, None])}, "row 1: x is null"),
        ({"y": pa.array([1.0, np.nan])}, "row 1: the position is not finite"),
        ({"y": pa.array([np.inf, 1.0])}, "row 0: the position is not finite"),
        ({"stamp_ns": pa.array([3, 3], pa.int64())}, "row 1: a second observation"),
    ],
)
def test_a_bad_table_is_an_input_error(tmp_path, changes, complaint):
    pq.write_table(plain(**changes), tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=rf"bad\.parquet: .*{complaint}"):
        read_table(tmp_path / "bad.parquet")


def test_a_table_without_rows(tmp_path):
    pq.write_table(plain(rows=0), tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"none\.parquet.*no rows"):
        read_table(tmp_path / "none.parquet")


@pytest.mark.parametrize("read", [read_table, read_true_ids])
def test_rows_that_take_no_room_in_a_file(tmp_path, read):
    """Three million that are all alike."""
    row = plain(rows=1)
    columns = {name: pa.repeat(row[name][0], 3_000_000) for name in row.column_names}
    table = pa.table(columns | {TRUE_ID.name: columns["track_id"]})
    pq.write_table(table, tmp_path / "bomb.parquet")
    with pytest.raises(InputError, match=r"bomb\.parquet: says that it holds 3000000 rows"):
        read(tmp_path / "bomb.parquet")


def test_a_broken_scale(tmp_path):
    pq.write_table(plain().replace_schema_metadata({"trajpred.m_per_px": "many"}), tmp_path / "scale.parquet")
    with pytest.raises(InputError, match=r"scale\.parquet.*m_per_px"):
        read_table(tmp_path / "scale.parquet")


def test_no_table_at_all(tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    (tmp_path / "empty.parquet").write_text("")
    (tmp_path / "none").mkdir()
    for name in ("text.parquet", "empty.parquet", "missing.parquet", "none"):
        with pytest.raises(InputError, match=name):
            read_table(tmp_path / name)
    with pytest.raises(InputError, match=r"no \*\.parquet"):
        list(read_tables(tmp_path / "none"))


def test_truncated_and_damaged_tables_are_an_input_error_or_a_scene(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(small_scene(), path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"t\.parquet"):
            read_table(path)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_table(path)
        except InputError as error:
            assert "t.parquet" in str(error)


def test_a_table_in_no_folder(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_table(small_scene(), tmp_path / "nowhere" / "t.parquet")


def test_a_folder_of_tables(tmp_path):
    for name in ("b", "a"):
        scene = small_scene()
        write_table(Scene.build(name, scene.stamp_ns, scene.ids, scene.xy), tmp_path / f"{name}.parquet")
    assert [scene.name for scene in read_tables(tmp_path)] == ["a", "b"]
    assert [scene.name for scene in read_tables(tmp_path / "b.parquet")] == ["b"]
