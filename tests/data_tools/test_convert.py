import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from data_tools import kitti
from data_tools.cli import Source, main
from data_tools.convert import READERS, TOPIC, convert
from data_tools.rosbag2 import read as read_log
from tests.data_tools import (
    test_dut,
    test_eth_ucy,
    test_kitti,
    test_sdd,
    test_sdd_trajnet,
    test_vru,
    test_womd,
)
from trajpred.bags import read_raw
from trajpred.cdr import TWIST, read_tracked
from trajpred.errors import InputError
from trajpred.tables import read_table, read_tables

SAMPLES = {
    "eth_ucy": test_eth_ucy,
    "vru": test_vru,
    "sdd": test_sdd,
    "sdd_trajnet": test_sdd_trajnet,
    "kitti": test_kitti,
    "dut": test_dut,
    "womd": test_womd,
}


@pytest.fixture
def several(tmp_path):
    """A folder of ETH/UCY with two files."""
    folder = test_eth_ucy.sample(tmp_path)
    (folder / "a.txt").write_text("0\t1.0\t0\t0\n")
    return folder


@pytest.mark.parametrize("source", SAMPLES)
def test_every_source_becomes_a_table_a_log_and_a_table_again(tmp_path, source):
    folder = SAMPLES[source].sample(tmp_path)
    scene = next(READERS[source](folder))
    convert(source, folder, tmp_path / "t.parquet", scene=scene.name)
    convert("table", tmp_path / "t.parquet", tmp_path / "log.mcap")
    convert("rosbag2", tmp_path / "log.mcap", tmp_path / "t2.parquet")
    first, second = read_table(tmp_path / "t.parquet"), read_table(tmp_path / "t2.parquet")
    assert first.name == scene.name
    for name in ("stamp_ns", "ids", "label", "xy", "yaw_valid", "velocity_valid", "size_valid", "size"):
        np.testing.assert_array_equal(getattr(first, name), getattr(scene, name), err_msg=name)
        np.testing.assert_array_equal(getattr(second, name), getattr(scene, name), err_msg=name)
    for table in (first, second):
        np.testing.assert_allclose(table.yaw, scene.yaw, atol=1e-12)
        np.testing.assert_allclose(table.velocity, scene.velocity, atol=1e-12)


def test_the_log_is_what_a_tracker_would_send(tmp_path):
    convert("dut", test_dut.sample(tmp_path), tmp_path / "log")
    messages = list(read_raw(tmp_path / "log"))
    assert [(topic, received) for topic, received, _ in messages] == [
        (TOPIC, 0),
        (TOPIC, 100_000_000_000),
    ]
    tracked = read_tracked(messages[1][2])
    assert (tracked.frame_id, tracked.stamp_ns) == ("map", 100_000_000_000)
    assert tracked.availability.tolist() == [0, 2]  # the pedestrian's, the vehicle's
    # The pedestrian's along the map (its frame is the identity), the vehicle's along itself.
    np.testing.assert_allclose(tracked.state[:, TWIST][:, :2], [[0.5, -0.5], [3, 0]], atol=1e-12)


def test_several_scenes_become_a_folder_of_tables(several, tmp_path):
    summary = convert("eth_ucy", several, tmp_path / "out.parquet")
    assert summary == f"{tmp_path / 'out.parquet'}: 4 rows of 2 scenes"
    assert [p.name for p in sorted((tmp_path / "out.parquet").iterdir())] == [
        "a.parquet",
        "biwi_eth.parquet",
    ]
    assert [len(scene) for scene in read_tables(tmp_path / "out.parquet")] == [1, 3]


def test_a_scene_of_a_folder_keeps_its_name(tmp_path):
    convert("vru", test_vru.sample(tmp_path), tmp_path / "out.parquet")
    assert (tmp_path / "out.parquet" / "cyclists_moving_1.csv.parquet").is_file()
    names = [scene.name for scene in read_tables(tmp_path / "out.parquet")]
    assert names == ["cyclists/moving/1.csv", "pedestrians/waiting/1008_27.csv"]


