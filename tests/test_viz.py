"""Pictures: what is drawn where, with which numbers, and that texts keep clear of each other."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from tests.test_moments import street
from trajpred import viz
from trajpred.cases import pick_cases
from trajpred.config import PredictorConfig, Protocol
from trajpred.errors import InputError, MissingExtraError
from trajpred.evaluate import make_predictor
from trajpred.figures import DPI
from trajpred.lanes import Lanes, Line
from trajpred.types import Label
from trajpred.viz import Case, draw_ablation, draw_predictions, draw_reliability
from trajpred.windows import DataSource

pytest.importorskip("matplotlib", reason="pictures need the extra viz")

# matplotlib reports a layout or a text that it could not place as a UserWarning.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")

LONG = "a/very/long/name $of_a recording$ with\nlines and 0123456789abcdef0123456789abcdef.parquet"


def make_case(name: str = "zara01, track 7", modes: int = 3, **changes) -> Case:
    """Walks along x at 1 m per step from (100, 200); mode k ends up to the left of mode k - 1."""
    steps = np.arange(1, 13.0)
    paths = np.stack([np.stack([100 + steps, 200 + 0.05 * k * steps**2], 1) for k in range(modes)])
    fields = {
        "name": name,
        "label": int(Label.PEDESTRIAN),
        "history": np.stack([np.arange(93.0, 101.0), np.full(8, 200.0)], 1),
        "truth": paths[0] + [0.0, 0.1],
        "paths": paths,
        "probability": np.arange(modes, 0, -1.0) / np.arange(1, modes + 1).sum(),
        "heading": 0.0,
        "size": None,
        "others": [np.array([[103.0, 203.0], [102.0, 203.0]]), np.array([[104.0, 196.0]])],
    }
    return Case(**(fields | changes))


def make_rows() -> dict:
    def row(error: float, decay: float) -> dict:
        norm = 8.0 * decay ** np.arange(12)
        return {
            "min_ade": error,
            "ade_single": 2 * error,
            "min_fde": 1.7 * error,
            "fde_single": 4 * error,
            "spread": {"min_ade": 0.01, "ade_single": 0.0},
            "parameters": 123456,
            "by_history": {
                "observations": list(range(1, 9)),
                "min_ade": [error * (1 + 1 / n) for n in range(1, 9)],
            },
            "gradient": {"steps_back": list(range(12)), "norm": norm.tolist()},
        }

    errors = {"gru": 0.22, "lstm": 0.2, "rnn_tanh": 0.3, "rnn_relu": 0.31, "window_mlp": 0.25}
    return {name: row(error, 0.5) for name, error in errors.items()} | {"bag_of_steps": row(0.4, 1.0)}


BINS = [
    {"low": 0.1, "high": 0.2, "count": 10, "mean_probability": 0.15, "frequency": 0.35},
    {"low": 0.5, "high": 0.6, "count": 30, "mean_probability": 0.5, "frequency": 0.5},
]


def png_size(path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def texts_of(figure) -> list:
    """Every text that is seen in a figure, once its layout is done."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    texts = [*figure.texts, *(text for legend in legends for text in legend.get_texts())]
    for axes in figure.axes:
        own = [child for child in axes.get_children() if isinstance(child, Text)]
        texts += [*own, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def assert_legible(figure) -> None:
    """No text is small, cut off by the edge or covered by another."""
    texts = texts_of(figure)
    boxes = [text.get_window_extent() for text in texts]
    width, height = figure.bbox.size
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 8
        assert min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height, text
    for (one, a), (other, b) in combinations(zip(texts, boxes, strict=True), 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart, f"{one.get_text()!r} covers {other.get_text()!r}"


@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_predictions_have_a_panel_per_case_and_no_text_covers_another(count):
    figure = viz._predictions_figure([make_case()] * count, "What was predicted, and what happened", 3)
    assert len(figure.axes) == count
    assert len(figure.legends) == 1
    assert_legible(figure)


@pytest.mark.parametrize("columns", [1, 4])
def test_predictions_are_legible_in_any_number_of_columns(columns):
    assert_legible(viz._predictions_figure([make_case()] * 2 * columns, "Title", columns))


def test_long_names_and_titles_are_shortened_and_never_read_as_formulas():
    figure = viz._predictions_figure([make_case(LONG)] * 4, " ".join([LONG] * 4), 3)
    assert_legible(figure)
    first_line = figure.axes[0].get_title().splitlines()[0]
    assert "…" in first_line and first_line.endswith("f.parquet")


def test_panels_are_square_in_metres_and_count_from_the_agent():
    axes = viz._predictions_figure([make_case()], "Title", 3).axes[0]
    assert axes.get_aspect() == 1.0
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert right - left == pytest.approx(high - low)
    # history reaches 7 m back, the paths 12 m ahead and 0.05 * 2 * 12^2 = 14.4 m to the left
    assert left < -7.0 and right > 12.0 and low < 0.0 and high > 14.4 and high - low < 30.0
    assert axes.get_xlabel() == "x from the agent [m]"
    assert axes.get_ylabel() == "y from the agent [m]"


def test_outer_panels_carry_the_axis_labels():
    figure = viz._predictions_figure([make_case()] * 4, "Title", 3)
    assert ["[m]" in axes.get_xlabel() for axes in figure.axes] == [False, True, True, True]
    assert ["[m]" in axes.get_ylabel() for axes in figure.axes] == [True, False, False, True]


def test_caption_states_the_error_of_the_most_probable_and_of_the_closest_path():
    # The paths lie (3, 4) m and (0, 1) m from the truth at every step.
    truth = np.zeros((2, 2))
    paths = np.array([[[0.0, 1.0], [0.0, 1.0]], [[3.0, 4.0], [3.0, 4.0]]])
    case = make_case(truth=truth, paths=paths, probability=np.array([0.3, 0.7]))
    caption = viz._predictions_figure([case], "Title", 1).axes[0].get_title()
    assert caption == "zara01, track 7\npedestrian\nADE 5.00 m, best of 2: 1.00 m"


def test_one_path_has_one_error_and_no_other_paths():
    figure = viz._predictions_figure([make_case(modes=1)], "Title", 3)
    assert figure.axes[0].get_title().endswith("ADE 0.10 m")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "most probable path" in labels
    assert not any(label.startswith("other paths") for label in labels)


def test_without_truth_nothing_is_said_about_errors():
    figure = viz._predictions_figure([make_case(truth=None)], "Title", 3)
    assert figure.axes[0].get_title().endswith("future not known")
    assert "what then happened" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_shortest_case_alone_at_standstill():
    still = make_case(
        history=np.array([[5.0, 5.0]]),
        truth=None,
        paths=np.full((2, 1, 2), 5.0),
        probability=np.array([1.0, 0.0]),
        others=[],
    )
    assert_legible(viz._predictions_figure([still], "Title", 3))


def test_the_most_probable_path_is_the_broadest_and_width_falls_with_probability():
    from matplotlib.collections import LineCollection

    case = make_case(modes=3, probability=np.array([0.2, 0.7, 0.1]))
    axes = viz._predictions_figure([case], "Title", 3).axes[0]
    (others,) = [c for c in axes.findobj(LineCollection) if len(c.get_segments()) == 2 and c.zorder == 3]
    (top,) = [line for line in axes.lines if line.get_label() == "most probable path"]
    # lateral ends of modes 0, 1 and 2: 0, 0.05 * 144 and twice that
    ends = [segment[-1, 1] for segment in others.get_segments()]
    widths = others.get_linewidths()
    assert ends == pytest.approx([14.4, 0.0])  # probabilities 0.1 and 0.2
    assert widths[0] < widths[1] < top.get_linewidth()
    assert top.get_ydata()[-1] == pytest.approx(7.2)


def test_of_equally_probable_paths_the_first_is_drawn_and_scored_as_the_most_probable():
    axes = viz._predictions_figure([make_case(probability=np.full(3, 1 / 3))], "Title", 3).axes[0]
    (top,) = [line for line in axes.lines if line.get_label() == "most probable path"]
    assert top.get_ydata()[-1] == 0.0
    assert "ADE 0.10 m" in axes.get_title()


def test_a_known_size_is_drawn_to_scale_along_the_heading():
    from matplotlib.patches import Polygon

    case = make_case(size=np.array([4.0, 2.0]), heading=np.pi / 2)
    axes = viz._predictions_figure([case], "Title", 3).axes[0]
    (outline,) = axes.findobj(Polygon)
    low, high = outline.get_xy().min(axis=0), outline.get_xy().max(axis=0)
    assert high - low == pytest.approx([2.0, 4.0])  # heading along y: the length is upright


def test_neighbours_end_where_others_now_says():
    now = np.array([[101.0, 201.0], [90.0, 200.0], [100.0, 203.0]])
    axes = viz._predictions_figure([make_case(others_now=now)], "Title", 3).axes[0]
    drawn = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 3]
    assert any(np.allclose(points, [[1, 1], [-10, 0], [0, 3]]) for points in drawn)


def test_footprints_of_neighbours_are_drawn_where_they_are():
    from matplotlib.collections import PolyCollection

    outline = np.array([[104.0, 201.0], [104.0, 199.0], [102.0, 199.0], [102.0, 201.0]])
    axes = viz._predictions_figure([make_case(others_outline=[outline])], "Title", 3).axes[0]
    (drawn,) = axes.findobj(PolyCollection)
    corners = drawn.get_paths()[0].vertices  # the agent is at (100, 200)
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([2.0, -1.0], [4.0, 1.0])


def test_a_road_is_drawn_round_the_agent_and_moves_no_limit():
    from matplotlib.collections import LineCollection

    road = Lanes((Line("kerb", np.array([[0.0, 203.0], [1000.0, 203.0]])),))
    bare, axes = (viz._predictions_figure([make_case()], "Title", 3, lanes).axes[0] for lanes in (None, road))
    assert axes.get_xlim() == bare.get_xlim() and axes.get_ylim() == bare.get_ylim()
    lowest = min(axes.findobj(LineCollection), key=lambda lines: lines.zorder)
    assert lowest.get_segments()[0].tolist() == [[-100.0, 3.0], [900.0, 3.0]]


def test_cases_of_a_log_have_the_shapes_that_it_holds():
    predictor = make_predictor("cv", PredictorConfig(baseline_step_s=0.5, baseline_steps=2))
    cars, walkers = (
        pick_cases(
            predictor,
            DataSource("street", (street(),), Protocol(), streamed=True, scored_labels=(label,)),
            "best",
            100,
        )
        for label in (Label.CAR, Label.PEDESTRIAN)
    )
    # of each road user its best moment, by the seconds since the start of the log
    assert all(re.fullmatch(r"track 1 at \d\.\d s", case.name) for case in cars)
    assert all(re.fullmatch(r"track 2 at \d\.\d s", case.name) for case in walkers)
    for case in cars:
        assert case.size is not None and case.size.tolist() == [4.0, 2.0]
        assert len(case.others_outline) == 0  # the size of the pedestrian is not known
    for case in walkers:
        assert case.size is None
        seconds = case.history[-1, 1] + 3.5  # it is at y = -3.5 m + 1 m/s * t, the car at x = 5 m/s * t
        (outline,) = case.others_outline
        np.testing.assert_allclose(outline.mean(axis=0), [5 * seconds, 0.0], atol=1e-9)
        np.testing.assert_allclose(np.ptp(outline, axis=0), [4.0, 2.0], atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": np.zeros((5, 2))},
        {"probability": np.ones(2)},
        {"history": np.zeros((0, 2))},
        {"paths": np.zeros((0, 12, 2))},
        {"size": np.zeros(3)},
        {"paths": np.full((3, 12, 2), np.nan)},
    ],
)
def test_a_case_that_does_not_fit_together_is_refused_by_name(changes):
    with pytest.raises(InputError, match="zara01, track 7"):
        make_case(**changes)


