"""What was asked for is looked at before the folder of a run is touched."""

import shutil

import pytest
from drawing import tinted_folders

from frostline.config import Settings
from frostline.errors import UserError
from frostline.experiment import train
from frostline.runs import Run

SCRATCH = Settings(recipe="quick", kind="scratch", network="cnn-small", epochs=1, batch_size=8, device="cpu", precision="f32")


@pytest.fixture
def data(tmp_path):
    return tinted_folders(tmp_path / "data", ["a", "b"], 12)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mistakes(data, tiny):
    """What to train on, and with what: the data, a column or the weights are not there, or weights and network do not fit."""
    torn = tiny.with_values(weights=str(data))
    return [(data.parent / "typo", SCRATCH), (data, SCRATCH.with_values(group="patient")), (data, torn)]


def test_a_mistake_costs_no_finished_run(data, tiny, tmp_path, without_pictures):
    train(data, SCRATCH, tmp_path / "run")
    before = contents(tmp_path / "run")
    for wrong, settings in mistakes(data, tiny):
        with pytest.raises(UserError):
            train(wrong, settings, tmp_path / "run", overwrite=True)
        assert contents(tmp_path / "run") == before
    # what shows only while it trains costs none either: the old one lies aside
    with pytest.raises(UserError, match="pixels cannot change"):
        train(data, tiny.with_values(mirror=True), tmp_path / "run", overwrite=True)
    assert contents(tmp_path / "run") == before
    Run.open(tmp_path / "run").verify()


def test_a_mistake_leaves_no_folder(data, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong, settings in mistakes(data, tiny):
        with pytest.raises(UserError):
            train(wrong, settings)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_repeated_command_does_not_delete_what_can_go_on(data, tmp_path, without_pictures):
    train(data, SCRATCH, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "epoch-000001.safetensors").write_text("half an hour")
    before = contents(tmp_path / "run")
    for place in (data, tmp_path / "typo"):
        with pytest.raises(UserError, match="can go on") as caught:
            train(place, SCRATCH, tmp_path / "run")
        assert "--resume" in caught.value.hint
        assert contents(tmp_path / "run") == before
    train(data, SCRATCH, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_folder_that_may_not_be_taken_is_known_before_the_data_are_read(data, tmp_path, monkeypatch, without_pictures):
    train(data, SCRATCH, tmp_path / "run")
    shutil.rmtree(data)  # reading them would be another error
    with pytest.raises(UserError, match="holds a finished run"):
        train(data, SCRATCH, tmp_path / "run")


def test_loading_is_timed(data, tmp_path, without_pictures):
    assert train(data, SCRATCH, tmp_path / "run").read("timings.json")["data"] > 0
