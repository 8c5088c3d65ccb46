"""Load test of the service on loopback: latency, throughput, wrong and lost answers, memory.

    python -m benchmarks.serve [--workdir=RUN] [--requests=10000] [--clients=1,8,64] [--seconds=2] [--json=FILE]

Starts `python -m emojax.serve` in a process of its own, and the clients in another one, as keep-alive connections that
send the next WAV file when they have the last answer. For each number of clients it prints p50 and p99 of the time from
the first byte sent to the last byte received, requests per second, and CPU time of the service per request. Each answer
is compared with that of `emojax.load(...).predict` for the same file: a difference of more than 1e-6 of the scale is
wrong, no answer or another status than 200 is lost; both end the benchmark with an error. Memory of the service and its
decoding processes is printed at requests 1,000, 5,000 and 10,000 of the last number of clients. Then sessions (as many,
at most 64) stream 100 ms at a time, each as fast as it gets answers, compared with `emojax.Stream` to 1e-5 of the scale
(sessions are computed together). At the end the service is stopped by SIGTERM and must exit with status 0. Without
`--workdir`, an untrained `configs/student_s.py` is served.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import print_processor
from benchmarks.memory import private_mb

RATE, CHUNK = 16_000, 1_600
SHOWN = (1_000, 5_000, 10_000)
"""Requests after which memory is printed."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="folder of a trained model")
    parser.add_argument("--requests", type=int, default=10_000, help="requests per number of clients")
    parser.add_argument("--clients", default="1,8,64", help="numbers of clients")
    parser.add_argument("--seconds", type=float, default=2.0, help="longest clip; the shortest has a quarter of it")
    parser.add_argument("--files", type=int, default=50, help="different files")
    parser.add_argument("--stream-seconds", type=float, default=10.0, help="audio per session; 0: no sessions")
    parser.add_argument("--options", default="", help="further options of the service, separated by spaces")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--task", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        asyncio.run(run_clients(json.loads(options.task.read_text()), options.task.parent))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def measure(folder, options):
    processor = print_processor()
    workdir = options.workdir or untrained(folder / "student_s")
    limits = write_expected(folder, workdir, options)
    command = [sys.executable, "-m", "emojax.serve", str(workdir), "--port=0", f"--max-seconds={options.seconds:g}"]
    start = time.perf_counter()
    with (folder / "access.log").open("wb") as log:
        service = subprocess.Popen([*command, *options.options.split()], stdout=log, stderr=subprocess.PIPE, text=True)
    try:
        ready = next(tree for tree in map(json.loads, service.stderr) if tree["message"] == "ready")
        print(f"ready after {time.perf_counter() - start:.1f} s, {ready['shapes']} shapes")
        results = {"machine": processor, "clients": {}}
        for clients in map(int, options.clients.split(",")):
            task = limits | {"port": ready["port"], "pid": service.pid, "clients": clients, "kind": "clips"}
            found = run_task(folder, task | {"requests": options.requests})
            results["clients"][clients] = found
            print(f"{clients:3} clients  {described(found)}", flush=True)
        for count, megabytes in found["memory_mb"].items():
            print(f"memory after {count} requests: {megabytes:.0f} MB")
        if options.stream_seconds:
            found = results["sessions"] = run_task(folder, task | {"kind": "sessions", "clients": min(clients, 64)})
            print(f"{min(clients, 64):3} sessions {described(found)}")
        service.send_signal(signal.SIGTERM)
        results["exit_status"] = service.wait(60)
    finally:
        service.kill()
    everything = [*results["clients"].values(), *([results["sessions"]] if options.stream_seconds else [])]
    if results["exit_status"] or any(each["wrong"] or each["lost"] for each in everything):
        sys.exit(f"error: exit status {results['exit_status']}, or wrong or lost answers")
    return results


def described(found):
    times = f"p50 {found['p50_ms']:7.1f} ms  p99 {found['p99_ms']:7.1f} ms  CPU {found['cpu_ms']:5.1f} ms"
    return f"{times}  {found['per_second']:6.1f}/s  wrong {found['wrong']}  lost {found['lost']}"


def untrained(folder):
    """A workdir of an untrained student_s."""
    from configs import student_s
    from tests.exported_models import write_workdir

    return write_workdir(folder, student_s.get_config())