def test_no_case_and_no_column_are_refused(tmp_path):
    with pytest.raises(InputError, match="no case"):
        draw_predictions([], tmp_path / "a.png", "Title")
    with pytest.raises(InputError, match="columns"):
        draw_predictions([make_case()], tmp_path / "a.png", "Title", columns=0)
    assert not list(tmp_path.iterdir())


def test_ablation_has_three_labelled_panels_and_no_text_covers_another():
    figure = viz._ablation_figure(make_rows())
    bars, history, gradient = figure.axes
    assert bars.get_ylabel() == "error [m]"
    assert (history.get_xlabel(), history.get_ylabel()) == ("observations so far [count]", "minADE [m]")
    assert "[steps]" in gradient.get_xlabel() and gradient.get_yscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(make_rows())
    assert_legible(figure)


def test_ablation_bars_state_errors_and_compare_them_with_the_lstm():
    bars = viz._ablation_figure(make_rows()).axes[0]
    assert [bar.get_height() for bar in bars.patches[:3]] == [0.22, 0.2, 0.3]
    captions = [text.get_text() for text in bars.texts]
    # 0.22 / 0.2 = 1.1 and 0.3 / 0.2 = 1.5; twice that for the most probable path, the ratio stays
    assert captions[:3] == ["0.220\n+10%", "0.200", "0.300\n+50%"]
    assert captions[6:9] == ["0.440\n+10%", "0.400", "0.600\n+50%"]


