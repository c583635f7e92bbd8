"""What a service must survive: bytes that nobody sends by mistake, a fuzzer of its own description, an overload, a stop under load.

    python bench/abuse.py [--part bytes|schema|overload|stop|all] [--bodies 10000] [--minutes 10] [--seconds 60]

``bytes``: ``frostline serve`` with the model inside gets random, mutated and cut bodies, bombs and two-in-ones, huge heads, slow
and vanishing clients; it must live, answer nothing but 200, 4xx and 503, write no file, and end with the memory that it began with
(after a warm-up of a tenth as many bodies). ``schema``: schemathesis for some minutes. ``overload``: clients that together ask ten
times as much as a slow predictor can; every answer is checked. ``stop``: SIGTERM while 16 clients ask. Rows: results/abuse.csv.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from common import ROOT, append_rows
from inputs import versions
from rich.console import Console
from serving import free_port, memory_mib, wait_for

sys.path.insert(0, str(ROOT / "tests" / "data"))
from hostile import bodies
from served import Paced, live, pictures, toy
from toymodel import CLASSES, probabilities

from frostline.serve.api import create_app
from frostline.serve.settings import ServeSettings

console = Console()
#: Memory after, relative to before.
MEMORY_BAR = 0.05
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PNG = {"content-type": "image/png"}
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("bytes", "schema", "overload", "stop", "all"), default="all")
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    parts = {
        "bytes": lambda: hostile_bytes(asked.bodies),
        "schema": lambda: schema(asked.minutes),
        "overload": lambda: overload(asked.seconds),
        "stop": lambda: stop(20),
    }
    rows = [part() for name, part in parts.items() if asked.part in (name, "all")]
    for row in rows:
        console.print(row)
    console.print(f"rows appended to {append_rows('abuse', [{**row, 'versions': versions()} for row in rows])}")


def row(what: str, n: int, seconds: float, found: str, bar: str, met: bool) -> Row:
    return {"what": what, "n": n, "seconds": round(seconds, 1), "found": found, "bar": bar, "met": met}


@contextmanager
def service(place: Path, *options: str) -> Iterator[tuple[subprocess.Popen[Any], int]]:
    """``frostline serve`` in a folder of its own, where every file that it might write would be."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(place), "HOME": str(place)}
    environment["FROSTLINE_HOME"] = str(place / "frostline")
    command = [sys.executable, "-m", "frostline", "serve", "--port", str(port), "--no-page", *options]
    process = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield process, port
    finally:
        process.terminate()
        process.wait()


# bytes


