"""The tables of docs/performance.md from what benchmarks/latency.py measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages import table

Found = Mapping[str, Any]
PARTS = {
    "store": "store",
    "features": "features",
    "neighbours": "neighbour search",
    "network": "network",
    "encoder": "of it encoder",
    "decoder": "of it decoder",
    "after": "post-processing",
    "rest": "rest",
}


def tables(found: Found) -> dict[str, str]:
    """By the name of their place in the page."""
    return {
        "machine": machine_line(found),
        "step": step_table(found["agents"]),
        "parts": parts_table(found["agents"]),
        "floor": floor_table(found["agents"], found["machine"]),
        "history": history_table(found["history"]),
        "backends": backends_table(found["backends"]),
    }


def machine_line(found: Found) -> str:
    """What it was measured on, and with, and how fast that is."""
    machine, model = found["machine"], found["model"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "numpy", "numba", "onnxruntime"))
    return (
        f"{machine['processor']}, {machine['cores']} cores, of which one is used; {versions}. Model: "
        f"{model['name']}, {model['encoder']}, {model['modes']} paths of {model['steps']} steps, up to "
        f"{model['neighbours']} neighbours. Measured in the same run, with one thread: "
        f"{machine['multiply_per_s'] / 1e9:.0f} billion operations a second in matrix products, "
        f"{machine['copy_bytes_per_s'] / 1e9:.1f} GB/s in copies."
    )


def step_table(agents: Found) -> str:
    """Whole steps, beside the floor, and per agent."""
    rows = []
    for count, one in agents.items():
        step = one["step_ms"]
        others = sorted(other["step_ms"]["p50"] for other in one["rounds"])
        rows.append(
            [
                *(str(count), *(f"{step[name]:.2f}" for name in ("p50", "p99", "min"))),
                f"{others[0]:.2f} to {others[-1]:.2f}",
                *(f"{one['per_agent_us']:.1f}", f"{one['floor_ms']:.2f}", f"{one['step_to_floor']:.1f}"),
            ]
        )
    header = [
        "agents",
        "p50, ms",
        "p99",
        "min",
        "p50 in all rounds",
        "p50 per agent, µs",
        "floor, ms",
        "p50 / floor",
    ]
    return table(header, rows)


def parts_table(agents: Found) -> str:
    """Median and 99th percentile by part, ms."""

    def words(part: Found) -> str:
        return f"{part['p50']:.3f} / {part['p99']:.3f}"

    rows = ([str(count), *(words(one["parts_ms"][part]) for part in PARTS)] for count, one in agents.items())
    return table(["agents", *PARTS.values()], rows)


def floor_table(agents: Found, rates: Found) -> str:
    """What the floor is made of."""
    rows = (
        [
            *(str(count), f"{one['operations'] / 1e6:.2f}"),
            f"{1e3 * one['operations'] / rates['multiply_per_s']:.3f}",
            f"{one['bytes'] / 1e6:.2f}",
            f"{1e3 * one['bytes'] / rates['copy_bytes_per_s']:.3f}",
            *(f"{one['floor_ms']:.3f}", f"{one['products_alone_ms']:.3f}"),
        ]
        for count, one in agents.items()
    )
    header = [
        *("agents", "operations, million", "take, ms", "bytes, million", "take, ms", "floor, ms"),
        "the same products each alone, ms",
    ]
    return table(header, rows)


def history_table(history: Found) -> str:
    """Streaming beside encoding all again, by the length of the history."""
    rows = (
        [
            str(length),
            f"{one['streaming_ms']['p50']:.2f}",
            f"{one['again_ms']['p50']:.2f}",
            f"{one['again_network_ms']['p50']:.2f}",
            f"{one['again_ms']['p50'] / one['streaming_ms']['p50']:.1f}",
            f"{one['largest_difference_m']:.1g}",
        ]
        for length, one in history["lengths"].items()
    )
    header = [
        *("observations seen", f"streaming, ms ({history['agents']} agents)", "all encoded again, ms"),
        *("of it the network", "times as long", "paths differ by, m*"),
    ]
    return table(header, rows)


def backends_table(backends: Found) -> str:
    """The network's call alone; and what could not be measured."""
    lines = []
    if agents := backends.get("agents"):
        names = ("onnxruntime", "torch", "torch.compile")
        rows = []
        for count, by_threads in agents.items():
            for threads, found in by_threads.items():
                cells = (
                    f"{found[name]['ms']['p50']:.2f} / {found[name]['ms']['p99']:.2f}"
                    if name in found
                    else ""
                    for name in names
                )
                rows.append([str(count), str(threads), *cells])
        lines.append(table(["agents", "threads", *(f"{name}, p50 / p99 ms" for name in names)], rows))
        lines.append(f"\nModel: {backends['model']}.")
    lines += [f"\nNot measured: {reason}" for reason in backends["skipped"]]
    return "\n".join(lines)