def test_ablation_lines_differ_in_colour_and_marker():
    history = viz._ablation_figure(make_rows()).axes[1]
    assert len({line.get_color() for line in history.lines}) == 6
    assert len({line.get_marker() for line in history.lines}) == 6
    broadest = max(history.lines, key=lambda line: line.get_linewidth())
    assert broadest.get_label() == "lstm"


def test_gradients_are_relative_to_the_last_step_and_vanished_ones_are_left_out():
    rows = make_rows()
    rows["window_mlp"]["gradient"] = {"steps_back": [2, 1, 0, 3], "norm": [0.5, 2.0, 8.0, 0.0]}
    gradient = viz._ablation_figure(rows).axes[2]
    line = gradient.lines[list(rows).index("window_mlp")]
    assert dict(line.get_xydata().tolist()) == {2: 0.0625, 1: 0.25, 0: 1.0}


def test_ablation_without_an_lstm_and_with_many_encoders():
    row = make_rows()["gru"]
    figure = viz._ablation_figure({f"encoder_{i}": row for i in range(8)})
    assert "%" not in "".join(text.get_text() for text in figure.axes[0].texts)
    assert_legible(figure)


def test_ablation_refuses_rows_that_cannot_be_drawn(tmp_path):
    out = tmp_path / "a.png"
    with pytest.raises(InputError, match="no encoder"):
        draw_ablation({}, out)
    with pytest.raises(InputError, match="encoder gru: ade_single, gradient missing"):
        draw_ablation({"gru": {"min_ade": 1.0, "parameters": 1, "by_history": {}}}, out)
    for gradient in ({"steps_back": [0], "norm": [0.0]}, {"steps_back": [1], "norm": [1.0]}):
        with pytest.raises(InputError, match="encoder lstm: gradient"):
            draw_ablation({"lstm": make_rows()["lstm"] | {"gradient": gradient}}, out)
    assert not list(tmp_path.iterdir())


