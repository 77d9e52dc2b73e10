"""Animations: which tick is shown when, what is drawn where, and files that are whole or not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.test_moments import CAR, LAST, at, street, write_log
from tests.test_viz import assert_legible
from trajpred import animate
from trajpred.animate import Film, draw_film
from trajpred.cli import main
from trajpred.errors import InputError, MissingExtraError
from trajpred.evaluate import make_predictor
from trajpred.figures import new_figure
from trajpred.lanes import Area, Lanes, Line
from trajpred.looks import LOOKS
from trajpred.types import Label, Scene

pytest.importorskip("matplotlib", reason="pictures need the extra viz")

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

ROAD = Lanes(
    (Line("kerb", np.array([[-50.0, 4.0], [50.0, 4.0]])), Line("a new kind", np.zeros((2, 2)))),
    (Area("road", np.array([[-50.0, -4.0], [50.0, -4.0], [50.0, 4.0], [-50.0, 4.0]])),),
)


def draw(moment, film=None, lanes=None, several=False, title="cv on street"):
    """The axes with one moment drawn on them."""
    film = film or Film.of(street())
    figure = new_figure(7.2, animate._height_in(film))
    axes = animate._map(figure, film, title, lanes, several)
    next(animate._pictures(axes, film, [moment]))
    return axes


def with_paths(moment, paths, probability):
    shape = np.shape(probability)
    return replace(
        moment, paths=np.asarray(paths), probability=np.array(probability), mode_valid=np.ones(shape, bool)
    )


@pytest.mark.parametrize(
    ("fps", "ticks", "fps_found"),
    [(10, range(31), 10), (50, range(31), 10), (5, range(0, 31, 2), 5), (4, [0, 2, 5, 7, 10], 4)],
)
def test_a_picture_shows_the_last_tick_before_its_time(fps, ticks, fps_found):
    film = Film.of(street(start_ns=7), fps=fps)
    assert film.fps == pytest.approx(fps_found)
    assert film.ticks[: len(ticks)].tolist() == list(ticks)
    assert (film.shown == 1).all()
    assert film.start_ns == 7


def test_a_gap_takes_as_long_as_it_took():
    scene = street()
    film = Film.of(scene.take((scene.stamp_ns < 1_000_000_000) | (scene.stamp_ns >= 2_000_000_000)))
    # ticks 0 to 9 up to 0.9 s, then tick 10 at 2 s: tick 9 is shown from 0.9 s to 1.9 s
    assert film.shown.tolist() == [1] * 9 + [11] + [1] * 11
    assert film.shown.sum() == 31


def test_the_part_that_is_asked_for_is_counted_from_the_start():
    film = Film.of(street(), from_s=1.0, to_s=2.0)
    assert film.ticks.tolist() == list(range(10, 21))
    assert film.labels == (Label.CAR, Label.PEDESTRIAN)
    # the car goes from x = 5 m to 10 m, the pedestrian from y = -2.5 m to -1.5 m, with 4 m all round
    assert (film.low <= [1.0, -6.5]).all() and (film.high >= [14.0, 4.0]).all()
    width, height = film.high - film.low
    assert width == pytest.approx(13.125) and height == pytest.approx(10.5)  # 0.8 times as high as wide
    only = Film.of(street(), from_s=2.6)
    assert only.labels == (Label.CAR,)
    assert Film.of(street(), from_s=3.0).ticks.tolist() == [30]


def test_by_default_twenty_seconds_are_shown():
    scene = street()
    slow = replace(scene, stamp_ns=scene.stamp_ns * 10)  # 1 Hz, 30 s
    assert Film.of(slow).ticks.tolist() == list(range(21))
    assert Film.of(slow, from_s=5.0).ticks.tolist() == list(range(5, 26))
    assert Film.of(slow, to_s=30.0).ticks.tolist() == list(range(31))


def test_what_cannot_be_shown_is_refused():
    for fps in (0.0, -1.0, 51.0, np.nan):
        with pytest.raises(InputError, match="fps is"):
            Film.of(street(), fps=fps)
    with pytest.raises(InputError, match=r"it lasts 3\.0 s"):
        Film.of(street(), from_s=5.0)
    ticks = np.arange(3001)
    long = Scene.build("long", ticks * 100_000_000, np.repeat(CAR, 3001), np.zeros((3001, 2)))
    with pytest.raises(InputError, match="3001 pictures"):
        Film.of(long, to_s=301.0)
    assert len(Film.of(long, to_s=301.0, fps=5.0).ticks) == 1501


def test_footprints_are_drawn_to_scale_at_the_pose_and_dots_where_no_size_is_known():
    from matplotlib.collections import LineCollection, PolyCollection

    axes = draw(at(street(), 20))
    (footprints,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    (outline,) = footprints.get_paths()
    # a car of 4 m by 2 m at (10, 0), along x
    corners = {(12.0, 1.0), (12.0, -1.0), (8.0, 1.0), (8.0, -1.0)}
    assert {tuple(np.round(corner, 6)) for corner in outline.vertices} == corners
    places = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata())}
    assert places["s"] == [[10.0, 0.0]]
    assert places["o"] == [[10.0, pytest.approx(-1.5)]]
    fronts = [c for c in axes.collections if isinstance(c, LineCollection)][-1].get_segments()
    ahead = [end - start for start, end in fronts]
    assert ahead[0] == pytest.approx([2.0, 0.0])  # to the front of the car
    assert ahead[1][0] == pytest.approx(0.0, abs=1e-9) and ahead[1][1] > 0  # the way the pedestrian walks


def test_classes_differ_in_marker_and_all_have_one():
    assert set(LOOKS) == set(Label)
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_history_truth_and_paths_are_where_they_were():
    axes = draw(at(street(), 20))
    rest, top, futures, pasts = (c.get_segments() for c in axes.collections[:4])
    assert rest == []
    np.testing.assert_allclose(top[0][:, 0], 10 + 2.5 * np.arange(17), atol=1e-6)
    np.testing.assert_allclose(futures[0], [[10, 0], [12.5, 0], [15, 0]], atol=1e-9)
    np.testing.assert_allclose(pasts[0][:, 0], np.arange(11.0), atol=1e-9)


def test_paths_are_wider_and_denser_the_more_probable_they_are():
    moment = at(street(), 0)
    paths = np.arange(3.0).reshape(1, 3, 1, 1) * np.ones((1, 3, 16, 2))
    axes = draw(with_paths(moment, paths, [[0.2, 0.7, 0.1]]), several=True)
    rest, top = axes.collections[:2]
    assert [segment[-1, 0] for segment in rest.get_segments()] == [2.0, 0.0]
    assert [segment[-1, 0] for segment in top.get_segments()] == [1.0]
    widths, alphas = rest.get_linewidths(), rest.get_colors()[:, 3]
    assert widths[0] < widths[1] < top.get_linewidths()[0]
    assert alphas[0] < alphas[1] < top.get_colors()[0, 3]
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == [
        "car",
        "pedestrian",
        "observed so far",
        "most probable path",
        "other paths",
        "what then happened",
    ]


def test_limits_stay_and_nothing_of_the_last_picture_remains():
    film = Film.of(street())
    figure = new_figure(7.2, animate._height_in(film))
    axes = animate._map(figure, film, "cv on street", None, several=False)
    before = (*axes.get_xlim(), *axes.get_ylim(), *axes.get_position().bounds)
    first, last = at(street(), 0), at(street(), LAST)
    counts = []
    for _ in animate._pictures(axes, replace(film, shown=np.ones(2, int)), [first, last]):
        figure.draw_without_rendering()
        assert (*axes.get_xlim(), *axes.get_ylim(), *axes.get_position().bounds) == before
        counts.append(len(axes.get_children()))
    assert counts[0] == counts[1]  # each has a car alone
    assert axes.get_title(loc="right") == "3.00 s"


def test_a_road_is_drawn_below_and_moves_no_limit():
    film = Film.of(street())
    axes = draw(at(street(), 0), film, ROAD)
    areas, lines = axes.collections[:2]
    assert areas.get_paths()[0].vertices.min(axis=0).tolist() == [-50.0, -4.0]
    np.testing.assert_array_equal(lines.get_segments()[0], ROAD.lines[0].points)
    assert max(areas.zorder, lines.zorder) < min(c.zorder for c in axes.collections[2:])
    assert axes.get_xlim() == (film.low[0], film.high[0])


@pytest.mark.parametrize("several", [False, True])
def test_no_text_covers_another(several):
    title = "a/very/long/name $of_a recording$ with\nlines and " * 3
    assert_legible(draw(at(street(start_ns=10**18), LAST), title=title, several=several).figure)
    busy = replace(Film.of(street()), labels=tuple(Label))
    assert_legible(draw(at(street(), 0), busy, several=several).figure)


def test_a_gif_shows_every_tick_for_its_time_and_the_car_moves(tmp_path):
    from PIL import Image

    out, scene = tmp_path / "a.gif", street()
    out.write_bytes(b"old")
    film = Film.of(scene, to_s=2.0, fps=5.0)
    draw_film(make_predictor("cv"), scene, film, out, "cv on street")
    assert list(tmp_path.iterdir()) == [out]
    figure = new_figure(7.2, animate._height_in(film))
    figure.set_dpi(animate.DPI)
    axes = animate._map(figure, film, "cv on street", None, several=False)
    with Image.open(out) as gif:
        assert gif.n_frames == 11
        assert gif.info["loop"] == 0
        for number in range(gif.n_frames):
            gif.seek(number)
            assert gif.info["duration"] == 200
            picture = np.asarray(gif.convert("RGB"))
            assert tuple(picture[0, 0]) == (255, 255, 255)
            # the marker of the car, (230, 159, 0), is at x = 5 m/s * 0.2 s * number; row 0 is the top one
            x, y = axes.transData.transform((1.0 * number, 0.0))
            there = picture[len(picture) - 1 - int(y), int(x)].astype(int)
            assert np.abs(there - [230, 159, 0]).max() < 12, (number, there)


def test_a_film_that_fails_half_way_leaves_the_old_one(tmp_path):
    class Broken(type(make_predictor("cv"))):
        def step(self, frame):
            if frame.stamp_ns > 1_000_000_000:
                raise InputError("no more")
            return super().step(frame)

    out = tmp_path / "a.gif"
    out.write_bytes(b"old")
    with pytest.raises(InputError, match="no more"):
        draw_film(Broken(None), street(), Film.of(street()), out, "title")
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(InputError, match=r"a\.gif: cannot be written"):
        draw_film(
            make_predictor("cv"), street(), Film.of(street(), 0, 0), tmp_path / "missing" / "a.gif", "title"
        )


def test_mp4_without_ffmpeg_names_it_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"a\.mp4.*ffmpeg.*\.gif"):
        draw_film(make_predictor("cv"), street(), Film.of(street()), tmp_path / "a.mp4", "title")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_mp4_by_ffmpeg(tmp_path):
    out = tmp_path / "a.mp4"
    draw_film(make_predictor("cv"), street(), Film.of(street(), to_s=1.0), out, "title")
    assert out.read_bytes()[4:8] == b"ftyp"
    assert list(tmp_path.iterdir()) == [out]


def test_an_ffmpeg_that_fails_is_one_line_and_leaves_nothing(tmp_path):
    folder, log = tmp_path / "bin", tmp_path / "street.mcap"
    folder.mkdir()
    (folder / "ffmpeg").write_text("#!/bin/sh\nexit 1\n")
    (folder / "ffmpeg").chmod(0o755)
    write_log(log, street())
    plot = ["plot", "--model", "cv", "--data", str(log), "--out", str(tmp_path / "a.mp4"), "--to-s", "0.5"]
    # its own process, since a pipe that is closed would end it
    done = subprocess.run(
        [sys.executable, "-m", "trajpred.cli", *plot],
        env=os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "a.mp4: cannot be written" in done.stderr
    assert sorted(tmp_path.iterdir()) == [folder, log]


def test_another_suffix_and_a_missing_matplotlib(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"\.gif, \.mp4"):
        draw_film(make_predictor("cv"), street(), Film.of(street()), tmp_path / "a.avi", "title")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"\.\[viz\]"):
        draw_film(make_predictor("cv"), street(), Film.of(street()), tmp_path / "a.gif", "title")


def test_importing_it_does_not_import_matplotlib_nor_drawing_pyplot(tmp_path):
    code = f"""
import sys
from pathlib import Path
from tests.test_moments import street
from trajpred.animate import Film, draw_film
from trajpred.evaluate import make_predictor
assert "matplotlib" not in sys.modules
draw_film(make_predictor("cv"), street(), Film.of(street(), to_s=0.1), Path({str(tmp_path / "a.gif")!r}), "")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plot_draws_a_log_with_the_road_beside_it(tmp_path, capsys):
    from PIL import Image

    log, out = tmp_path / "street.mcap", tmp_path / "a.gif"
    write_log(log, street())
    arguments = ["plot", "--model", "cv", "--data", str(log), "--out", str(out), "--to-s", "0.5"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as gif:
        assert gif.n_frames == 6
        bare = np.asarray(gif.convert("RGB"))
    ROAD.write(tmp_path / "street.lanes.geojson")
    assert main(arguments) == 0
    with Image.open(out) as gif:
        assert (np.asarray(gif.convert("RGB")) != bare).any(axis=-1).mean() > 0.2  # the road is grey
    assert main([*arguments, "--lanes", str(tmp_path / "none.geojson")]) == 2
    assert "none.geojson" in capsys.readouterr().err
    assert main([*arguments, "--scene", "paris"]) == 2
    assert "paris" in capsys.readouterr().err
