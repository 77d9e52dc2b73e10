from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from data_tools import catalog
from data_tools.catalog import open_data
from data_tools.convert import write_log
from data_tools.simulate.layouts import LAYOUTS
from tests.data_tools import test_eth_ucy, test_kitti, test_sdd, test_sdd_trajnet, test_vru, test_womd
from trajpred.config import Protocol
from trajpred.errors import InputError
from trajpred.evaluate import scored_only
from trajpred.tables import write_table
from trajpred.types import Label, Scene, ids_from_int
from trajpred.windows import DataSource, Windows, cut


def constant_velocity_errors(source, label=None):
    """(n, 12 ...) m of the baseline that repeats the last displacement, and the scored windows."""
    windows: Windows = cut(source.scenes, source.protocol)
    scored = windows.target if label is None else windows.target & (windows.label == label)
    windows = windows.take(scored)
    observe = windows.protocol.observe
    last = windows.xy[:, observe - 1, None]
    step = last - windows.xy[:, observe - 2, None]
    ahead = last + step * np.arange(1, windows.protocol.predict + 1)[:, None]
    return np.linalg.norm(ahead - windows.xy[:, observe:], axis=2), windows


def ade_fde(errors):
    return errors.mean(), errors[:, -1].mean()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "n", "ade", "fde"),
    [
        ("eth", 364, 1.08, 2.28),
        ("hotel", 1197, 0.32, 0.61),
        ("univ", 24334, 0.52, 1.17),
        ("zara1", 2356, 0.43, 0.95),
        ("zara2", 5910, 0.32, 0.72),
        ("eth:min2", 181, 0.99, 2.23),
        ("hotel:min2", 1053, 0.32, 0.62),
        ("univ:min2", 24334, 0.52, 1.17),
        ("zara1:min2", 2253, 0.43, 0.96),
        ("zara2:min2", 5833, 0.33, 0.73),
    ],
)
def test_eth_ucy_has_the_published_windows_and_baseline(data_root, name, n, ade, fde):
    fold, *rest = name.split(":")
    errors, _ = constant_velocity_errors(open_data(":".join(["eth_ucy", fold, "test", *rest]), data_root))
    assert len(errors) == n
    # Published to two digits; some are cut off rather than rounded.
    assert ade_fde(errors) == pytest.approx((ade, fde), abs=0.0101)


@pytest.mark.real_data
def test_eth_ucy_means(data_root):
    for rest, expected in ((), (0.534, 1.148)), (("min2",), (0.520, 1.141)):
        names = [":".join(["eth_ucy", fold, "test", *rest]) for fold in catalog.FOLDS]
        scores = [ade_fde(constant_velocity_errors(open_data(name, data_root))[0]) for name in names]
        assert np.mean(scores, axis=0) == pytest.approx(expected, abs=0.0006)


@pytest.mark.real_data
def test_vru_cyclists(data_root):
    errors, windows = constant_velocity_errors(open_data("vru:test", data_root))
    assert len(errors) == 4387
    assert ade_fde(errors) == pytest.approx((0.972, 2.009), abs=0.0006)
    moving = np.linalg.norm(windows.xy[:, -1] - windows.xy[:, 0], axis=1) > 2
    assert moving.sum() == 1581
    assert ade_fde(errors[moving]) == pytest.approx((1.876, 4.108), abs=0.0006)


@pytest.mark.real_data
def test_sdd_pedestrians(data_root):
    errors, windows = constant_velocity_errors(open_data("sdd_trajnet:test", data_root))
    assert len(errors) == 2829
    assert ade_fde(errors / windows.m_per_px[:, None]) == pytest.approx((19.74, 40.05), abs=0.006)


@pytest.mark.real_data
def test_sdd_trajnet_val_is_taken_out_of_train(data_root):
    val, train = (open_data(f"sdd_trajnet:{split}", data_root) for split in ("val", "train"))
    counts = [sum(len(np.unique(scene.ids)) for scene in source.scenes) for source in (val, train)]
    assert counts == [1185, 8494 - 1185]
    assert {scene.name for scene in val.scenes} == set(catalog.SDD_TRAJNET_VAL)


@pytest.mark.real_data
def test_sdd_bikers(data_root):
    source = open_data("sdd:test:Biker", data_root)
    assert source.scored_labels == (Label.BICYCLE,)
    errors, windows = constant_velocity_errors(source, Label.BICYCLE)
    assert len(errors) == 1519
    assert ade_fde(errors)[0] == pytest.approx(2.17, abs=0.006)
    # frame % 12 == 0
    assert (windows.stamp_ns % 400_000_000 == 0).all()


