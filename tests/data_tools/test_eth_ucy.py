import numpy as np
import pytest

from data_tools.eth_ucy import read
from trajpred.types import Label, ids_from_int


def sample(root):
    """The test folder of a fold with one file."""
    folder = root / "eth" / "test"
    folder.mkdir(parents=True)
    (folder / "biwi_eth.txt").write_text("780\t1.0\t8.46\t3.59\n790\t1.0\t9.57\t3.79\n780\t2.0\t1\t2")
    return folder


def test_one_scene_per_file(tmp_path):
    folder = sample(tmp_path)
    (folder / "a.txt").write_text("0\t1.0\t0\t0\n")
    assert [scene.name for scene in read(folder)] == ["a", "biwi_eth"]
    (scene,) = read(folder / "biwi_eth.txt")
    # 10 frames are 0.4 s
    np.testing.assert_array_equal(scene.stamp_ns, [31_200_000_000, 31_200_000_000, 31_600_000_000])
    np.testing.assert_array_equal(scene.ids, ids_from_int([1, 2, 1]))
    np.testing.assert_array_equal(scene.xy, [[8.46, 3.59], [1, 2], [9.57, 3.79]])
    assert set(scene.label) == {Label.PEDESTRIAN}
    assert scene.m_per_px is None
    assert not (scene.yaw_valid.any() or scene.velocity_valid.any() or scene.size_valid.any())


@pytest.mark.real_data
def test_every_file_of_every_fold_is_read(data_root):
    folders = [
        p
        for fold in ("eth", "hotel", "univ", "zara1", "zara2")
        for p in (data_root / "eth_ucy" / fold).iterdir()
    ]
    names = {scene.name for folder in folders for scene in read(folder)}
    assert len(folders) == 15
    assert {"biwi_eth", "biwi_hotel", "crowds_zara01", "crowds_zara02", "students001"} <= names