def write_expected(folder, workdir, options):
    """Writes files and what `predict` and `Stream` return for them."""
    import soundfile

    import emojax

    random, model = np.random.default_rng(0), emojax.load(workdir)
    scale = model.corpus.scale
    expected = []
    for number in range(options.files):
        count = int(RATE * options.seconds * random.uniform(0.25, 1))
        envelope = 0.1 + 0.1 * np.sin(np.arange(count) / random.uniform(500, 4000))
        file = io.BytesIO()
        soundfile.write(file, envelope * random.normal(size=count), RATE, format="WAV", subtype="PCM_16")
        (folder / f"{number}.wav").write_bytes(file.getvalue())
        file.seek(0)
        expected.append(model.predict(file).attributes)
    samples = (0.1 * random.normal(size=int(RATE * options.stream_seconds)) * 2**15).astype("<i2")
    (folder / "stream.pcm").write_bytes(samples.tobytes())
    updates = []
    if options.stream_seconds:
        stream = emojax.Stream(model)
        for start in range(0, len(samples), CHUNK):
            estimate = stream(samples[start : start + CHUNK])
            updates.append(None if estimate is None else estimate.attributes)
    return {"expected": expected, "updates": updates, "scale": scale[1] - scale[0]}


def run_task(folder, task):
    """Runs the clients in a process of their own."""
    path = folder / "task.json"
    path.write_text(json.dumps(task))
    subprocess.run([sys.executable, "-m", "benchmarks.serve", f"--task={path}"], check=True)
    return json.loads((folder / "found.json").read_text())


async def run_clients(task, folder):
    found = {"wrong": 0, "lost": 0, "seconds": [], "memory_mb": {}}
    start, cpu = time.perf_counter(), cpu_seconds(task["pid"])
    if task["kind"] == "clips":
        numbers = iter(range(task["requests"]))
        bodies = [(folder / f"{number}.wav").read_bytes() for number in range(len(task["expected"]))]
        await asyncio.gather(*(send_clips(task, bodies, numbers, found) for _ in range(task["clients"])))
    else:
        samples = (folder / "stream.pcm").read_bytes()
        await asyncio.gather(*(stream_samples(task, samples, found) for _ in range(task["clients"])))
    seconds, cpu = time.perf_counter() - start, cpu_seconds(task["pid"]) - cpu
    times = np.array(found.pop("seconds")) * 1000
    found |= {"per_second": len(times) / seconds, "answers": len(times), "cpu_ms": 1000 * cpu / len(times)}
    found |= {f"p{level}_ms": float(np.percentile(times, level)) for level in (50, 99)}
    (folder / "found.json").write_text(json.dumps(found))


def cpu_seconds(pid):
    """CPU time of a process and all below it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return own + sum(cpu_seconds(int(child)) for task in tasks for child in task.read_text().split())


async def send_clips(task, bodies, numbers, found):
    """One client: the next request when it has the last answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", task["port"])
    for number in numbers:
        which = number % len(bodies)
        header = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: audio/wav\r\nContent-Length: {len(bodies[which])}"
        start = time.perf_counter()
        try:
            writer.write(header.encode() + b"\r\n\r\n" + bodies[which])
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split()[0])
            answer = json.loads(await reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            found["lost"] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", task["port"])
            continue
        found["seconds"].append(time.perf_counter() - start)
        if not head.startswith("http/1.1 200"):
            found["lost"] += 1
        elif not equal(answer["attributes"], task["expected"][which], 1e-6 * task["scale"]):
            found["wrong"] += 1
        if number + 1 in SHOWN:
            found["memory_mb"][number + 1] = private_mb(task["pid"])
    writer.close()


async def stream_samples(task, samples, found):
    """One session: the next 100 ms when it has the last update."""
    from websockets.asyncio.client import connect

    async with connect(f"ws://127.0.0.1:{task['port']}/stream", compression=None) as client:
        for number, expected in enumerate(task["updates"]):
            start = time.perf_counter()
            await client.send(samples[2 * CHUNK * number : 2 * CHUNK * (number + 1)])
            answer = json.loads(await client.recv())
            found["seconds"].append(time.perf_counter() - start)
            found["wrong"] += not equal(answer["attributes"], expected, 1e-5 * task["scale"])
        await client.send('{"end": true}')
        found["lost"] += not json.loads(await client.recv())["final"]


def equal(found, expected, tolerance):
    if found is None or expected is None:
        return found is expected
    return found.keys() == expected.keys() and all(abs(found[name] - expected[name]) <= tolerance for name in expected)


if __name__ == "__main__":
    main()