@pytest.mark.real_data
def test_splits_do_not_share_recordings(data_root):
    splits = {s: open_data(f"sdd:{s}", data_root) for s in catalog.SPLITS}
    names = [scene.name for source in splits.values() for scene in source.scenes]
    assert len(names) == len(set(names)) == 20
    assert not any(source.scored_labels for source in splits.values())
    clips = [scene.name for s in catalog.SPLITS for scene in open_data(f"vru:{s}", data_root).scenes]
    assert len(clips) == len(set(clips)) == 409


@pytest.mark.real_data
def test_waymo_scenarios(data_root):
    """Two scenarios of 91 steps: a window each, at their current time."""
    source = open_data("womd", data_root)
    assert [scene.name for scene in source.scenes] == ["637f20cafde22ff8", "ee519cf571686d19"]
    windows = cut(source.scenes, source.protocol)
    assert np.unique(windows.group).size == 2
    assert {Label.CAR, Label.PEDESTRIAN} <= set(windows.label[windows.target].tolist())


def test_kitti_and_pedestrians(data_root):
    kitti = open_data("kitti:0004", data_root)
    assert [scene.name for scene in kitti.scenes] == ["0004"]
    assert (kitti.protocol.step_ns, kitti.protocol.observe, kitti.protocol.predict) == (10**8, 10, 30)
    assert cut(kitti.scenes, kitti.protocol).target.any()
    pedestrians = open_data("vru_pedestrians", data_root)
    assert len(pedestrians.scenes) == 1068
    assert all((np.diff(scene.stamp_ns) == 80_000_000).all() for scene in pedestrians.scenes)


@pytest.fixture
def few_places(monkeypatch):
    """One simulated place of each kind, for a moment."""
    monkeypatch.setattr(catalog, "UNION_SIMULATED_SEEDS", range(1))
    monkeypatch.setattr(catalog, "UNION_SIMULATED_S", 1.0)


@pytest.mark.real_data
@pytest.mark.parametrize("split", ["train", "val"])
def test_nobody_who_is_scored_in_a_test_is_in_the_union(data_root, few_places, split):
    scenes = {scene.name: scene for scene in open_data(f"union:zara1:{split}", data_root).scenes}
    assert {scene.frame_id for name, scene in scenes.items() if name.startswith("cyclists")} == {"vru"}
    assert not any(name.startswith("crowds_zara01") for name in scenes)
    assert not {scene.name for scene in open_data("vru:test", data_root).scenes} & set(scenes)
    for test in ("sdd_trajnet:test", "sdd:test"):
        for there in open_data(test, data_root).scenes:
            for name in {there.name, there.name.replace("_", "/video"), there.name.replace("/video", "_")}:
                seen = set(scenes[name].label.tolist()) if name in scenes else set()
                assert not seen & set(there.label.tolist()), name


@pytest.mark.real_data
def test_what_is_val_in_the_union_is_not_in_its_train(data_root, few_places):
    train, val = (
        {
            (_as_standard(scene.name), label)
            for scene in open_data(f"union:eth:{split}", data_root).scenes
            for label in set(scene.label.tolist())
            if "_train" not in scene.name and "_val" not in scene.name
        }
        for split in ("train", "val")
    )
    assert not train & val


@pytest.mark.real_data
def test_the_union_has_simulated_wheels_as_positions_on_its_grid_to_train_on(data_root, few_places):
    train, val = (open_data(f"union:eth:{split}", data_root).scenes for split in ("train", "val"))
    made = [scene for scene in train if scene.name.endswith("_0") and scene.name[:-2] in LAYOUTS]
    assert {scene.name for scene in made} == {f"{scenario}_0" for scenario in LAYOUTS}
    assert not {scene.name for scene in made} & {scene.name for scene in val}
    for scene in made:
        assert (np.diff(np.unique(scene.stamp_ns)) == 80_000_000).all()
        assert not scene.yaw_valid.any()
        assert not scene.velocity_valid.any()
        assert len(scene)
        assert Label.PEDESTRIAN not in scene.label


