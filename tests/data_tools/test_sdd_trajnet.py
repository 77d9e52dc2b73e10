import numpy as np
import pytest

from data_tools.sdd_trajnet import read
from trajpred.errors import InputError
from trajpred.types import Label

RATIOS = (
    "File\tDataset\tVersion\tRatio\n"
    "gates_2.jpg\tGates\tA\t0.0372\n"
    "gates_2.jpg\tGates\tB\t0.0373\n"
    "gates_3.jpg\tGates\tA\t0.0345\n"
)


def sample(root):
    """The test folder with one file."""
    folder = root / "sdd_trajnet" / "test"
    folder.mkdir(parents=True)
    (folder / "gates_2.txt").write_text("0 1.0 40.5 37.0\n12 1.0 41.0 37.1")
    (folder.parent / "H_SDD.txt").write_text(RATIOS)
    return folder


def test_metres_with_the_scale_to_go_back_to_pixels(tmp_path):
    (scene,) = read(sample(tmp_path))
    assert (scene.name, scene.m_per_px) == ("gates_2", 0.0372)
    np.testing.assert_array_equal(scene.stamp_ns, [0, 400_000_000])
    np.testing.assert_array_equal(scene.xy, [[40.5, 37.0], [41.0, 37.1]])
    assert set(scene.label) == {Label.PEDESTRIAN}


@pytest.mark.parametrize("ratios", [RATIOS.replace("gates_2", "gates_9"), RATIOS.replace("\tB", "\tA")])
def test_a_video_needs_exactly_one_ratio(tmp_path, ratios):
    folder = sample(tmp_path)
    (folder.parent / "H_SDD.txt").write_text(ratios)
    with pytest.raises(InputError, match=r"H_SDD\.txt: not exactly one ratio .* gates_2\.jpg"):
        list(read(folder))


@pytest.mark.real_data
def test_every_track_has_twenty_steps(data_root):
    for split, count in {"train": 8494, "test": 2829}.items():
        lengths = np.concatenate(
            [np.unique(s.ids, return_counts=True)[1] for s in read(data_root / "sdd_trajnet" / split)]
        )
        assert len(lengths) == count
        assert set(lengths) == {20}
