"""The base package alone, in a fresh environment: small, without torch, and it judges and predicts."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image
from toymodel import write_toy

ROOT = Path(__file__).resolve().parent.parent
#: Bytes of everything that the base install brings.
LARGEST = 400_000_000

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of an environment with the base package at the locked versions."""
    return installed(tmp_path_factory.mktemp("base") / "venv", "")


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """The same with the extra that serves."""
    return installed(tmp_path_factory.mktemp("serving") / "venv", "[serve]")


def installed(folder, extras):
    venv.create(folder, with_pip=True)
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--constraint", ROOT / "requirements.lock", f"{ROOT}{extras}"], check=True)
    return folder


def run(base, *arguments, code=0):
    """Standard output of a program of the environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run(
        [base / "bin" / arguments[0], *arguments[1:]], capture_output=True, text=True, env=environment, cwd=base, check=False
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout


def test_it_is_small(base):
    packages = next(base.glob("lib/python*/site-packages"))
    files = [path for path in packages.rglob("*") if path.is_file() and not path.relative_to(packages).parts[0].startswith("pip")]
    assert sum(path.stat().st_size for path in files) <= LARGEST


@pytest.mark.parametrize("name", ["torch", "timm", "sklearn", "scipy", "matplotlib"])
def test_what_training_needs_is_not_there(base, name):
    assert "ModuleNotFoundError" in run(base, "python", "-c", f"try:\n  import {name}\nexcept ImportError as e:\n  print(repr(e))")


def test_it_predicts_and_judges(base, tmp_path):
    model = write_toy(tmp_path / "model")
    for name, colour in (("red", (220, 10, 10)), ("blue", (10, 10, 220))):
        for number in range(3):
            image = Image.fromarray(np.full((20, 30, 3), [*colour[:2], colour[2] + number], np.uint8))
            put(tmp_path / "photos" / name / f"{number}.jpg", encoded(image, "JPEG"))
    rows = json.loads(run(base, "frostline", "predict", tmp_path / "photos" / "red", "--model", model, "--format", "json"))
    assert [row["top"][0]["class"] for row in rows] == ["red"] * 3
    scores = json.loads(run(base, "frostline", "evaluate", model, tmp_path / "photos", "--json"))
    assert (scores["accuracy"], scores["n"]) == (1.0, 6)


def test_the_classifier_inside_predicts(base, tmp_path):
    photo = put(tmp_path / "photo.jpg", encoded(Image.new("RGB", (40, 30), (90, 140, 220)), "JPEG"))
    rows = json.loads(run(base, "frostline", "predict", photo, "--format", "json"))
    assert sum(entry["probability"] for entry in rows[0]["top"]) > 0.5


def test_what_an_extra_brings_is_asked_for(base, tmp_path):
    """A mistake of the user's, said with the command that mends it."""
    photo = put(tmp_path / "photo.png", encoded(Image.new("RGB", (8, 8)), "PNG"))
    ran = subprocess.run(
        [base / "bin" / "frostline", "predict", photo, "--output", tmp_path / "a.parquet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "pip install pyarrow" in ran.stderr


def test_with_the_extra_it_serves_without_torch(serving, tmp_path):
    model = write_toy(tmp_path / "model")
    red = encoded(Image.new("RGB", (30, 20), (230, 10, 10)), "PNG")
    assert "ModuleNotFoundError" in run(serving, "python", "-c", "try:\n  import torch\nexcept ImportError as e:\n  print(repr(e))")
    port = free_port()
    command = [serving / "bin" / "frostline", "serve", "--model", model, "--port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(command, env=environment, cwd=serving, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/readyz", process)
            body = json.dumps({"images": [base64.b64encode(red).decode()]}).encode()
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=10) as answer:
                assert '"red"' in answer.read().decode()
        finally:
            process.terminate()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(url, process):
    """Until it answers with 200, at most a minute."""
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.25)
    raise AssertionError(f"{url} does not answer")


def test_training_says_what_to_install(base, tmp_path):
    """A mistake of the user's, said without a traceback: exit code 2."""
    command = [base / "bin" / "frostline", "train", tmp_path, "--recipe", "cnn-small", "--out", base / "run"]
    for number, name in enumerate(["a", "a", "a", "b", "b", "b"]):
        put(tmp_path / name / f"{number}.png", encoded(Image.new("RGB", (8, 8), (number, 0, 0)), "PNG"))
    ran = subprocess.run(command, capture_output=True, text=True, cwd=base, check=False)
    assert ran.returncode == 2, ran.stderr
    assert "pip install 'frostline[train]'" in ran.stderr


def test_the_python_is_this_one_s_version(base):
    version = run(base, "python", "-c", "import sys; print(sys.version_info[:2])")
    assert version.strip() == str(sys.version_info[:2])