@pytest.mark.real_data
def test_the_unions_train_has_clips_of_cyclists_twice_and_crowds_thrice_its_val_once(data_root, few_places):
    for split, of_clips, of_crowds in (("train", 2, 3), ("val", 1, 1)):
        names = Counter(scene.name for scene in open_data(f"union:eth:{split}", data_root).scenes)
        for few, times in ((f"vru:{split}", of_clips), (f"eth_ucy:eth:{split}", of_crowds)):
            found = {scene.name for scene in open_data(few, data_root).scenes}
            assert found
            assert {names[name] for name in found} == {times}


def _as_standard(video):
    return video.replace("/video", "_")


@pytest.fixture
def root(tmp_path):
    """Recordings of a row or two each."""
    for sample in (test_eth_ucy, test_kitti, test_sdd, test_sdd_trajnet, test_vru, test_womd):
        folder = sample.sample(tmp_path)
    (tmp_path / "eth_ucy").mkdir()
    (tmp_path / "eth").rename(tmp_path / "eth_ucy" / "eth")
    assert folder.exists()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "scenes", "protocol"),
    [
        ("eth_ucy:eth:test", ["biwi_eth"], Protocol()),
        ("eth_ucy:eth:test:min2", ["biwi_eth"], Protocol(min_tracks=2)),
        ("vru:test", ["cyclists/moving/1.csv"], Protocol()),
        ("vru:train", [], Protocol()),
        ("vru_pedestrians", ["pedestrians/waiting/1008_27.csv"], Protocol()),
        ("sdd_trajnet:test", ["gates_2"], Protocol()),
        ("kitti", ["0004"], Protocol(step_ns=10**8, observe=10, predict=30)),
        ("kitti:0004", ["0004"], Protocol(step_ns=10**8, observe=10, predict=30)),
        ("womd", ["abc"], Protocol(step_ns=10**8, observe=11, predict=80)),
    ],
)
def test_names(root, monkeypatch, name, scenes, protocol):
    source = open_data(name, root)
    assert (source.name, source.protocol, source.streamed) == (name, protocol, False)
    assert [scene.name for scene in source.scenes] == scenes
    monkeypatch.setenv("TRAJPRED_DATA", str(root))
    assert [scene.name for scene in open_data(name).scenes] == scenes


def test_without_root_or_variable_the_shared_folder_is_taken(root, monkeypatch):
    monkeypatch.delenv("TRAJPRED_DATA", raising=False)
    (root / "shared" / "data").mkdir(parents=True)
    (root / "kitti").rename(root / "shared" / "data" / "kitti")
    (root / "project").mkdir()
    monkeypatch.chdir(root / "project")
    assert [scene.name for scene in open_data("kitti").scenes] == ["0004"]


def test_sdd_windows_are_on_frames_divisible_by_twelve(root, monkeypatch):
    monkeypatch.setattr(catalog, "SDD_HELD_OUT", {"test": ("gates/video4",), "val": ()})
    rows = "".join(f'0 0 0 2 2 {frame} 0 0 0 "Biker"\n' for frame in range(5, 60))
    (root / "sdd_raw" / "gates" / "video4" / "annotations.txt").write_text(rows)
    (scene,) = open_data("sdd:test", root).scenes
    np.testing.assert_array_equal(scene.stamp_ns[[0, 1, -1]], [400_000_000, 433_333_333, 1_966_666_667])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "nonsense",
            "eth_ucy",
            "eth_ucy:eth",
            "eth_ucy:mars:test",
            "eth_ucy:eth:all",
            "eth_ucy:eth:test:min3",
        ),
        *(
            "vru",
            "vru:all",
            "vru:test:x",
            "vru_pedestrians:test",
            "sdd_trajnet",
            "sdd_trajnet:test:Biker",
        ),
        *("sdd", "sdd:test:Cart", "sdd:test:Dragon", "sdd:test:Biker:x", "kitti:0004:x"),
    ],
)
def test_unknown_names_list_the_known_ones(root, name):
    with pytest.raises(InputError, match=r"unknown data.*eth_ucy:FOLD:SPLIT.*hotel.*Biker.*Parquet"):
        open_data(name, root)


@pytest.mark.parametrize(
    "name", ["eth_ucy:eth:val", "vru:test", "vru_pedestrians", "sdd:test", "sdd_trajnet:val", "kitti", "womd"]
)
def test_absent_recordings_say_where_and_how(tmp_path, name):
    with pytest.raises(InputError, match=rf"{tmp_path}.*no such folder.*TRAJPRED_DATA"):
        open_data(name, tmp_path)


def test_an_absent_clip_of_the_split_is_named(root):
    (root / "vru" / "cyclists" / "moving" / "1.csv").unlink()
    with pytest.raises(InputError, match=r"moving/1\.csv: no such file"):
        open_data("vru:test", root)