def test_reliability_states_the_error_and_labels_its_axes():
    figure = viz._reliability_figure({"all": BINS})
    diagram, histogram = figure.axes
    # (10 * |0.35 - 0.15| + 30 * 0) / 40
    assert diagram.get_title(loc="left") == "all\nexpected calibration error 0.050"
    assert diagram.get_ylabel() == "share that came closest [–]"
    assert histogram.get_xlabel() == "probability of a path [–]"
    assert histogram.get_ylabel() == "paths [count]"
    assert diagram.lines[1].get_xydata().tolist() == [[0.15, 0.35], [0.5, 0.5]]
    assert [bar.get_height() for bar in histogram.patches] == [10, 30]
    assert_legible(figure)


def test_reliability_of_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no reliability bin"):
        draw_reliability({}, tmp_path / "a.png")


def test_files_have_the_size_of_the_page(tmp_path):
    draw_predictions([make_case()] * 3, tmp_path / "predictions.png", "Title")
    draw_ablation(make_rows(), tmp_path / "ablation.png")
    draw_reliability({"all": BINS}, tmp_path / "reliability.png")
    assert png_size(tmp_path / "predictions.png")[0] == 7.2 * DPI
    assert png_size(tmp_path / "ablation.png") == (7.2 * DPI, 6.2 * DPI)
    assert png_size(tmp_path / "reliability.png") == (4.2 * DPI, 5.6 * DPI)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("A.PNG", b"\x89PNG")])
def test_the_suffix_chooses_the_format(tmp_path, name, start):
    out = tmp_path / name
    out.write_bytes(b"old")
    draw_reliability({"all": BINS}, out)
    assert out.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        draw_reliability({"all": BINS}, tmp_path / name)


def test_a_file_that_cannot_be_written_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        draw_reliability({"all": BINS}, tmp_path / "missing" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=r"folder\.png: cannot be written"):
        draw_reliability({"all": BINS}, tmp_path / "folder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_write_that_fails_half_way_leaves_the_old_picture(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def full_disk(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    out = tmp_path / "a.png"
    out.write_bytes(b"old")
    with pytest.raises(InputError, match="No space left"):
        draw_reliability({"all": BINS}, out)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"\.\[viz\]"):
        draw_reliability({"all": BINS}, tmp_path / "a.png")


def test_importing_viz_does_not_import_matplotlib_and_drawing_does_not_import_pyplot(tmp_path):
    code = f"""
import sys
from pathlib import Path
from trajpred.viz import draw_reliability
assert "matplotlib" not in sys.modules
draw_reliability({{"all": {BINS!r}}}, Path({str(tmp_path / "a.png")!r}))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
