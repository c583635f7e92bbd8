"""Rows are read from the very bytes that were verified."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import class_folders, drawn, encoded, put

from frostline.data.imageset import ImageSet
from frostline.data.reading import read_row, stored_blocks, stored_pixels
from frostline.data.sources import load_source
from frostline.decode import decode_rgb
from frostline.errors import UserError
from frostline.preprocess import Preprocess, stored_image

PREPROCESS = Preprocess(size=(24, 32), stored=(24, 32))


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    return load_source(class_folders(tmp_path / "data", {"a": 4, "b": 3})).sets["train"]


def test_rows_are_those_of_the_files(photos: ImageSet) -> None:
    found = stored_pixels(photos, PREPROCESS)
    wanted = [stored_image(decode_rgb(path, at_least=(24, 32)), PREPROCESS) for path in photos.files or ()]
    np.testing.assert_array_equal(found, np.stack(wanted))


def test_a_file_that_was_replaced_is_named_and_not_read(photos: ImageSet) -> None:
    assert photos.files is not None
    put(photos.files[2], encoded(drawn(99)))
    with pytest.raises(UserError, match="changed after the data was looked through") as caught:
        list(stored_blocks(photos, [np.arange(7)], PREPROCESS))
    assert str(photos.files[2]) in caught.value.message
    assert "run again" in caught.value.hint
    assert read_row(photos, 1, PREPROCESS).shape == (24, 32, 3)


def test_two_files_that_changed_places_are_found_out(photos: ImageSet, tmp_path: Path) -> None:
    assert photos.files is not None
    shutil.copy2(photos.files[0], tmp_path / "kept")
    shutil.copy2(photos.files[1], photos.files[0])
    shutil.copy2(tmp_path / "kept", photos.files[1])
    for row in (0, 1):
        with pytest.raises(UserError, match="changed after the data was looked through"):
            read_row(photos, row, PREPROCESS)


def test_a_file_that_vanished_is_named(photos: ImageSet) -> None:
    assert photos.files is not None
    photos.files[3].unlink()
    with pytest.raises(UserError, match="cannot be read now") as caught:
        read_row(photos, 3, PREPROCESS)
    assert str(photos.files[3]) in caught.value.message
    assert caught.value.received == "missing"


def test_digests_that_end_in_zero_bytes_are_digests_too(photos: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = bytes(range(1, 15)) + bytes(2)
    monkeypatch.setattr("frostline.data.reading.digest_bytes16", lambda data: digest)
    ended = replace(photos, digests=np.array([digest] * 7, "S16"))
    assert read_row(ended, 0, PREPROCESS).shape == (24, 32, 3)