def test_paths_of_tables_and_logs_are_streamed(tmp_path):
    scene = Scene.build("a/b", [0, 10**8], ids_from_int([1, 1]), [[0, 0], [1, 1]])
    write_table(scene, tmp_path / "t.parquet")
    (tmp_path / "tables").mkdir()
    for name in ("1", "2"):
        write_table(scene, tmp_path / "tables" / f"{name}.parquet")
    for name in ("log", "log.mcap", "log.db3"):
        write_log(scene, tmp_path / name)
    counts = {"t.parquet": 1, "tables": 2, "log": 1, "log.mcap": 1, "log.db3": 1}
    for name, count in counts.items():
        source = open_data(str(tmp_path / name))
        assert source.streamed
        assert source.name == str(tmp_path / name)
        assert [len(scene) for scene in source.scenes] == [2] * count


@pytest.mark.parametrize("name", ["none.parquet", "none.mcap", "none.db3"])
def test_paths_of_nothing(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}: no such"):
        open_data(str(tmp_path / name))


def test_a_folder_of_nothing(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.parquet"):
        open_data(str(tmp_path))


def test_a_class_of_whom_nobody_is_seen_for_long_enough_is_named():
    once = Scene.build("once", [0], ids_from_int(np.zeros(1, np.int64)), np.zeros((1, 2)), label=[Label.CAR])
    steps = np.arange(20)
    walk = Scene.build(
        "walk",
        steps * Protocol().step_ns,
        ids_from_int(np.ones(20, np.int64)),
        np.stack([steps, steps], axis=1),
        label=np.full(20, Label.PEDESTRIAN),
    )
    some = DataSource("both", (once, walk), Protocol(), scored_labels=(Label.CAR,))
    with pytest.raises(InputError, match="both: nothing to score or to train on: no CAR is seen"):
        scored_only(cut(some.scenes, some.protocol), some)


def test_simulated_traffic_that_is_kept_is_the_same_and_not_simulated_again(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "SIMULATED_SEEDS", {"val": range(1)})
    monkeypatch.setattr(catalog, "SIMULATED_S", 13.0)
    fresh = open_data("simulated:val:junction", tmp_path)
    monkeypatch.setenv(catalog.KEPT_VARIABLE, str(tmp_path / "kept"))
    first = open_data("simulated:val:junction", tmp_path)
    monkeypatch.setattr(catalog, "record", None)
    again = open_data("simulated:val:junction", tmp_path)
    for other in (first, again):
        for ours, theirs in zip(
            (fresh.scenes[0], fresh.truth[0].scene), (other.scenes[0], other.truth[0].scene), strict=True
        ):
            for field in fields(Scene):
                np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))
        np.testing.assert_array_equal(fresh.truth[0].ids, other.truth[0].ids)
    assert [len(folder.name.split("_")) for folder in (tmp_path / "kept").glob("*/*")] == [4]


def test_a_folder_that_cannot_keep_simulated_traffic_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(catalog.KEPT_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(catalog, "SIMULATED_SEEDS", {"val": range(1)})
    monkeypatch.setattr(catalog, "SIMULATED_S", 2.0)
    with pytest.raises(InputError, match=rf"file/.*: cannot be written .*: see {catalog.KEPT_VARIABLE}"):
        open_data("simulated:val:junction", tmp_path)


@pytest.mark.parametrize("part", ["wheels", "foot"])
def test_a_part_of_simulated_traffic_can_be_scored_alone(monkeypatch, tmp_path, part):
    monkeypatch.setattr(catalog, "SIMULATED_SEEDS", {"val": range(1)})
    monkeypatch.setattr(catalog, "SIMULATED_S", 13.0)
    everyone, some = (open_data(f"simulated:val{only}", tmp_path) for only in ("", f":{part}"))
    assert {scene.name for scene in some.scenes} == {scene.name for scene in everyone.scenes}
    assert not everyone.scored_labels
    windows = scored_only(cut(some.scenes, some.protocol, some.truth), some)
    on_foot = windows.label == Label.PEDESTRIAN
    assert windows.target.any()
    assert (on_foot[windows.target] == (part == "foot")).all()
    assert on_foot.any()
    assert not on_foot.all()  # the others are still in their way
    past = slice(windows.protocol.observe)
    assert windows.velocity_valid[:, past].any() == windows.yaw_valid[:, past].any() == (part == "wheels")
