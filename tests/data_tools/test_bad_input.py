"""What every reader of text must say to bad input: one InputError that names the file and the line."""

import pytest

from data_tools import dut, eth_ucy, kitti, sdd, sdd_trajnet, vru
from tests.data_tools import test_dut, test_eth_ucy, test_kitti, test_sdd, test_sdd_trajnet, test_vru
from trajpred.errors import InputError

# reader, sample, a file of it, the line that is changed, a number on that line
SOURCES = {
    "eth_ucy": (eth_ucy, test_eth_ucy, "biwi_eth.txt", 2, "9.57"),
    "vru": (vru, test_vru, "cyclists/moving/1.csv", 3, "0.0"),
    "sdd": (sdd, test_sdd, "gates/video4/annotations.txt", 3, "121"),
    "sdd_trajnet": (sdd_trajnet, test_sdd_trajnet, "gates_2.txt", 2, "37.1"),
    "kitti": (kitti, test_kitti, "label/0004.txt", 5, "10"),
    "kitti oxts": (kitti, test_kitti, "oxts/0004.txt", 1, "5"),
    "dut ped": (dut, test_dut, "intersection_01_traj_ped_filtered.csv", 3, "0.1"),
    "dut veh": (dut, test_dut, "intersection_01_traj_veh_filtered.csv", 2, "8"),
}
REPEATS = {
    "eth_ucy": "a second row for track 1 at frame 790",
    "sdd": "a second row for track 0 at frame 14",
    "sdd_trajnet": "a second row for track 1 at frame 12",
    "kitti": "a second row for track 7 at frame 1",
    "dut ped": "a second row for id 0 at frame 0",
}
LABELS = {"sdd": '"Biker"', "kitti": "Van", "dut ped": "ped", "dut veh": "veh"}


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    """Name, reader, folder, file, number of a line of it, a number on that line."""
    reader, sample, name, line, number = SOURCES[request.param]
    folder = sample.sample(tmp_path)
    return request.param, reader, folder, folder / name, line, number


def change_line(path, number, change):
    lines = path.read_text().splitlines()
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines))


def complaint(reader, folder):
    with pytest.raises(InputError) as caught:
        list(reader.read(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_sample_is_good(source):
    _, reader, folder, *_ = source
    assert all(len(scene) for scene in reader.read(folder))


def test_nothing_there(source):
    _, reader, folder, *_ = source
    assert "none" in complaint(reader, folder / "none")
    (folder / "empty").mkdir()
    assert "empty" in complaint(reader, folder / "empty")


def test_an_empty_file(source):
    _, reader, folder, file, *_ = source
    file.write_text("")
    assert str(file) in complaint(reader, folder)


@pytest.mark.parametrize("value", ["nan", "inf", "x1", '""'])
def test_no_number(source, value):
    _, reader, folder, file, line, number = source
    change_line(file, line, lambda text: text[::-1].replace(number[::-1], value[::-1], 1)[::-1])
    assert f"{file}: line {line}: " in complaint(reader, folder)


@pytest.mark.parametrize("extra", ["7 7", "7,7"])
def test_another_number_of_columns(source, extra):
    _, reader, folder, file, line, _ = source
    change_line(file, line, lambda text: f"{text} {extra}")
    assert f"{file}: line {line}: " in complaint(reader, folder)


def test_a_missing_column(source):
    name, reader, folder, file, line, _ = source
    if file.suffix == ".csv":
        change_line(file, 1, lambda text: text.replace("x", "z", 1))
        line = 1
    else:
        change_line(file, line, lambda text: text.split(maxsplit=1)[1])
    assert f"{file}: line {line}: " in complaint(reader, folder), name


@pytest.mark.parametrize("name", REPEATS)
def test_a_repeated_row(tmp_path, name):
    reader, sample, path, line, _ = SOURCES[name]
    folder = sample.sample(tmp_path)
    lines = (folder / path).read_text().splitlines()
    (folder / path).write_text("\n".join([*lines, lines[line - 1]]))
    message = complaint(reader, folder)
    assert f"{folder / path}: line {len(lines) + 1}: " in message
    assert REPEATS[name].split(" for ")[0] in message


@pytest.mark.parametrize("name", LABELS)
def test_an_unknown_label(tmp_path, name):
    reader, sample, path, line, _ = SOURCES[name]
    folder = sample.sample(tmp_path)
    change_line(folder / path, line, lambda text: text.replace(LABELS[name], "Dragon"))
    assert f"{folder / path}: line {line}: unknown label 'Dragon'" in complaint(reader, folder)
