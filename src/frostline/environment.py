"""What a run ran on: versions, processor, memory; and how much memory it took. Nothing here imports torch."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import frostline

#: Distributions whose versions decide results; absent ones are recorded as null.
PACKAGES = ("numpy", "pillow", "openvino", "torch", "timm", "scikit-learn", "scipy", "safetensors")

CPUINFO = Path("/proc/cpuinfo")
STATUS = Path("/proc/self/status")
CGROUP = Path("/sys/fs/cgroup")


def describe() -> dict[str, Any]:
    """Versions and hardware as JSON values; what cannot be found out is null. Memory in bytes."""
    return {
        "frostline": frostline.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "cpu": {"model": cpu_model(), "cores": cores(), "bf16": has_bf16(), "vnni": has_vnni()},
        "memory_bytes": memory(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """The processor's feature names: Linux's own (x86 "flags", ARM "Features"), or macOS's ARM ones; empty when unknown."""
    if sys.platform == "darwin":
        names = [line.partition(":") for line in _sysctl("hw.optional").splitlines()]
        return frozenset(name.rsplit(".", 1)[-1].removeprefix("FEAT_").lower() for name, _, value in names if value.strip() == "1")
    return frozenset((_cpuinfo(cpuinfo, "flags") or _cpuinfo(cpuinfo, "Features")).split())


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 or AMX on x86, the ARM extension); False when unknown."""
    return not cpu_flags(cpuinfo).isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def has_vnni(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor has 8-bit dot products (VNNI on x86, the ARM dot product); False when unknown."""
    return not cpu_flags(cpuinfo).isdisjoint({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "dotprod"})


def cpu_model(cpuinfo: Path = CPUINFO) -> str | None:
    """The processor's name, None when the system does not tell."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string").partition(":")[2].strip() or None
    return _cpuinfo(cpuinfo, "model name") or platform.processor() or None


def _cpuinfo(path: Path, key: str) -> str:
    """The value of the first line of /proc/cpuinfo with this key, "" without one."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key), "")


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(["/usr/sbin/sysctl", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def cores(cgroup: Path = CGROUP) -> int:
    """Cores this process may use: those it is bound to, or fewer where its control group has a smaller quota (rounded up)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(cgroup)
    return bound if quota is None else max(1, min(bound, math.ceil(quota)))


def _cpu_quota(cgroup: Path) -> float | None:
    texts = _limit(cgroup / "cpu.max").split() or [_limit(cgroup / f"cpu/cpu.cfs_{part}_us") for part in ("quota", "period")]
    try:
        quota, period = map(float, texts)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def memory(cgroup: Path = CGROUP) -> int | None:
    """Bytes of memory this process may use: the machine's, or less where its control group has a limit; None when unknown."""
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    known = hasattr(os, "sysconf") and all(name in os.sysconf_names for name in names)
    total = math.prod(os.sysconf(name) for name in names) if known else None
    limits = [_limit(cgroup / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([int(limit) for limit in limits if limit.isdigit()] + ([total] if total else []), default=None)


def _limit(path: Path) -> str:
    """A control group's file as seen from inside a container, "" where there is none."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class MemoryWatch:
    """Samples this process's anonymous memory in a thread while inside, as the system keeps no peak of it.

    ``ru_maxrss`` counts pages of mapped files too (weights, caches), which cost nothing that anyone else could use.

    >>> with MemoryWatch() as watch:
    ...     pass
    >>> sorted(watch.peak())
    ['anonymous_bytes', 'how', 'resident_bytes']
    """

    def __init__(self, every_s: float = 0.05, status: Path = STATUS) -> None:
        self.every_s, self.status = every_s, status
        self.anonymous: int | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)

    def __enter__(self) -> Self:
        self.sample()
        if self.anonymous is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.sample()

    def _run(self) -> None:
        while not self._done.wait(self.every_s):
            self.sample()

    def sample(self) -> None:
        """Look once."""
        now = _status(self.status, "RssAnon")
        if now is not None:
            self.anonymous = max(now, self.anonymous or 0)

    def peak(self) -> dict[str, Any]:
        """The highest readings so far; see ``peak_memory``."""
        record = peak_memory(self.status)
        if self.anonymous is not None:
            record["anonymous_bytes"] = self.anonymous
            record["how"] += f"; RssAnon of /proc/self/status every {self.every_s * 1000:g} ms"
        return record


def peak_memory(status: Path = STATUS) -> dict[str, Any]:
    """Peak memory of this process, not of its children: ``resident_bytes`` since its start, with the pages of mapped files.

    ``anonymous_bytes`` is null here: only a ``MemoryWatch`` knows it. ``how`` says where the figures come from.
    """
    if (high := _status(status, "VmHWM")) is not None:
        return {"resident_bytes": high, "anonymous_bytes": None, "how": "VmHWM of /proc/self/status"}
    try:
        import resource
    except ImportError:  # Windows
        return {"resident_bytes": None, "anonymous_bytes": None, "how": "this system does not tell"}
    unit = 1 if sys.platform == "darwin" else 1024
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"resident_bytes": high, "anonymous_bytes": None, "how": "ru_maxrss"}


def _status(path: Path, key: str) -> int | None:
    """Bytes of one line of /proc/self/status, which gives kB; None where there is no such line."""
    try:
        lines = path.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), None)
