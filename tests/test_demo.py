"""The demo without ROS, shortened: every file is there and says what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from data_tools.simulate.record import Recording
from trajpred import demo as module
from trajpred.demo import demo, summary


def test_everything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("JUNCTION_S", 6.0), ("CUT_IN_S", 2.0), ("FILM_S", 0.4)):
        monkeypatch.setattr(module, name, seconds)
    console = Console(record=True, width=120)
    shown = demo(tmp_path, console=console)
    for scenario in ("junction", "cyclist_cut_in"):
        assert Recording.is_one(tmp_path / scenario)
    assert (tmp_path / "predictions.mcap").stat().st_size > 10_000
    assert (tmp_path / "junction.gif").read_bytes().startswith(b"GIF8")
    assert "simulate" not in (tmp_path / "report.html").read_text().split("</title>")[0]
    assert shown.replayed.messages > 50
    assert shown.replayed.sources.keys() <= {"model", "untrained_class", "too_new"}
    console.print(summary(shown, 1.2, [2.0] * 99 + [8.0]))
    said = console.export_text()
    for words in (
        "a busy junction",
        "constant velocity",
        "Kalman filter",
        "from bytes to bytes",
        "1.2 s earlier",
    ):
        assert words in said
    assert "its whole callback: p50 2.0 ms, p99 2.1 ms" in said  # 0.01 of the way from 2 to 8


def test_without_a_planner_nothing_is_said_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("JUNCTION_S", 3.0), ("CUT_IN_S", 1.0), ("FILM_S", 0.2)):
        monkeypatch.setattr(module, name, seconds)
    table = summary(demo(tmp_path, console=Console(quiet=True)))
    assert "planner" not in str(table.caption)
