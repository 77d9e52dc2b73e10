import numpy as np
import pytest

from data_tools.vru import read
from trajpred.errors import InputError
from trajpred.types import Label


def sample(root):
    """The folder of the data set with a cyclist and a pedestrian."""
    for name, rows in {
        "cyclists/moving/1.csv": "1,0.08,3,4\n0,0.0,1,2\n2,0.08,9,9\n",
        "pedestrians/waiting/1008_27.csv": "0,0.02,1,2\n",
    }.items():
        (root / "vru" / name).parent.mkdir(parents=True)
        (root / "vru" / name).write_text(",timestamp,x,y\n" + rows)
    (root / "vru" / "cyclist_split.csv").write_text("file,group,split\nmoving/1.csv,0,test\n")
    return root / "vru"


def test_clips_are_sorted_and_repeated_stamps_dropped(tmp_path):
    cyclist, pedestrian = read(sample(tmp_path))
    assert (cyclist.name, pedestrian.name) == (
        "cyclists/moving/1.csv",
        "pedestrians/waiting/1008_27.csv",
    )
    np.testing.assert_array_equal(cyclist.stamp_ns, [0, 80_000_000])
    np.testing.assert_array_equal(cyclist.xy, [[1, 2], [3, 4]])
    assert set(cyclist.label) == {Label.BICYCLE}
    np.testing.assert_array_equal(pedestrian.stamp_ns, [20_000_000])
    assert set(pedestrian.label) == {Label.PEDESTRIAN}


@pytest.mark.parametrize("part", ["cyclists", "cyclists/moving", "cyclists/moving/1.csv"])
def test_any_level_of_the_data_set_can_be_named(tmp_path, part):
    (scene,) = read(sample(tmp_path) / part)
    assert scene.name == "cyclists/moving/1.csv"


def test_a_clip_of_nobody_knows_whom(tmp_path):
    (tmp_path / "1.csv").write_text(",timestamp,x,y\n0,0,0,0\n")
    with pytest.raises(InputError, match=r"1\.csv.*cyclists or pedestrians"):
        list(read(tmp_path / "1.csv"))


def test_stamps_in_nanoseconds_are_refused(tmp_path):
    path = sample(tmp_path) / "cyclists" / "moving" / "1.csv"
    path.write_text(",timestamp,x,y\n0,0,0,0\n1,1.6e18,0,0\n")
    with pytest.raises(InputError, match=r"1\.csv: line 3: timestamp is not in seconds"):
        list(read(path))


@pytest.mark.real_data
def test_all_clips_are_read(data_root):
    cyclists = list(read(data_root / "vru" / "cyclists"))
    pedestrians = list(read(data_root / "vru" / "pedestrians"))
    assert (len(cyclists), len(pedestrians)) == (409, 1068)
    assert {scene.frame_id for scene in (*cyclists, *pedestrians)} == {"vru"}
    # The two whose clock stands still.
    assert [s.name for s in cyclists if len(s) == 1] == [f"cyclists/waiting/{n}.csv" for n in (108, 305)]