def hostile_bytes(count: int) -> Row:
    with tempfile.TemporaryDirectory() as folder, service(Path(folder), "--timeout", "2") as (process, port):
        asyncio.run(_hostile(port, count // 10, seed=0))
        files, before, started = _files(folder), memory_mib(process.pid), time.perf_counter()
        statuses = asyncio.run(_hostile(port, count, seed=1))
        time.sleep(3)  # the last slow client's time is over
        after, took = memory_mib(process.pid), time.perf_counter() - started
        alive = process.poll() is None and httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        written = _files(folder) - files
    change = after / before - 1
    odd = {status for status in statuses if not (status in (0, 200, 503) or 400 <= status < 500)}
    told = ", ".join(f"{status or 'closed'}: {n}" for status, n in sorted(statuses.items()))
    found = f"{told}; memory {before:.0f} to {after:.0f} MiB ({change:+.1%}); {len(written)} files written; alive: {alive}"
    met = alive and not odd and not written and abs(change) <= MEMORY_BAR
    return row("hostile bytes", count, took, found, "no crash, no 5xx but 503, memory within 5 %, no file", met)


def _files(folder: str) -> set[Path]:
    return {path for path in Path(folder).rglob("*") if path.is_file()}


async def _hostile(port: int, count: int, seed: int) -> Counter[int]:
    """Every status that came; 0 for a connection that was closed without one."""
    waiting, statuses = iter(bodies(count, seed, "inside")), Counter[int]()

    async def some(client: httpx.AsyncClient) -> None:
        for path, headers, body in waiting:
            statuses[(await client.post(path, content=body, headers=headers)).status_code] += 1

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        rude = asyncio.ensure_future(_rude(port, count // 50, random.Random(seed), statuses))
        await asyncio.gather(*(some(client) for _ in range(8)))
        await rude
    return statuses


async def _rude(port: int, count: int, rng: random.Random, statuses: Counter[int]) -> None:
    """Clients that break off, dawdle, or send heads without end, a few at a time."""
    for _ in range(0, count, 10):
        await asyncio.gather(*(_rude_client(port, rng, statuses) for _ in range(10)))


async def _rude_client(port: int, rng: random.Random, statuses: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = rng.choice([10, 10**6, 10**9])
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
    endless = "GET / HTTP/1.1\r\n" + "A: b\r\n" * 50_000
    sent = rng.choice([head[: rng.randrange(len(head))], head + "x", endless, "\0" * 100_000, "GET"])
    said = b""
    with suppress(ConnectionError, TimeoutError):
        writer.write(sent.encode())
        await writer.drain()
        async with asyncio.timeout(rng.choice([0.05, 0.5, 5])):
            said = await reader.read(12)
    statuses[int(said[9:12] or 0)] += 1
    writer.close()


# schema


def schema(minutes: float) -> Row:
    seconds = round(60 * minutes)
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as (_, port):
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{port}/openapi.json"]
        options = ["--max-time", seconds, "--checks", CHECKS, "--continue-on-failure", "--warnings", "off", "--no-color"]
        ran = subprocess.run(list(map(str, [*command, *options])), capture_output=True, text=True, cwd=folder, check=False)
        counts = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    requests = re.findall(r'frostline_requests_total\{route="[^"]*",status="(\d+)"\} (\d+)', counts)
    failed = sum(int(n) for status, n in requests if status.startswith("5") and status != "503")
    if ran.returncode:
        console.print(ran.stdout[-6000:])
    n = sum(int(count) for _, count in requests)
    found = f"{failed} answers of 5xx but 503; schemathesis ended with {ran.returncode}"
    return row("schemathesis", n, seconds, found, "no 5xx but 503", failed == 0 and ran.returncode == 0)


# overload


def overload(seconds: float, capacity: float = 40, times: float = 10) -> Row:
    """A predictor of ``capacity`` images/s, asked for ``times`` as many by clients that keep their pace whatever is answered."""
    pixels, files = pictures(64)
    wanted = probabilities(pixels)
    with tempfile.TemporaryDirectory() as folder:
        paced = Paced(toy(Path(folder)), seconds=4 / capacity)
        with live(create_app({"toy": paced}, ServeSettings(queue_size=16))) as port:
            statuses, wrong, recovered = asyncio.run(_overload(port, seconds, capacity * times, files, wanted))
    met = set(statuses) == {200, 503} and not wrong and recovered <= 1
    others = statuses.total() - statuses[200] - statuses[503]
    found = f"{statuses[200]} answered, {wrong} of them wrongly; {statuses[503]} refused; {others} others; "
    found += f"an answer {recovered:.2f} s after the end"
    return row("overload", statuses.total(), seconds, found, "right or 503; recovers within 1 s", met)


async def _overload(port: int, seconds: float, rate: float, files: list[bytes], wanted: Any) -> tuple[Counter[int], int, float]:
    statuses, wrong, clients = Counter[int](), 0, len(files)
    end = time.perf_counter() + seconds

    async def one(client: httpx.AsyncClient, number: int) -> None:
        nonlocal wrong
        await asyncio.sleep(number / rate)
        due = time.perf_counter()
        while due < end:
            answer = await client.post("/predict?probabilities=true", content=files[number], headers=PNG)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                told = answer.json()["predictions"][0]["probabilities"]
                wrong += bool(np.abs(np.array([told[name] for name in CLASSES]) - wanted[number]).max() > 1e-4)
            due = max(due + clients / rate, time.perf_counter())
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as client:
        await asyncio.gather(*(one(client, number) for number in range(clients)))
        started = time.perf_counter()
        while (await client.post("/predict", content=files[0], headers=PNG)).status_code != 200:
            await asyncio.sleep(0.01)
        return statuses, wrong, time.perf_counter() - started


# stop


def stop(times: int) -> Row:
    """SIGTERM while clients ask, so many times: requests that were sent on an open connection and got no answer."""
    answered = lost = 0
    started = time.perf_counter()
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as (process, port):
            found = asyncio.run(_until_stopped(process, port))
            answered, lost = answered + found[0], lost + found[1]
    took = time.perf_counter() - started
    return row("stop under load", answered + lost, took, f"{lost} lost in {times} stops", "none lost", lost == 0)


async def _until_stopped(process: subprocess.Popen[Any], port: int) -> tuple[int, int]:
    answered = lost = 0
    data = pictures(1)[1][0]

    async def ask() -> None:
        nonlocal answered, lost
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while True:
                try:
                    lost += (await client.post("/predict", content=data, headers=PNG)).status_code != 200
                    answered += 1
                except httpx.ConnectError:
                    return
                except httpx.HTTPError:
                    lost += 1
                    return

    clients = [asyncio.ensure_future(ask()) for _ in range(16)]
    await asyncio.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    return answered, lost


if __name__ == "__main__":
    main()
