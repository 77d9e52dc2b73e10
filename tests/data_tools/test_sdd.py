import numpy as np
import pytest

from data_tools.sdd import frame_to_ns, read
from trajpred.errors import InputError
from trajpred.types import Label, ids_from_int

# A mapping that is merged into itself ten times at each of nine levels.
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 10)
)
ROWS = """0 100 50 120 90 12 0 0 0 "Biker"
0 0 0 0 0 13 1 0 1 "Biker"
0 101 50 121 90 14 0 1 1 "Biker"
1 10 10 20 20 12 0 0 0 "Skater"
"""


def sample(root):
    """The root of the raw data set with one video."""
    video = root / "sdd_raw" / "gates" / "video4"
    video.mkdir(parents=True)
    (video / "annotations.txt").write_text(ROWS)
    (root / "sdd_raw" / "estimated_scales.yaml").write_text(
        "gates:\n   video4:\n      scale: 0.04\n      certainty: 1.0\n"
    )
    return root / "sdd_raw"


@pytest.mark.parametrize("part", ["", "gates", "gates/video4", "gates/video4/annotations.txt"])
def test_box_centres_in_metres_without_lost_rows(tmp_path, part):
    (scene,) = read(sample(tmp_path) / part)
    assert scene.name == "gates/video4"
    assert scene.m_per_px == 0.04
    np.testing.assert_array_equal(scene.ids, ids_from_int([0, 1, 0]))
    np.testing.assert_allclose(scene.xy, [[4.4, 2.8], [0.6, 0.6], [4.44, 2.8]])
    np.testing.assert_array_equal(scene.stamp_ns, [400_000_000, 400_000_000, 466_666_667])
    assert scene.label.tolist() == [Label.BICYCLE, Label.UNKNOWN, Label.BICYCLE]


def test_twelve_frames_are_four_tenths_of_a_second():
    frames = np.arange(0, 12 * 10_000, 12)
    np.testing.assert_array_equal(frame_to_ns(frames), frames // 12 * 400_000_000)
    np.testing.assert_array_equal(frame_to_ns(np.array([1, 2, 3])), [33_333_333, 66_666_667, 100_000_000])


@pytest.mark.parametrize(
    ("scales", "complaint"),
    [
        (None, "cannot be read"),
        ("", "no scale of gates: video4"),
        ("gates:\n  video5:\n    scale: 0.04\n", "no scale of gates: video4"),
        ("gates:\n  video4:\n    scale: wide\n", "no scale of gates: video4"),
        ("gates: [", "no scale of gates: video4"),
        ("[" * 3000, "no scale of gates: video4"),
        (f"{MERGED}gates:\n  video4:\n    scale: 0.04\n", "no scale of gates: video4"),
        ("gates:\n  video4:\n    scale: .nan\n", ".*not in metres per pixel"),
        ("gates:\n  video4:\n    scale: 40\n", ".*not in metres per pixel"),
    ],
)
def test_a_video_needs_its_scale(tmp_path, scales, complaint):
    root = sample(tmp_path)
    (root / "estimated_scales.yaml").unlink()
    if scales is not None:
        (root / "estimated_scales.yaml").write_text(scales)
    with pytest.raises(InputError, match=rf"estimated_scales\.yaml: {complaint}"):
        list(read(root))


def test_a_video_in_which_all_is_lost(tmp_path):
    root = sample(tmp_path)
    (root / "gates" / "video4" / "annotations.txt").write_text('0 0 0 0 0 13 1 0 1 "Biker"\n')
    with pytest.raises(InputError, match="no rows but such as are left out"):
        list(read(root))


@pytest.mark.real_data
def test_a_small_real_video_is_read(data_root):
    (scene,) = read(data_root / "sdd_raw" / "quad" / "video3")
    assert scene.name == "quad/video3"
    assert scene.m_per_px == pytest.approx(0.0443968, abs=1e-6)
    assert set(scene.label) <= {Label.PEDESTRIAN, Label.BICYCLE, Label.UNKNOWN, Label.CAR}
