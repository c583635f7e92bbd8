"""``frostline serve`` as a process: named models, several workers, SIGTERM under load, addresses that are taken."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from served import pictures
from toymodel import CLASSES, probabilities, write_toy
from typer.testing import CliRunner

from frostline.cli import app as command_line
from frostline.errors import UserError
from frostline.serve import running
from frostline.serve.metrics import OWN
from frostline.serve.settings import ServeSettings

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model")


@contextlib.contextmanager
def started(folder, log, *options):
    """A running ``frostline serve``: the process and its port; it must end well when told to."""
    command = [sys.executable, "-m", "frostline", "serve", "--model", f"toy={folder}", "--port", "0", "--no-page", *options]
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stderr=stream, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield process, _port(process, log)
    finally:
        process.terminate()
        process.wait(60)


def _port(process, log):
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if said := re.search(r"Listening on http://127.0.0.1:(\d+)", log.read_text()):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{said[1]}/readyz").status_code == 200:
                    return int(said[1])
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def test_sigterm_under_load_loses_no_request(folder, tmp_path):
    pixels, files = pictures(6)
    log = tmp_path / "log"
    found, failures = [[] for _ in files], []

    def keep_asking(data, kept):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while True:
                try:
                    kept.append(client.post("/predict?probabilities=true", content=data, headers=PNG))
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    failures.append(error)
                    return

    with started(folder, log) as (process, port):
        threads = [threading.Thread(target=keep_asking, args=pair) for pair in zip(files, found, strict=True)]
        for thread in threads:
            thread.start()
        while min(map(len, found)) < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        for thread in threads:
            thread.join()
    assert failures == []
    for kept, wanted in zip(found, probabilities(pixels), strict=True):
        for answer in kept:
            assert answer.status_code == 200
            (row,) = answer.json()["predictions"]
            np.testing.assert_allclose([row["probabilities"][name] for name in CLASSES], wanted, atol=1e-5)
    assert log.read_text().count('"status": 200') == sum(map(len, found)) + 1


@pytest.mark.slow
def test_several_processes_share_an_address_and_their_counts(folder, tmp_path):
    _, files = pictures(1)
    log = tmp_path / "log"
    with started(folder, log, "--workers", "2") as (process, port):
        url = f"http://127.0.0.1:{port}"
        for _ in range(30):
            assert httpx.post(f"{url}/predict", content=files[0], headers=PNG).status_code == 200
        assert re.search(r'frostline_requests_total\{route="/predict",status="200"\} 30\.0', httpx.get(f"{url}/metrics").text)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    said = log.read_text()
    assert [said.count(text) for text in ("Started server process", "Finished server process")] == [2, 2]
    assert said.count('"path": "/predict"') == 30  # of the last tenth of a second too


def test_models_get_names():
    assert running.named(["cats=/a/b", "/runs/one", "/runs/two/model", "/runs/a b"]) == (
        ("cats", "/a/b"),
        ("one", "/runs/one"),
        ("two", "/runs/two/model"),
        ("a-b", "/runs/a b"),
    )
    with pytest.raises(UserError, match="Two models are called one"):
        running.named(["/a/one", "/b/one"])
    with pytest.raises(UserError, match="stands in addresses"):
        running.named(["a/b=/c"])


def test_a_folder_whose_name_has_an_equals_sign(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert running.named([str(tmp_path / "a=b")]) == (("a-b", str(tmp_path / "a=b")),)


def test_a_model_that_is_none_is_said_once_by_several_processes(tmp_path):
    wrong = running.Application((("toy", str(tmp_path / "none")),), "auto", ServeSettings(workers=2, port=0))
    with pytest.raises(UserError, match="model"):
        running.serve(wrong)


def test_an_address_that_is_taken(folder):
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ServeSettings(port=taken.getsockname()[1])
        with pytest.raises(UserError, match="cannot listen"):
            running.serve(running.Application((("toy", str(folder)),), "auto", settings))


def test_whoever_is_reachable_without_a_key_is_warned(capsys):
    running.warn(ServeSettings())
    running.warn(ServeSettings(host="::1"))
    running.warn(ServeSettings(host="0.0.0.0", api_key="key"))
    assert capsys.readouterr().err == ""
    running.warn(ServeSettings(host="0.0.0.0"))
    assert "FROSTLINE_API_KEY" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"queue_size": 0}, {"timeout_s": 0}, {"sure_from": 1.5}, {"max_pixels": -1}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        ServeSettings(**wrong)


def test_the_command_hands_its_options_on(folder, monkeypatch):
    told = []
    monkeypatch.setattr(running, "serve", told.append)
    options = [
        "--host",
        "::1",
        "--top",
        "1",
        "--queue",
        "9",
        "--max-megapixels",
        "2",
        "--max-request-mb",
        "3",
        "--cors",
        "https://a.org",
    ]
    asked = ["serve", "--model", f"toy={folder}", "--no-page", *options]
    assert CliRunner().invoke(command_line, asked, env={"FROSTLINE_API_KEY": "key"}).exit_code == 0
    (application,) = told
    assert application.models == (("toy", str(folder)),)
    assert application.settings == ServeSettings(
        host="::1",
        top=1,
        queue_size=9,
        max_pixels=2_000_000,
        max_request_bytes=3 * 2**20,
        api_key="key",
        cors_origins=("https://a.org",),
    )


def test_the_default_is_the_model_inside(monkeypatch):
    told = []
    monkeypatch.setattr(running, "serve", told.append)
    assert CliRunner().invoke(command_line, ["serve", "--no-page"]).exit_code == 0
    assert told[0].models == (("inside", "inside"),)


def test_what_fails_in_every_process_is_said_before_they_are_started(folder):
    wrong = running.Application((("toy", str(folder)),), "banana", ServeSettings(workers=2, port=0))
    with pytest.raises(UserError, match="does not compute like that"):
        running.serve(wrong)


def test_the_queue_of_all_processes_is_counted(tmp_path, monkeypatch):
    program = """
import os, sys, time
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from frostline.serve.metrics import Metrics
metrics, queued = Metrics(), int(sys.argv[2])
metrics.watch_queue(lambda: queued)
metrics.claimed()
print("here", flush=True)
if queued == 2: sys.stdin.read()
if queued == 3: print(metrics.text().decode())
"""

    (folder := tmp_path / f"{OWN}x").mkdir()

    def process(queued):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", program, str(folder), str(queued)], **pipes)

    with process(2) as alive:
        assert alive.stdout.readline() == "here\n"
        with process(7) as gone:
            gone.communicate()
        with process(3) as asked:
            said, _ = asked.communicate()
        assert "frostline_queue_images 5.0" in said
        alive.communicate()
