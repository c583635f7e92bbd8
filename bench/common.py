"""What the benches share: the peers' environment, contestants in processes of their own, rows in results/."""

from __future__ import annotations

import csv
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from frostline.environment import cores, cpu_model
from frostline.files import digest_file

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "bench" / "peers-requirements.txt"
PEERS = ROOT / ".bench-peers"


def peers_python() -> Path:
    """The Python of most benches' peers."""
    return environment_python(PEERS, REQUIREMENTS)


def environment_python(place: Path, requirements: Path) -> Path:
    """The Python of an environment for peers; made, or made again, where its pinned requirements have changed."""
    python, stamp = place / "bin" / "python", place / "requirements.digest"
    wanted = digest_file(requirements)
    if not stamp.is_file() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], check=True)
        stamp.write_text(wanted)
    return python


class Contestant:
    """A process that answers every line on its standard input with one JSON line: a repetition's result."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.about: dict[str, Any] = self._answer()

    def repeat(self) -> Any:
        """Run one repetition and return its result."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contestant ended early with {self._process.wait()}: {self._process.args!r}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def contestants(commands: Mapping[str, Sequence[str | Path]]) -> Iterator[dict[str, Contestant]]:
    """All contestants, each started and warm, until the end of the block."""
    running: dict[str, Contestant] = {}
    try:
        for name, command in commands.items():
            running[name] = Contestant(command)
        yield running
    finally:
        for contestant in running.values():
            contestant.close()


def ratio_row(found: Sequence[float], ours: Sequence[float], bar: float | None) -> dict[str, Any]:
    """Images/s of one contestant over the rounds, and ours divided by it: the median over the pairs of one round."""
    ratio = statistics.median(a / b for a, b in zip(ours, found, strict=True))
    return {
        "n": len(found),
        "images_per_second": round(statistics.median(found)),
        "lowest": round(min(found)),
        "highest": round(max(found)),
        "ours_ratio": round(ratio, 3),
        "bar": bar,
        "met": None if bar is None else ratio >= bar,
    }


def append_rows(name: str, rows: list[dict[str, Any]]) -> Path:
    """Append rows to ``results/NAME.csv``, each with the date, the hardware and the command; the header is the first row's keys."""
    path = ROOT / "results" / f"{name}.csv"
    command = shlex.join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *sys.argv[1:]])
    common = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z", "hardware": f"{cpu_model()}, {cores()} cores", "command": command}
    complete = [{**common, **row} for row in rows]
    new = not path.exists()
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(complete[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(complete)
    return path
