"""The figures of docs/reliability.md from what benchmarks/soak.py measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract import UNTRAINED
from pages import table

from trajpred.figures import BLUE, GREY, PAGE_WIDTH_IN, VERMILLION, new_figure, save, style

Found = Mapping[str, Any]
KINDS = {
    "all": "all",
    "sound": "without a fault",
    "at fault": "with a fault",
    "thousands": "with 5000 objects",
}


def tables(found: Found) -> dict[str, str]:
    """By the name of their place in the page."""
    return {
        "soak": summary(found),
        "soak latency": latency_table(found),
        "soak counts": counts_table(found),
        "soak faults": faults_line(found["messages_by_fault"]),
    }


def summary(found: Found) -> str:
    """What was run on what, and whether it was sound."""
    asked, machine = found["asked_for"], found["machine"]
    by_model = found["answers_of_the_model"] / max(1, found["objects"])
    rows = [
        ("machine", f"{machine['processor']}, {machine['cores']} cores"),
        ("transport", "Fast DDS with a segment of 64 MiB"),
        (
            "lasted",
            f"{found['seconds'] / 60:.1f} minutes, {found['sent'] / found['seconds']:.1f} messages a second: "
            f"due {asked['rate']:g} times a second, but for {found['silent_s']:.0f} s of silence in faults",
        ),
        ("objects in a message without a fault", str(asked["objects"])),
        ("messages sent", str(found["sent"])),
        ("skipped for a newer one of the same burst", str(found["skipped_in_bursts"])),
        ("received", str(found["received"])),
        ("answered", str(found["answered"])),
        ("damaged, and counted as rejected", str(found["damaged"])),
        ("neither answered nor counted", str(len(found["without_an_answer"]))),
        ("answers that break a promise", str(len(found["promises_broken"]))),
        ("objects in the answers", f"{found['objects']}, {by_model:.1%} of them by the model"),
        ("counted otherwise than sent", ", ".join(found["miscounted"]) or "nothing"),
        (
            "resident memory of the node",
            f"{found['mib_settled']:.0f} MiB after {found['settled_after_s'] / 60:.1f} minutes, at most "
            f"{found['mib_max']:.0f} afterwards, {found['mib_at_the_end']:.0f} at the end",
        ),
        (
            "growth of memory after that",
            f"{found['bytes_with_every_message']:.0f} bytes with every message",
        ),
        ("crashes, tracebacks", f"{int(found['crashed'])}, {found['tracebacks']}"),
        ("a subscriber was stopped for 10 s", f"{found['subscriber_stops']} times"),
    ]
    return table(["", ""], rows)


def latency_table(found: Found) -> str:
    """As the publisher sees it, and as the node says."""
    rows = []
    for kind, words in KINDS.items():
        seen, said = found["latency_ms"][kind], found["processing_ms"][kind]
        if seen["count"]:
            times = (f"{part[name]:.1f}" for part in (seen, said) for name in ("p50", "p99", "max"))
            rows.append([words, str(seen["count"]), *times])
    header = [
        *("messages", "answered", "question to answer p50, ms", "p99", "max"),
        *("the node's processing time p50, ms", "p99", "max"),
    ]
    return table(header, rows)


def counts_table(found: Found) -> str:
    """What the diagnostics say at the end, beside what was sent."""
    rows = (
        [name, str(counted), f"at most {sent}" if name == UNTRAINED else str(sent)]
        for name, (counted, sent) in found["counted_and_sent"].items()
    )
    return table(["in the diagnostics", "counted", "sent"], rows)


def faults_line(messages: Found) -> str:
    """How many messages each fault befell."""
    return ", ".join(f"{name} {messages[name]}" for name in sorted(messages)) + "."


def picture(found: Found, out: Path) -> None:
    """Memory and latency over time."""
    figure = new_figure(PAGE_WIDTH_IN, 3.4)
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [row["s"] / 60 for row in found["memory"]]
    above.plot(minutes, [row["mib"] for row in found["memory"]], color=BLUE, linewidth=1.2)
    above.set_ylim(bottom=0)
    style(above, "", "resident memory, MiB")
    answered = [row for row in found["windows_ms"] if row["count"]]
    minutes = [row["s"] / 60 for row in answered]
    for name, colour in (("max", GREY), ("p99", VERMILLION), ("p50", BLUE)):
        below.plot(minutes, [row[name] for row in answered], color=colour, linewidth=1.0, label=name)
    below.set_yscale("log")
    below.set_ylim(top=10 * max(row["max"] for row in answered))  # room for the legend
    style(below, "minutes", "question to answer, ms")
    below.legend(fontsize=8, frameon=False, ncols=3, loc="upper right")
    save(figure, out)
