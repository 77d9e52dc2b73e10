import numpy as np
import pytest

from data_tools.dut import read
from trajpred.errors import InputError
from trajpred.types import Label, ids_from_int


def sample(root):
    """The folder of trajectories with one clip."""
    folder = root / "dut" / "trajectories_filtered"
    folder.mkdir(parents=True)
    (folder / "intersection_01_traj_ped_filtered.csv").write_text(
        "id,frame,label,x_est,y_est,vx_est,vy_est\n0,2398,ped,1,2,0.5,-0.5\n0,0,ped,3,4,0.1,0.2\n"
    )
    (folder / "intersection_01_traj_veh_filtered.csv").write_text(
        "id,frame,label,x_est,y_est,psi_est,vel_est\n0,2398,veh,7,8,1.5707963267948966,3\n"
    )
    return folder


@pytest.mark.parametrize(
    "part", ["", "intersection_01_traj_ped_filtered.csv", "intersection_01_traj_veh_filtered.csv"]
)
def test_both_files_of_a_clip_are_one_scene(tmp_path, part):
    (scene,) = read(sample(tmp_path) / part)
    assert scene.name == "intersection_01"
    # 2398 frames at 23.98 per second
    np.testing.assert_array_equal(scene.stamp_ns, [0, 100_000_000_000, 100_000_000_000])
    np.testing.assert_array_equal(scene.ids, ids_from_int([0, 0, 1_000_000]))
    assert scene.label.tolist() == [Label.PEDESTRIAN, Label.PEDESTRIAN, Label.CAR]
    np.testing.assert_array_equal(scene.xy, [[3, 4], [1, 2], [7, 8]])
    np.testing.assert_array_equal(scene.yaw_valid, [False, False, True])
    assert scene.yaw[2] == pytest.approx(np.pi / 2)
    assert scene.velocity_valid.all()
    np.testing.assert_allclose(scene.velocity, [[0.1, 0.2], [0.5, -0.5], [0, 3]], atol=1e-12)
    assert not scene.size_valid.any()


def test_a_clip_without_pedestrians(tmp_path):
    folder = sample(tmp_path)
    (folder / "intersection_01_traj_ped_filtered.csv").unlink()
    (scene,) = read(folder)
    assert scene.label.tolist() == [Label.CAR]


def test_a_file_of_another_name(tmp_path):
    (tmp_path / "clip.csv").touch()
    with pytest.raises(InputError, match="not named like"):
        list(read(tmp_path / "clip.csv"))


@pytest.mark.real_data
def test_velocity_and_yaw_agree_with_the_way_travelled(data_root):
    scenes = list(read(data_root / "dut"))
    assert len(scenes) == 28
    assert [s.name for s in scenes if Label.PEDESTRIAN not in s.label] == [
        "roundabout_03",
        "roundabout_05",
    ]
    tracks = [scene.take(scene.ids == i) for scene in scenes[:6] for i in np.unique(scene.ids)]
    for label in (Label.PEDESTRIAN, Label.CAR):
        known, travelled = [], []
        for track in tracks:
            if track.label[0] == label and len(track) > 12:
                seconds = (track.stamp_ns[12:] - track.stamp_ns[:-12]) / 1e9
                travelled.append((track.xy[12:] - track.xy[:-12]) / seconds[:, None])
                known.append(track.velocity[6:-6])
        off = np.linalg.norm(np.concatenate(known) - np.concatenate(travelled), axis=1)
        # The authors' filter is rough for vehicles, see the reader.
        assert np.median(off) < (0.1 if label == Label.PEDESTRIAN else 0.6)
