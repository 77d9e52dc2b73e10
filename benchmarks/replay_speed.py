"""`trajpred replay` of a simulated hour: messages per second and memory; and reading it with rosbags alone.

    python benchmarks/replay_speed.py --json benchmarks/results/replay_speed.json

A minute of simulated traffic of `--objects` objects at 10 Hz, as a tracker sees it, is written again and
again with fresh ids and later stamps, as MCAP by the project's own writer. `trajpred replay` of it runs as
the command that a user types, without markers, on one core, its start included and its memory watched from
outside; then once more with constant velocity in the place of the network. The first `--read-minutes` of the
same log are read into message objects with rosbags alone, on the same core, and replayed once more with a
clock on each part, as many messages at once as replay takes. The core may be shared with other machines: the
figures are medians of the rounds, a ratio is taken within each round, and processor time stands beside the
clock's. An hour takes some 4 GB for the log and 30 GB for the answers; `--minutes` makes it shorter. The
result fills docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pages import fill, table
from rosbags.rosbag2 import Reader
from rounds import machine
from town import marked, town

from data_tools.convert import TOPIC
from trajpred.bags import LogWriter, read_raw, typestore
from trajpred.config import DEFAULT_MODEL, OutputConfig
from trajpred.evaluate import make_predictor
from trajpred.memory import keep_freed_memory
from trajpred.messages import PREDICTED, TRACKED, decode_tracked, encode_predicted, encode_tracked
from trajpred.replay import AT_ONCE, OUTPUT_TOPIC

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/replay_speed.json"
RATE_HZ, MINUTE_S = 10.0, 60
WATCH_S = 0.2
CLOCKS = ("wall_s", "processor_s")
BYTES = 9_600
"""Of one object in the log and its answer, six paths of 21 poses, about."""
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
WARM_UP = 3 * AT_ONCE
PARTS = {
    "read": "reading",
    "decode": "bytes to arrays",
    "network": "the network's call",
    "rest of the step": "the rest of `Predictor.step`",
    "encode": "arrays to bytes",
    "write": "writing",
}


def write_log(path: Path, objects: int, minutes: int) -> int:
    """How many messages; each minute is the first one again, with ids of its own."""
    frames = town(objects, MINUTE_S - 1 / RATE_HZ, RATE_HZ)
    with LogWriter(path, overwrite=True) as log:
        log.add_topic(TOPIC, TRACKED)
        for minute in range(minutes):
            for frame in frames:
                stamp_ns = frame.stamp_ns + minute * MINUTE_S * 10**9
                later = replace(frame, stamp_ns=stamp_ns, ids=marked(frame.ids, 1, minute))
                log.write(TOPIC, stamp_ns, encode_tracked(later))
    return minutes * len(frames)


def resident_mib(pid: int) -> tuple[float, float]:
    """Resident memory of a process: now, and at most so far; zeros when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    found = dict(line.split(":", 1) for line in lines)
    now, most = (int(found.get(name, "0 kB").split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def timed_replay(log: Path, out: Path, model: str, core: int) -> dict[str, Any]:
    """The command from start to end: s by the clock and by the processor, and its memory."""
    command = [Path(sys.executable).parent / "trajpred", "replay", log, "--out", out, "--model", model]
    command += ["--markers", "false"]
    before = os.sched_getaffinity(0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.sched_setaffinity(0, {core})  # the child inherits it
    begun = time.perf_counter()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    os.sched_setaffinity(0, before)
    memory, peak = [], 0.0
    while child.poll() is None:
        now, most = resident_mib(child.pid)
        if most:
            memory.append((time.perf_counter() - begun, now))
            peak = max(peak, most)
        time.sleep(WATCH_S)
    wall_s = time.perf_counter() - begun
    if child.returncode:
        raise SystemExit(f"trajpred replay ended with exit code {child.returncode}")
    later = resource.getrusage(resource.RUSAGE_CHILDREN)
    at = [min(int(share * len(memory)), len(memory) - 1) for share in SHARES]
    return {
        "wall_s": wall_s,
        "processor_s": later.ru_utime + later.ru_stime - used.ru_utime - used.ru_stime,
        "peak_mib": peak,
        "mib_at": {f"{share:g}": memory[i][1] for share, i in zip(SHARES, at, strict=True)},
    }


def timed_read(log: Path, messages: int, core: int) -> dict[str, Any]:
    """So many messages into message objects, with rosbags alone."""
    before, store = os.sched_getaffinity(0), typestore()
    os.sched_setaffinity(0, {core})
    used, begun = time.process_time(), time.perf_counter()
    with Reader(log) as reader:
        for connection, _, raw in islice(reader.messages(), messages):
            store.deserialize_cdr(raw, connection.msgtype)
    wall_s, processor_s = time.perf_counter() - begun, time.process_time() - used
    os.sched_setaffinity(0, before)
    return {"wall_s": wall_s, "processor_s": processor_s}


def timed_parts(log: Path, out: Path, messages: int, model: str, core: int) -> dict[str, Any]:
    """Processor time of each part of replay, mean ms a message, of so many messages after the first few."""
    spent: Counter[str] = Counter()

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            begun = time.thread_time()
            answer = function(*given)
            spent[part] += time.thread_time() - begun
            return answer

        return call

    before, predictor, output = os.sched_getaffinity(0), make_predictor(model), OutputConfig()
    predictor.model.run = timed("network", predictor.model.run)
    read = timed("read", partial(next, read_raw(log)))
    decode, step = timed("decode", decode_tracked), timed("step", predictor.step)
    encode = timed("encode", encode_predicted)
    os.sched_setaffinity(0, {core})
    with LogWriter(out, overwrite=True) as writer:
        writer.add_topic(OUTPUT_TOPIC, PREDICTED)
        write = timed("write", writer.write)
        for number in range(0, messages, AT_ONCE):
            if number == WARM_UP:
                spent.clear()
            batch = [read() for _ in range(min(AT_ONCE, messages - number))]
            asked = [decode(raw) for _, _, raw in batch]
            predictions = [step(frame) for frame, _ in asked]
            answers = [encode(asked[i][1], prediction, output) for i, prediction in enumerate(predictions)]
            for (_, received_ns, _), answer in zip(batch, answers, strict=True):
                write(OUTPUT_TOPIC, received_ns, answer)
    os.sched_setaffinity(0, before)
    spent["rest of the step"] = spent["step"] - spent["network"]
    ms = {part: 1e3 * spent[part] / (messages - WARM_UP) for part in PARTS}
    return {"processor_ms": ms}


def tables(found: dict[str, Any]) -> dict[str, str]:
    """For docs/performance.md."""
    ours, parts, machine = found["replay"], found["parts"]["processor_ms"], found["machine"]
    read_ms = parts["read"] + parts["decode"]
    rosbags_ms = 1e3 * found["rosbags"]["processor_s"] / found["messages_read_with_rosbags"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "numpy", "numba", "onnxruntime"))
    log = f"{found['minutes']} minutes, {found['messages']} messages of {found['objects']} objects"
    memory = ", ".join(f"{100 * float(share):.0f} %: {mib:.0f}" for share, mib in ours["mib_at"].items())
    rows = {
        "machine": f"{machine['processor']}, {machine['cores']} cores, of which one is used; {versions}",
        "log": log,
        "size of log and answers": f"{found['log_bytes'] / 1e9:.2f} GB, {found['answer_bytes'] / 1e9:.2f} GB",
        "`trajpred replay`": f"{ours['wall_s']:.1f} s, on the processor {ours['processor_s']:.1f} s",
        "messages/s, objects/s": f"{found['messages_per_s']:.0f}, "
        f"{found['messages_per_s'] * found['objects']:.0f}",
        "times real time": f"{found['times_real_time']:.1f}, by the processor's clock "
        f"{found['times_real_time_by_processor_time']:.1f}",
        "rosbags alone, messages/s": f"{found['rosbags_messages_per_s']:.0f}",
        "times faster than rosbags alone": f"{found['times_faster_than_rosbags']:.2f}",
        "the same by processor time": f"{found['times_faster_by_processor_time']:.2f}",
        "reading alone, to arrays: ms a message, times faster than rosbags alone": f"{read_ms:.3f}, "
        f"{rosbags_ms / read_ms:.1f} by processor time",
        "times real time with `--model cv`": f"{found['times_real_time_without_network']:.1f}, by the "
        f"processor's clock {found['times_real_time_without_network_by_processor_time']:.1f}",
        "resident memory, MiB, after a share of the time": memory,
        "at most, MiB": f"{ours['peak_mib']:.0f}",
    }
    taken = [(PARTS[part], ms) for part, ms in parts.items()]
    taken.append(("together", sum(parts.values())))
    header = ["", "ms a message, by the processor's clock", "times real time, if there were nothing else"]
    by_part = [(what, f"{ms:.3f}", f"{1e3 / RATE_HZ / ms:.0f}") for what, ms in taken]
    return {"replay": table(["", ""], rows.items()), "replay parts": table(header, by_part)}


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write, replay, read; the log and the answers stay where a folder was given."""
    log, out = folder / "log.mcap", folder / "answers.mcap"
    expected = given.minutes * MINUTE_S * RATE_HZ * given.objects * BYTES
    if shutil.disk_usage(folder).free < expected:
        raise SystemExit(f"{folder}: it takes some {expected / 1e9:.0f} GB, there is less; see --minutes")
    _say(f"writing {given.minutes} minutes of {given.objects} objects")
    messages = write_log(log, given.objects, given.minutes)
    wanted = min(messages, round(given.read_minutes * MINUTE_S * RATE_HZ))
    replays, without_network, reads, parts = [], [], [], []
    keep_freed_memory()  # as the command does
    for number in range(given.rounds):
        out.unlink(missing_ok=True)
        without_network.append(timed_replay(log, out, "cv", given.core))
        _say(f"round {number + 1}: replayed without network in {without_network[-1]['wall_s']:.1f} s")
        parts.append(timed_parts(log, out, wanted, given.model, given.core))
        out.unlink()
        replays.append(timed_replay(log, out, given.model, given.core))
        _say(f"round {number + 1}: replayed in {replays[-1]['wall_s']:.1f} s")
        reads.append(timed_read(log, wanted, given.core))
        _say(f"round {number + 1}: {wanted} messages read with rosbags alone in {reads[-1]['wall_s']:.1f} s")
    return {
        "machine": machine(),
        "model": Path(given.model).name,
        "minutes": given.minutes,
        "objects": given.objects,
        "messages": messages,
        "messages_read_with_rosbags": wanted,
        "log_bytes": log.stat().st_size,
        "answer_bytes": out.stat().st_size,
        **summary(messages, wanted, replays, without_network, reads, parts),
    }


Rounds = list[dict[str, Any]]


def summary(messages: int, wanted: int, replays: Rounds, plain: Rounds, reads: Rounds, parts: Rounds) -> Any:
    """Medians over the rounds; a ratio is taken within each."""

    def median(rounds: Rounds) -> dict[str, Any]:
        return {**sorted(rounds, key=lambda one: one["wall_s"])[len(rounds) // 2], "rounds": rounds}

    def rate(rounds: Rounds, clock: str, count: int) -> float:
        return float(np.median([count / one[clock] for one in rounds]))

    def faster(clock: str) -> float:
        pairs = zip(replays, reads, strict=True)
        return float(np.median([messages / wanted * read[clock] / ours[clock] for ours, read in pairs]))

    wall, processor = CLOCKS
    return {
        "replay": median(replays),
        "without_network": median(plain),
        "parts": {
            "processor_ms": {
                part: float(np.median([one["processor_ms"][part] for one in parts])) for part in PARTS
            },
            "rounds": parts,
        },
        "rosbags": median(reads),
        "messages_per_s": rate(replays, wall, messages),
        "times_real_time": rate(replays, wall, messages) / RATE_HZ,
        "times_real_time_by_processor_time": rate(replays, processor, messages) / RATE_HZ,
        "times_real_time_without_network": rate(plain, wall, messages) / RATE_HZ,
        "times_real_time_without_network_by_processor_time": rate(plain, processor, messages) / RATE_HZ,
        "rosbags_messages_per_s": rate(reads, wall, wanted),
        "times_faster_than_rosbags": faster(wall),
        "times_faster_by_processor_time": faster(processor),
    }


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, write, fill the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--read-minutes", type=float, default=5.0, help="of the log, with rosbags alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an artefact; default: the model in the box")
    parser.add_argument(
        "--folder", type=Path, help="for log and answers, which stay; default: a temporary one"
    )
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="where it runs")
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    with nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory() as folder:
        found = measure(given, Path(folder))
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(found, indent=1) + "\n")
    parts = tables(found)
    print("\n\n".join(parts.values()))
    if given.json == RESULTS:
        fill(ROOT / "docs/performance.md", parts)


if __name__ == "__main__":
    main()
