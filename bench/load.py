"""Many clients that each send a photo, wait for the answer and send the next: rates, latencies and what they cost themselves.

    python bench/load.py PORT PATH FOLDER --clients 32 --seconds 10

Standard library only, one thread, requests made ready beforehand, so that it takes little of the machine that it measures. One JSON
line on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

EDGE = "----------------------------frostline"


def request(path: str, name: str, data: bytes) -> bytes:
    """A multipart upload with its head."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    body = f"--{EDGE}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n".encode() + data + f"\r\n--{EDGE}--\r\n".encode()
    kind = f"multipart/form-data; boundary={EDGE}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, load: Load, first: int) -> None:
        self.load, self.next, self.found = load, first, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        if time.perf_counter() >= self.load.end:
            self.transport.close()
            return
        self.sent = time.perf_counter()
        self.transport.write(self.load.requests[self.next % len(self.load.requests)])
        self.next += 1

    def data_received(self, data: bytes) -> None:
        self.found += data
        head, gap, body = self.found.partition(b"\r\n\r\n")
        if not gap or len(body) < self.load.length(head):
            return
        self.load.answered(int(head[9:12]), time.perf_counter() - self.sent)
        self.found = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost(error)


class Load:
    """What all clients share."""

    def __init__(self, requests: list[bytes], seconds: float) -> None:
        self.requests, self.end = requests, time.perf_counter() + seconds
        self.latencies: list[float] = []
        self.statuses: dict[int, int] = {}
        self.open = asyncio.Semaphore(0)
        self.errors = 0

    def length(self, head: bytes) -> int:
        lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
        return next((int(value) for name, _, value in lines if name == b"content-length"), 0)

    def answered(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.latencies.append(seconds)

    def lost(self, error: Exception | None) -> None:
        self.errors += error is not None
        self.open.release()


async def run(port: int, requests: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    load, started, used = Load(requests, seconds), time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for number in range(clients):
        await loop.create_connection(lambda number=number: Client(load, number * 7), "127.0.0.1", port)
    for _ in range(clients):
        await load.open.acquire()
    took, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cuts = statistics.quantiles(load.latencies, n=100) if len(load.latencies) > 1 else [0.0] * 99
    return {
        "answers": len(load.latencies),
        "per_second": len(load.latencies) / took,
        "p50_ms": 1000 * cuts[49],
        "p99_ms": 1000 * cuts[98],
        "load_cpu_s": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        "seconds": took,
        "statuses": load.statuses,
        "errors": load.errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    files = sorted(asked.folder.rglob("*.jpg"))[:200]
    requests = [request(asked.path, path.name, path.read_bytes()) for path in files]
    print(json.dumps(asyncio.run(run(asked.port, requests, asked.clients, asked.seconds))))


if __name__ == "__main__":
    main()
