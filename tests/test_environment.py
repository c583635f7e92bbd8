from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from frostline import environment

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    return tmp_path / "cpuinfo"


def test_describe_is_json_and_names_what_decides_results() -> None:
    record = json.loads(json.dumps(environment.describe(), allow_nan=False))
    assert record["packages"]["numpy"] == np.__version__
    assert set(record["packages"]) == set(environment.PACKAGES)
    assert record["cpu"]["cores"] >= 1


def test_absent_packages_are_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-distribution"))
    assert environment.describe()["packages"] == {"numpy": np.__version__, "no-such-distribution": None}


def test_describe_imports_no_torch() -> None:
    code = "import sys; from frostline import environment; environment.describe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@linux
@pytest.mark.parametrize(
    ("text", "bf16", "vnni"),
    [
        ("model name\t: A\nflags\t\t: fpu avx512_bf16 avx512_vnni\n", True, True),
        ("flags\t\t: fpu amx_bf16 amx_int8\n", True, True),
        ("flags\t\t: fpu avx2 avx_vnni\n", False, True),
        ("flags\t\t: fpu avx2 avx512_bf16x\n", False, False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n", True, True),
        ("Features\t: fp asimd\n", False, False),
        ("", False, False),
    ],
)
def test_flags_of_processors(cpuinfo: Path, text: str, bf16: bool, vnni: bool) -> None:
    cpuinfo.write_text(text)
    assert (environment.has_bf16(cpuinfo), environment.has_vnni(cpuinfo)) == (bf16, vnni)


def test_an_unknown_processor_has_nothing(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "platform", "win32")
    assert environment.cpu_flags(cpuinfo) == frozenset()
    assert environment.has_bf16(cpuinfo) is False


def test_macos_tells_by_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "hw.optional": "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_SME: 0\n",
        "machdep.cpu.brand_string": "machdep.cpu.brand_string: Apple M2\n",
    }
    monkeypatch.setattr(environment.sys, "platform", "darwin")
    monkeypatch.setattr(environment, "_sysctl", told.__getitem__)
    assert environment.cpu_flags() == {"bf16", "dotprod"}
    assert environment.has_bf16()
    assert environment.cpu_model() == "Apple M2"
    monkeypatch.setattr(environment, "_sysctl", lambda name: "")
    assert not environment.has_bf16()


@linux
def test_model_name(cpuinfo: Path) -> None:
    cpuinfo.write_text("vendor_id : X\nmodel name\t: Fast: 9000 \nmodel name : other\n")
    assert environment.cpu_model(cpuinfo) == "Fast: 9000"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu.max": "9900000 100000"}, 8),
        ({}, 8),
    ],
)
def test_cores_heed_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], wanted: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert environment.cores(tmp_path) == wanted


def test_memory_heeds_the_limit(tmp_path: Path) -> None:
    whole = environment.memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert environment.memory(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1048576\n")
    assert environment.memory(tmp_path) == 1048576


# In a process of its own: in one that has run other tests, memory that they hold may be given back meanwhile.
WATCHED = """
import json
import numpy as np
from frostline import environment

with environment.MemoryWatch(every_s=60) as watch:
    before = watch.anonymous
    block = np.ones(64 << 20, np.uint8)
    watch.sample()
    del block
print(json.dumps({"before": before, "ended": not watch._thread.is_alive(), **watch.peak()}))
"""


@linux
def test_watch_sees_anonymous_memory_that_is_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    record = json.loads(run.stdout)
    assert record["anonymous_bytes"] - record["before"] > 60 << 20
    assert record["resident_bytes"] > record["anonymous_bytes"] // 2
    assert "RssAnon" in record["how"]
    assert record["ended"]


def test_watch_samples_by_itself(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("VmHWM:\t     300 kB\nRssAnon:\t     100 kB\n")
    with environment.MemoryWatch(every_s=1e-4, status=status) as watch:
        status.write_text("VmHWM:\t     300 kB\nRssAnon:\t     200 kB\n")
        while watch.anonymous != 200 * 1024:
            watch._done.wait(1e-4)
        status.write_text("VmHWM:\t     300 kB\nRssAnon:\t      50 kB\n")
    assert watch.peak()["anonymous_bytes"] == 200 * 1024
    assert watch.peak()["resident_bytes"] == 300 * 1024


def test_elsewhere_the_record_says_which_figure_it_is(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    with environment.MemoryWatch(status=tmp_path / "none") as watch:
        pass
    assert watch.peak()["how"] == "ru_maxrss"
    assert watch.peak()["anonymous_bytes"] is None
    assert watch.peak()["resident_bytes"] > 1 << 20
