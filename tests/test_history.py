from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import UserError
from frostline.history import append_row, read_rows, write_events, write_table

ROWS = [
    {"images": 2000, "validation_accuracy": 0.5, "interval": [0.4, 0.6]},
    {"epoch": 1, "train_loss": 1.5},
    {"epoch": 2, "lr": 0.1},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for row in ROWS:
        append_row(tmp_path / "history.jsonl", row)
    return tmp_path / "history.jsonl"


def test_rows_come_back(path: Path) -> None:
    assert read_rows(path) == ROWS


def test_every_torn_end_leaves_the_whole_rows(path: Path) -> None:
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read_rows(path) == ROWS[: sum(end <= size for end in ends)]


def test_other_damage_is_a_user_error(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'{"epoch": 1', b'{"epoch" 1'))
    with pytest.raises(UserError, match="Line 2 of"):
        read_rows(path)


def test_diverged_losses_are_null(path: Path) -> None:
    append_row(path, {"epoch": 3, "train_loss": float("inf")})
    assert read_rows(path)[-1] == {"epoch": 3, "train_loss": None, "not_finite": ["train_loss: inf"]}


def test_table_has_a_column_per_key(tmp_path: Path) -> None:
    write_table(tmp_path / "history.csv", ROWS[1:])
    assert (tmp_path / "history.csv").read_text() == "epoch,train_loss,lr\n1,1.5,\n2,,0.1\n"


def test_events_can_be_read_by_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    for _ in range(2):  # written again, the old events are gone
        write_events(tmp_path / "tensorboard", ROWS)
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = [Event.FromString(raw) for raw in RawEventFileLoader(str(file)).Load()]
    found = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert found == [
        (2000, "blocks/validation_accuracy", 0.5),
        (1, "epochs/train_loss", 1.5),
        (2, "epochs/lr", pytest.approx(0.1)),
    ]


def test_without_tensorboard_the_hint_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(UserError, match=r"frostline\[tensorboard\]"):
        write_events(tmp_path / "tensorboard", ROWS)
