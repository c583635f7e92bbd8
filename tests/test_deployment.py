"""The files that others start the service with: what they say fits together, and the container's steps work without a container."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def steps() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined, comments left out."""
    lines = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line and not line.startswith("#"))]


def of(word: str) -> list[str]:
    return [rest for name, rest in steps() if name == word]


def test_the_container_has_two_stages_and_no_root():
    assert len(of("FROM")) == 2
    names = [name for name, _ in steps()]
    assert names.index("USER") < names.index("CMD")
    assert of("USER") == ["frostline"]
    assert json.loads(of("CMD")[-1]) == ["python", "app.py"]
    assert "/readyz" in of("HEALTHCHECK")[0]
    assert of("RUN")[1].endswith('--constraint requirements.lock ".[page]"')


def test_what_the_container_copies_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for line in of("COPY"):
        if line.startswith("--from"):
            continue
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored


def test_the_command_of_procfile_render_and_compose_is_there():
    yaml = pytest.importorskip("yaml")
    kind, _, command = (ROOT / "Procfile").read_text().strip().partition(": ")
    assert (kind, shlex.split(command)) == ("web", ["python", "app.py"])
    (service,) = yaml.safe_load((ROOT / "render.yaml").read_text())["services"]
    assert (service["type"], service["runtime"], service["healthCheckPath"]) == ("web", "docker", "/readyz")
    assert (ROOT / service["dockerfilePath"]).is_file()
    assert {row["key"] for row in service["envVars"]} == {"FROSTLINE_MODEL", "FROSTLINE_API_KEY"}
    box = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["frostline"]
    assert box["ports"] == ["127.0.0.1:8000:8000"]
    assert (box["read_only"], box["cap_drop"]) == (True, ["ALL"])
    assert "PORT=8000" in of("ENV")[0]


def test_hosts_without_containers_install_the_page_at_the_locked_versions():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["--constraint requirements.lock", ".[page]"]


def test_a_space_starts_the_service_with_its_page(monkeypatch):
    import runpy

    said = {}
    monkeypatch.setattr("frostline.cli.main", lambda: said.update(argv=sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.delenv("HOST", raising=False)
    monkeypatch.delenv("FROSTLINE_MODEL", raising=False)
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
    assert said["argv"] == ["serve", "--model", "inside", "--host", "0.0.0.0", "--port", "1234", "--page"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def asked(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> bytes:
    """What an address answers, once something listens there."""
    end = time.monotonic() + seconds
    while True:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            assert time.monotonic() < end, f"nothing at {url}"
            time.sleep(0.1)


@pytest.mark.install
def test_the_container_s_install_steps_give_a_server(tmp_path):
    """Its RUN lines in an empty environment, with what .dockerignore lets through, then its command."""
    place, build = tmp_path / "opt", tmp_path / "build"
    build.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        shutil.copy(ROOT / name, build)
    shutil.copytree(ROOT / "src", build / "src", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for line in of("RUN")[:2]:
        command = line.replace("python -m venv", f"{sys.executable} -m venv").replace("/opt/frostline", str(place))
        subprocess.run(shlex.split(command), cwd=build, env=environment, check=True, capture_output=True)
    run = {**environment, "PATH": f"{place}/bin:{environment['PATH']}", "PORT": str(free_port()), "HOST": "127.0.0.1"}
    run |= {"FROSTLINE_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)}
    code = "import importlib.util as u; print([n for n in ('torch', 'timm') if u.find_spec(n)])"
    assert subprocess.check_output([place / "bin" / "python", "-c", code], env=run, cwd=build, text=True).strip() == "[]"
    shutil.copy(ROOT / "app.py", build)
    process = subprocess.Popen([place / "bin" / "python", "app.py"], cwd=build, env=run)
    try:
        address = f"http://127.0.0.1:{run['PORT']}"
        assert json.loads(asked(f"{address}/readyz", process)) == {"status": "ready"}
        assert b"<title>" in asked(f"{address}/", process) or b"gradio" in asked(f"{address}/", process)
        health = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
        assert subprocess.run([place / "bin" / health[0], *health[1:]], env=run, check=False).returncode == 0
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(30)
    assert ended == 0
    assert list(tmp_path.glob("frostline-page-*")) == []
