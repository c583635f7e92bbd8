from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frostline.errors import UserError
from frostline.predictions import Predictions


def drawn(n: int = 5, k: int = 3, dtype: type = np.float32, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=np.array([f"größe/{i:03d}.png" for i in range(n)], dtype=np.str_),
        labels=rng.integers(-1, k, n),
        probabilities=rng.dirichlet(np.ones(k), n).astype(dtype),
        classes=tuple(f"类{i}" for i in range(k)),
        digests=np.array([rng.bytes(15) + b"\0" for _ in range(n)], dtype="S16"),
    )


def changed(**columns: Any) -> Predictions:
    return replace(drawn(), **columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_predictions_come_back_exactly(tmp_path: Path, dtype: type) -> None:
    before = drawn(dtype=dtype)
    before.save(tmp_path / "new" / "test.npz")
    after = Predictions.load(tmp_path / "new" / "test.npz")
    assert after.classes == before.classes
    assert after.probabilities.dtype == dtype
    for name in ("ids", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.digests.tobytes() == before.digests.tobytes()


def test_equal_predictions_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        drawn().save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_predicted_is_the_first_of_the_most_probable() -> None:
    p = changed(
        probabilities=np.array([[0.4, 0.4, 0.2], [0, 0.5, 0.5], [0, 0, 1], [1, 0, 0], [0, 1, 0]]),
        labels=np.array([0, 2, 2, -1, -1]),
    )
    assert p.predicted.tolist() == [0, 1, 2, 0, 1]
    assert p.correct.tolist() == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"ids": np.array(["a", "b"])}, "ids has shape"),
        ({"ids": np.array(["a", "a", "b", "c", "d"])}, "unique"),
        ({"ids": np.arange(5)}, "text"),
        ({"labels": np.array([0, 1, 2, 3, 0])}, "labels must lie"),
        ({"labels": np.array([0, 1, 2, -2, 0])}, "labels must lie"),
        ({"labels": np.zeros(5, np.int32)}, "int64"),
        ({"classes": ("a", "b")}, "probabilities has shape"),
        ({"classes": ("a", "b", "a")}, "none twice"),
        ({"probabilities": np.full((5, 3), 0.4)}, "sum to 1"),
        ({"probabilities": np.full((5, 3), np.nan)}, "finite"),
        ({"probabilities": np.tile([1.5, -0.5, 0], (5, 1))}, "not negative"),
        ({"probabilities": np.full((5, 3), 1 / 3, np.float16)}, "float32 or float64"),
        ({"digests": np.full(5, b"x", dtype="S8")}, "S16"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(**columns)


def test_no_rows_are_still_predictions() -> None:
    assert len(drawn(n=0)) == 0


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are no predictions"):
        Predictions.load(tmp_path / "none.npz")


def test_every_truncation_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    drawn().save(path)
    whole = path.read_bytes()
    for data in [*(whole[:size] for size in range(0, len(whole), 97)), b"text named .npz"]:
        path.write_bytes(data)
        with pytest.raises(UserError):
            Predictions.load(path)


def test_a_changed_byte_is_noticed_or_without_effect(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    drawn().save(path)
    whole, noticed = path.read_bytes(), 0
    for at in range(0, len(whole), 13):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            after = Predictions.load(path)
        except UserError:
            noticed += 1
        else:  # a time stamp or a name inside the archive that nobody reads
            assert after.probabilities.tobytes() == drawn().probabilities.tobytes()
            assert after.ids.tolist() == drawn().ids.tolist()
    assert noticed > 50


def test_an_archive_of_other_things_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(UserError, match="no predictions this version"):
        Predictions.load(tmp_path / "other.npz")
    np.savez(tmp_path / "part.npz", format=np.int64(1), classes=np.array(["a"]))
    with pytest.raises(UserError, match="do not fit together"):
        Predictions.load(tmp_path / "part.npz")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", format=np.int64(1), ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        Predictions.load(tmp_path / "bad.npz")
    with zipfile.ZipFile(tmp_path / "bad.npz") as archive:
        assert "ids.npy" in archive.namelist()
