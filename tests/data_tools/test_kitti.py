import numpy as np
import pytest

from data_tools.kitti import imu2world, read
from trajpred.errors import InputError
from trajpred.types import Label, ids_from_int

CALIBRATION = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
R_rect 1 0 0 0 1 0 0 0 1
Tr_velo_cam 0 -1 0 0 0 0 -1 0 1 0 0 -0.5
Tr_imu_velo 1 0 0 -1 0 1 0 0 0 0 1 0
"""
TEN_METRES = np.degrees(10 / 6378137.0)  # of longitude, at the equator
ZEROS = " ".join(["0"] * 24)


def label(frame, track, kind, x, z, rotation_y):
    """A row: a box x m to the right of the camera and z m ahead of it."""
    return f"{frame} {track} {kind} 0 0 0 0 0 0 0 1.5 1.6 4.0 {x} 1.7 {z} {rotation_y}\n"


def sample(root):
    """One sequence: from looking east the car goes on 10 m and looks north.

    The IMU sits 1 m behind the lidar, the camera 0.5 m ahead of it.
    """
    folder = root / "kitti"
    files = {
        "calib": CALIBRATION,
        "oxts": f"0 0 5 0 0 0 {ZEROS}\n0 {TEN_METRES} 5 0 0 {np.pi / 2} {ZEROS}\n",
        "label": label(0, 7, "Car", 3, 20, 0)
        + label(0, -1, "DontCare", -1000, -1000, -10)
        + label(1, -1, "DontCare", -1000, -1000, -10)
        + label(0, -1, "DontCare", -1000, -1000, -10)
        + label(1, 7, "Van", 0, 10, -np.pi / 2),
    }
    for name, text in files.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "0004.txt").write_text(text)
    return folder


@pytest.mark.parametrize("part", ["", "label/0004.txt"])
def test_boxes_come_to_stand_in_the_world(tmp_path, part):
    (scene,) = read(sample(tmp_path) / part)
    assert scene.name == "0004"
    np.testing.assert_array_equal(scene.stamp_ns, [0, 100_000_000])
    np.testing.assert_array_equal(scene.ids, ids_from_int([7, 7]))
    assert scene.label.tolist() == [Label.CAR, Label.CAR]
    # First 20 m east of the camera and 3 m right, facing right; then 10 m north of it, facing ahead.
    np.testing.assert_allclose(scene.xy, [[21.5, -3], [10, 11.5]], atol=1e-9)
    np.testing.assert_allclose(scene.yaw, [-np.pi / 2, np.pi / 2], atol=1e-12)
    np.testing.assert_array_equal(scene.size, [[4.0, 1.6, 1.5]] * 2)
    assert not scene.velocity_valid.any()


def test_mercator_is_true_to_scale_at_the_first_latitude():
    micro = 6378137.0 * np.radians(1e-5)  # m along a great circle
    zero = np.zeros(3)
    poses = imu2world(np.array([60, 60 + 1e-5, 60]), np.array([8, 8, 8 + 1e-5]), zero, zero, zero, zero)
    np.testing.assert_allclose(poses[:, :3, 3], [[0, 0, 0], [0, micro, 0], [micro / 2, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(poses[:, :3, :3], [np.eye(3)] * 3)


def test_roll_pitch_and_yaw_turn_about_forward_left_and_up():
    zero, quarter = np.zeros(3), np.eye(3) * np.pi / 2
    roll, pitch, yaw = imu2world(zero, zero, zero, *quarter)[:, :3, :3]
    np.testing.assert_allclose(roll @ [0, 1, 0], [0, 0, 1], atol=1e-15)  # left goes up
    np.testing.assert_allclose(pitch @ [1, 0, 0], [0, 0, -1], atol=1e-15)  # the nose goes down
    np.testing.assert_allclose(yaw @ [1, 0, 0], [0, 1, 0], atol=1e-15)  # east becomes north
    both = imu2world(*[np.zeros(1)] * 3, np.full(1, 0.1), np.full(1, 0.2), np.full(1, 0.3))[0, :3, :3]
    np.testing.assert_allclose(both @ both.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(both) == pytest.approx(1)


def test_a_sequence_by_its_name(tmp_path):
    folder = sample(tmp_path)
    assert [s.name for s in read(folder, "0004")] == ["0004"]
    with pytest.raises(InputError, match=r"0005\.txt: no such file"):
        list(read(folder, "0005"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 lines named R_rect"),
        (CALIBRATION + "R_rect 1 0 0 0 1 0 0 0 1\n", "2 lines named R_rect"),
        (CALIBRATION.replace("R_rect 1", "R_rect"), "line 2: R_rect is not 9 finite numbers"),
        (CALIBRATION.replace("R_rect 1", "R_rect nan"), "line 2: R_rect is not 9 finite numbers"),
        (CALIBRATION.replace("R_rect 1", "R_rect one"), "line 2: .*one"),
        (CALIBRATION.replace("R_rect 1", "R_rect 0"), ".*not a rotation"),
    ],
)
def test_a_bad_calibration_is_named(tmp_path, text, complaint):
    folder = sample(tmp_path)
    (folder / "calib" / "0004.txt").write_text(text)
    with pytest.raises(InputError, match=rf"calib/0004\.txt: {complaint}"):
        list(read(folder))


@pytest.mark.parametrize("missing", ["calib", "oxts", "label"])
def test_every_part_of_a_sequence_is_needed(tmp_path, missing):
    folder = sample(tmp_path)
    (folder / missing / "0004.txt").unlink()
    with pytest.raises(InputError, match=missing):
        list(read(folder))


def test_a_frame_without_a_pose(tmp_path):
    folder = sample(tmp_path)
    with (folder / "label" / "0004.txt").open("a") as file:
        file.write(label(2, 7, "Car", 0, 10, 0))
    with pytest.raises(InputError, match=r"label/0004\.txt: line 6: frame 2 has no pose: .*oxts.* ends at 1"):
        list(read(folder))


@pytest.mark.real_data
def test_all_sequences_are_read(data_root):
    scenes = list(read(data_root / "kitti"))
    assert len(scenes) == 18
    # Rows of the label files but those of DontCare: Car + Van, Cyclist, Pedestrian, Truck, Tram, Misc.
    label = np.concatenate([scene.label for scene in scenes])
    expected = {1: 25419 + 2746, 6: 856, 7: 3701, 2: 1189, 3: 178, 0: 659}
    assert dict(zip(*np.unique(label, return_counts=True), strict=True)) == expected


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("sequence", "track", "driven_m"),
    [("0001", 75, 70), ("0010", 7, 70), ("0009", 13, 27), ("0004", 20, 60)],
)
def test_a_parked_car_stands_still_while_the_observer_drives(data_root, sequence, track, driven_m):
    (scene,) = read(data_root / "kitti", sequence)
    car = scene.take(scene.ids == ids_from_int([track]))
    oxts = np.loadtxt(data_root / "kitti" / "oxts" / f"{sequence}.txt")
    ego = imu2world(*oxts[:, :6].T)[car.stamp_ns // 100_000_000, :2, 3]
    assert np.linalg.norm(ego[-1] - ego[0]) > driven_m
    from_middle = np.linalg.norm(car.xy - np.median(car.xy, axis=0), axis=1)
    assert from_middle.max() < 0.3
    assert np.ptp(np.unwrap(car.yaw)) < np.radians(5)


@pytest.mark.real_data
def test_a_moving_car_faces_the_way_it_drives(data_root):
    (scene,) = read(data_root / "kitti", "0004")
    car = scene.take(scene.ids == ids_from_int([2]))
    assert len(car) == 314
    way = car.xy[10:] - car.xy[:-10]
    off = car.yaw[5:-5] - np.arctan2(way[:, 1], way[:, 0])
    assert np.cos(off).min() > np.cos(np.radians(15))
