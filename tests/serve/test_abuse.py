"""Bytes that nobody would send by mistake: never a failure of the service, no file written. bench/abuse.py does it for longer."""

from pathlib import Path

import pytest
from hostile import bodies
from served import toy
from starlette.testclient import TestClient

from frostline.serve.api import create_app
from frostline.serve.settings import ServeSettings

REFUSALS = {200, 400, 408, 413, 415, 422, 503}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def app(predictor):
    return create_app({"toy": predictor}, ServeSettings(max_request_bytes=1_000_000, max_pixels=4_000_000))


def files_below(folder):
    return {path for path in Path(folder).rglob("*") if path.is_file()}


def test_mutated_bytes_are_answered_or_refused(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = {}
    with TestClient(app) as client:
        for number, (path, headers, body) in enumerate(bodies(400, seed=1)):
            answer = client.post(path, content=body, headers=headers)
            assert answer.status_code in REFUSALS, (number, path, headers, body[:100], answer.text)
            assert answer.headers["content-type"].startswith(("application/json", "application/octet-stream"))
            found[answer.status_code] = found.get(answer.status_code, 0) + 1
        assert client.get("/healthz").status_code == 200
        assert app.state.service.default.batcher.claimed == 0
        assert app.state.bodies.held == 0
    assert files_below(tmp_path) == set()
    assert {200, 400, 413, 415, 422} <= set(found), found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of schemathesis' own dependencies
def test_its_own_description_holds(app):
    """A few requests of every kind that schemathesis makes of the description: no failure of the server, no undescribed answer."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis (extra dev) is not installed")
    from hypothesis import HealthCheck, given, settings
    from schemathesis import checks

    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    wanted = [checks.not_a_server_error]
    tried = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def ask(case):
            answer = case.call()
            tried.append((case.method, case.path))
            case.validate_response(answer, checks=wanted)
            assert str(answer.status_code) in case.operation.definition.raw["responses"], (answer.status_code, case.path)

        ask()
    assert len(set(tried)) >= 12
