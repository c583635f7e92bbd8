"""Photos per second over HTTP: ``frostline serve`` against Flask with Keras-TensorFlow, LitServe, and offline ``predict``.

    python bench/serving.py --weights FOLDER [--rounds 3] [--seconds 10]

One model: MobileNetV2@160, frozen, with a head for drawn photos (its speed does not depend on what it learned). 32 clients each
upload a JPEG of about 500 px and wait for the answer. Servers are processes that stay alive; rounds are interleaved, and a ratio is
the median over rounds. LitServe runs in its fastest of some ways, tried beforehand. Offline ``predict`` reads the same photos from
files. The load generator runs on the same cores: its share of them is given, and ``ours_ratio_adjusted`` is the ratio on the cores
that it leaves. ``others_share_of_cores`` is what neither server nor load took: near 0, or the machine was not quiet and the
figures say little. Memory is the proportional set size of a server's processes after the load. Rows go to results/serving.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common import ROOT, append_rows, environment_python
from inputs import machine_speed, photos, versions
from rich.console import Console
from rich.table import Table

from frostline.environment import cores

HERE = Path(__file__).parent
#: Ours must be at least this many times as fast.
BARS = {"flask + keras-tensorflow": 3.0, "litserve": 1.2, "offline predict": 0.8}
#: (workers, images per batch) of LitServe.
WAYS = ((1, 1), (2, 1), (1, 4), (2, 4), (1, 16))
CLIENTS = 32
console = Console()


def main() -> None:
    asked = parse()
    with tempfile.TemporaryDirectory() as place:
        os.environ["FROSTLINE_HOME"] = str(Path(place) / "home")
        folder = photos(asked.photos or Path(place), 2000)
        model = asked.model or trained(folder, asked.weights, Path(place))
        peers = environment_python(ROOT / ".bench-serving", HERE / "serving-requirements.txt")
        way = fastest_way(peers, model, folder)
        race(asked, folder, model, peers, way)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of MobileNetV2 weights in timm's hub layout")
    parser.add_argument("--model", type=Path, help="a run to serve instead of training one")
    parser.add_argument("--photos", type=Path, help="where to keep the drawn JPEGs for the next time; without: nowhere")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    return parser.parse_args()


def trained(folder: Path, weights: Path, place: Path) -> Path:
    run = place / "run"
    options = ["--recipe", "mobilenetv2-frozen", "--weights", weights, "--set", "image_size=160", "--out", run]
    subprocess.run([sys.executable, "-m", "frostline", "train", folder, *options], check=True, stderr=subprocess.DEVNULL)
    return run


# servers


@contextmanager
def server(command: Sequence[Any], port: int) -> Iterator[int]:
    """A running server, which answers; its process id."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(list(map(str, command)), env=environment, start_new_session=True, **quiet)
    try:
        wait_for(port, process)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # LitServe's workers are processes of their own
        process.wait()


def wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise SystemExit(f"a server ended early: {process.args!r}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def commands(peers: Path, model: Path, way: tuple[int, int], ports: Sequence[int]) -> dict[str, list[Any]]:
    mine = [sys.executable, "-m", "frostline", "serve", "--model", f"bench={model}", "--no-page", "--port", ports[0]]
    return {
        "frostline": mine,
        "flask + keras-tensorflow": [peers, HERE / "serving_flask.py", ports[1]],
        "litserve": [peers, HERE / "serving_litserve.py", ports[2], model, *way],
    }


def fastest_way(peers: Path, model: Path, folder: Path) -> tuple[int, int]:
    """The fastest way to run LitServe here."""
    speeds = {}
    for way in WAYS:
        port = free_port()
        with server(commands(peers, model, way, [0, 0, port])["litserve"], port):
            load(port, folder, 2)
            speeds[way] = load(port, folder, 5)["per_second"]
        console.print(f"litserve, {way[0]} workers, batches of {way[1]}: {speeds[way]:.0f}/s")
    return max(speeds, key=speeds.__getitem__)


# measuring


def load(port: int, folder: Path, seconds: float) -> dict[str, Any]:
    command = [sys.executable, HERE / "load.py", port, "/predict", folder, "--clients", CLIENTS, "--seconds", seconds]
    found: dict[str, Any] = json.loads(subprocess.check_output(list(map(str, command))))
    if found["errors"] or set(found["statuses"]) != {"200"}:
        raise SystemExit(f"not every request was answered: {found}")
    return found


def offline(model: Path, folder: Path) -> float:
    """Images/s of ``frostline predict`` on all photos, loading left out, in a process of its own."""
    code = (
        "import sys, time; from pathlib import Path; from frostline.predicting.batch import predict_files;"
        "from frostline.serve.predictor import Predictor; p = Predictor(sys.argv[1]);"
        "start = time.perf_counter(); n = sum(not row.error for row in predict_files(p, [Path(sys.argv[2])], 3));"
        "print(n / (time.perf_counter() - start))"
    )
    return float(subprocess.check_output([sys.executable, "-c", code, str(model), str(folder)]))


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def busy_s() -> float:
    """Seconds of processor time that the whole machine has spent on anything."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Seconds of processor time of a process and all below it."""
    fields = (Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(pid))
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def under_load(port: int, pid: int, folder: Path, seconds: float) -> dict[str, Any]:
    """``load``, the server's memory after it, and the share of the cores that neither server nor load took: others' work."""
    machine, own = busy_s(), cpu_s(pid)
    found = load(port, folder, seconds)
    spent = busy_s() - machine - (cpu_s(pid) - own) - found["load_cpu_s"]
    return {**found, "mib": memory_mib(pid), "others": max(0.0, spent / found["seconds"] / cores())}


@contextmanager
def paused(pids: Iterable[int]) -> Iterator[None]:
    """Let servers and all below them rest while inside: LitServe's idle workers poll their queues with a tenth of the machine."""
    resting = [each for pid in pids for each in tree(pid)]
    for pid in resting:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in resting:
            os.kill(pid, signal.SIGCONT)


def memory_mib(pid: int) -> float:
    lines = (line for each in tree(pid) for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def race(asked: argparse.Namespace, folder: Path, model: Path, peers: Path, way: tuple[int, int]) -> None:
    ports, before = [free_port() for _ in range(3)], machine_speed()
    rounds: list[dict[str, Any]] = []
    with Servers(commands(peers, model, way, ports), ports) as running:
        for port in ports:
            load(port, folder, 3)
        for _ in range(asked.rounds):
            found = {}
            for name, (port, pid) in running.items():
                with paused(other for _, other in running.values() if other != pid):
                    found[name] = under_load(port, pid, folder, asked.seconds)
            with paused(pid for _, pid in running.values()):
                rounds.append({**found, "offline predict": {"per_second": offline(model, folder)}})
    machine = round((before + machine_speed()) / 2)
    rows = [row_of(name, rounds, way) for name in rounds[0]]
    rows = [{**row, "machine_bf16_gflops": machine, "versions": versions()} for row in rows]
    show(rows)
    console.print(f"rows appended to {append_rows('serving', rows)}")


class Servers:
    """All servers, started one after the other: name → (port, process id)."""

    def __init__(self, started: dict[str, list[Any]], ports: Sequence[int]) -> None:
        self._contexts = {name: (port, server(command, port)) for (name, command), port in zip(started.items(), ports, strict=True)}

    def __enter__(self) -> dict[str, tuple[int, int]]:
        return {name: (port, context.__enter__()) for name, (port, context) in self._contexts.items()}

    def __exit__(self, *error: Any) -> None:
        for _, context in self._contexts.values():
            context.__exit__(*error)


def row_of(name: str, rounds: list[dict[str, Any]], way: tuple[int, int]) -> dict[str, Any]:
    speeds = [each[name]["per_second"] for each in rounds]
    ours = [each["frostline"] for each in rounds]
    ratios = [mine["per_second"] / speed for mine, speed in zip(ours, speeds, strict=True)]
    shares = [mine["load_cpu_s"] / mine["seconds"] / cores() for mine in ours]
    adjusted = [ratio / (1 - share) for ratio, share in zip(ratios, shares, strict=True)]
    bar, ratio = BARS.get(name), statistics.median(ratios)
    measured = {key: _median(rounds, name, key) for key in ("p50_ms", "p99_ms", "mib")}
    return {
        "contestant": name,
        "way": f"{way[0]} workers, batches of {way[1]}" if name == "litserve" else "",
        "clients": 1 if name == "offline predict" else CLIENTS,
        "n": len(rounds),
        "images_per_second": round(statistics.median(speeds), 1),
        "lowest": round(min(speeds), 1),
        "highest": round(max(speeds), 1),
        **measured,
        "others_share_of_cores": _median(rounds, name, "others", 3),
        "load_share_of_cores": round(statistics.median(shares), 3) if name == "frostline" else "",
        "ours_ratio": round(ratio, 3),
        "ours_ratio_adjusted": round(statistics.median(adjusted), 3) if name == "offline predict" else "",
        "bar": bar,
        "met": None if bar is None else ratio >= bar,
    }


def _median(rounds: list[dict[str, Any]], name: str, key: str, places: int = 1) -> float | str:
    found = [each[name][key] for each in rounds if key in each[name]]
    return round(statistics.median(found), places) if found else ""


def show(rows: list[dict[str, Any]]) -> None:
    title = f"MobileNetV2@160, {CLIENTS} clients, JPEGs of about 500 px, n = {rows[0]['n']}"
    table = Table("contestant", "images/s", "range", "p50 ms", "p99 ms", "MiB", "frostline / this", "bar", title=title)
    for row in rows:
        verdict = "" if row["bar"] is None else f"≥ {row['bar']:g}: {'met' if row['met'] else 'MISSED'}"
        told = [
            row["images_per_second"],
            f"{row['lowest']}–{row['highest']}",
            row["p50_ms"],
            row["p99_ms"],
            row["mib"],
            row["ours_ratio"],
        ]
        table.add_row(f"{row['contestant']} {row['way']}", *map(str, told), verdict)
    console.print(table)


if __name__ == "__main__":
    main()