def test_a_log_holds_one_scene(several, tmp_path):
    with pytest.raises(InputError, match=r"2 scenes \(a, biwi_eth\).*--scene NAME"):
        convert("eth_ucy", several, tmp_path / "log.mcap")
    convert("eth_ucy", several, tmp_path / "log.mcap", scene="a")
    assert len(next(read_log(tmp_path / "log.mcap"))) == 1
    with pytest.raises(InputError, match=r"no scene 'b'.*a, biwi_eth"):
        convert("eth_ucy", several, tmp_path / "b.mcap", scene="b")


@pytest.mark.parametrize("name", ["t.parquet", "log.mcap", "log.db3", "log"])
def test_overwriting_must_be_asked_for(several, tmp_path, name):
    dst = tmp_path / name
    convert("eth_ucy", several, dst, scene="a")
    with pytest.raises(InputError, match=f"{name}: exists already.*--overwrite"):
        convert("eth_ucy", several, dst, scene="biwi_eth")
    convert("eth_ucy", several, dst, scene="biwi_eth", overwrite=True)
    scene = read_table(dst) if name == "t.parquet" else next(read_log(dst))
    assert len(scene) == 3
    assert {p.name for p in tmp_path.iterdir()} == {"eth", name}


def test_only_what_is_of_the_same_kind_is_overwritten(several, tmp_path):
    convert("eth_ucy", several, tmp_path / "out.parquet")
    with pytest.raises(InputError, match="folder, so it is not overwritten"):
        convert("eth_ucy", several, tmp_path / "out.parquet", scene="a", overwrite=True)
    convert("eth_ucy", several, tmp_path / "out.parquet", overwrite=True)
    (tmp_path / "out.parquet" / "diary.txt").touch()
    with pytest.raises(InputError, match="not overwritten"):
        convert("eth_ucy", several, tmp_path / "out.parquet", overwrite=True)
    assert (tmp_path / "out.parquet" / "diary.txt").exists()


def test_a_source_that_fails_leaves_nothing(several, tmp_path):
    (several / "biwi_eth.txt").write_text("0 1 2\n")
    for name in ("out.parquet", "log.mcap"):
        with pytest.raises(InputError, match="line 1"):
            convert("eth_ucy", several, tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"eth"}


@pytest.mark.parametrize("name", ["t.parquet", "log.mcap"])
def test_no_folder_to_write_in(several, tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: cannot be written: No such file"):
        convert("eth_ucy", several, tmp_path / "nowhere" / name, scene="a")


def test_command_line(several, tmp_path, capsys):
    command = ["convert", "eth_ucy", str(several), str(tmp_path / "log.mcap")]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {several}: 2 scenes")
    assert main([*command, "--scene", "a"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'log.mcap'}: 1 row of 1 scene\n"
    assert main([*command, "--scene", "a"]) == 2
    assert main([*command, "--scene", "a", "--overwrite"]) == 0


def test_a_scene_whose_name_is_a_number(tmp_path, capsys):
    folder = test_kitti.sample(tmp_path)
    assert main(["convert", "kitti", str(folder), str(tmp_path / "t.parquet"), "--scene", "0004"]) == 0
    assert read_table(tmp_path / "t.parquet").name == "0004"


def test_the_command_knows_every_source():
    assert get_args(Source) == tuple(READERS)


@pytest.mark.parametrize(
    "args", [[], ["convert"], ["convert", "nonsense", "a", "b"], ["convert", "dut", "a", "b", "--x"]]
)
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage: trajpred-data" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from data_tools.cli import main\n"
        "try: main(['convert', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print({'numpy', 'pyarrow', 'rosbags', 'torch', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sdd_trajnet" in done.stdout
    assert done.stderr.strip() == "set()"


@pytest.mark.real_data
def test_a_kitti_sequence_survives_the_log(data_root, tmp_path):
    (scene,) = kitti.read(data_root / "kitti", "0004")
    convert("kitti", data_root / "kitti" / "label" / "0004.txt", tmp_path / "0004.mcap")
    (back,) = read_log(tmp_path / "0004.mcap")
    assert back.name == scene.name
    for name in ("stamp_ns", "ids", "label", "xy", "size", "yaw_valid", "velocity_valid", "size_valid"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scene, name), err_msg=name)
    np.testing.assert_allclose(back.yaw, scene.yaw, atol=1e-12)
