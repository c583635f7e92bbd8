"""The binary records of CIFAR, drawn here: no image of theirs."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from frostline.data import cifar
from frostline.data.cifar import PUBLISHED
from frostline.data.rows import pixel_digests
from frostline.data.sources import load_source
from frostline.errors import UserError


def records(labels: list[int], seed: int, coarse: bool = False) -> tuple[bytes, np.ndarray]:
    """Records with these labels, and their pixels (N, 32, 32, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    head = [[99, label] if coarse else [label] for label in labels]
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.concatenate([np.array(head, dtype=np.uint8), planes], axis=1).tobytes(), pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "cifar-10-batches-bin"
    inner.mkdir()
    (inner / "data_batch_1.bin").write_bytes(records([3, 9, 0], 1)[0])
    (inner / "data_batch_2.bin").write_bytes(records([1, 1], 2)[0])
    (inner / "test_batch.bin").write_bytes(records([8], 3)[0])
    return inner


def test_records_become_images(folder: Path) -> None:
    source = load_source(f"cifar10:{folder}")
    train, test = source.sets["train"], source.sets["test"]
    assert train.labels.tolist() == [3, 9, 0, 1, 1]
    assert train.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert train.pixels is not None
    assert np.array_equal(train.pixels[:3], records([3, 9, 0], 1)[1])
    assert np.array_equal(train.pixels[3:], records([1, 1], 2)[1])
    assert train.ids.tolist() == [f"train/0000{number}" for number in range(5)]
    assert test.ids.tolist() == ["test/00000"]
    assert np.array_equal(test.digests, pixel_digests(records([8], 3)[1]))
    assert source.official
    assert source.found == 6
    assert source.notes == (
        "train: 5 images, where the official cifar10 has 50,000.",
        "test: 1 images, where the official cifar10 has 10,000.",
    )


def test_the_folder_above_and_the_archive_hold_the_same(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "copy.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    wanted = load_source(f"cifar10:{folder}").sets["train"].fingerprint
    assert load_source(f"cifar10:{folder.parent}").sets["train"].fingerprint == wanted
    for _ in range(2):  # unpacked, then found unpacked
        assert load_source(f"cifar10:{archive}").sets["train"].fingerprint == wanted


def test_a_folder_without_test(folder: Path) -> None:
    (folder / "test_batch.bin").unlink()
    source = load_source(f"cifar10:{folder}")
    assert list(source.sets) == ["train"]
    assert "test: 0 images, where the official cifar10 has 10,000." in source.notes


def test_the_hundred_fine_classes(tmp_path: Path) -> None:
    data, pixels = records([0, 52, 99], 5, coarse=True)
    (tmp_path / "train.bin").write_bytes(data)
    train = load_source(f"cifar100:{tmp_path}").sets["train"]
    assert train.labels.tolist() == [0, 52, 99]
    assert [train.classes[label] for label in train.labels] == ["apple", "oak_tree", "worm"]
    assert len(train.classes) == 100
    assert train.pixels is not None
    assert np.array_equal(train.pixels, pixels)


def test_class_names_come_from_the_archive(folder: Path) -> None:
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    assert load_source(f"cifar10:{folder}").sets["train"].classes == tuple("abcdefghij")
    (folder / "batches.meta.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="must name each class once"):
        load_source(f"cifar10:{folder}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (records([1, 2], 0)[0][:-5], "3,068 left over at offset 3,073"),
        (b"", "an empty file"),
        (records([1, 10, 2], 0)[0], r"label 10 at offset 3,073 \(record 1\)"),
    ],
)
def test_broken_records_are_named_by_file_and_offset(folder: Path, data: bytes, message: str) -> None:
    (folder / "data_batch_2.bin").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_source(f"cifar10:{folder}")
    assert "data_batch_2.bin" in str(caught.value)


def test_the_pickled_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match="pickled and not read"):
        load_source(f"cifar10:{tmp_path}")
    with pytest.raises(UserError, match="no such folder"):
        load_source(f"cifar10:{tmp_path / 'none'}")


def test_the_first_use_downloads_and_the_second_does_not(folder: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    asked = []

    def download(url: str, path: Path, *, md5: str, size: int, hint: str) -> Path:
        asked.append((url, md5, size))
        assert "cifar10:PATH" in hint
        path.parent.mkdir(parents=True)
        with tarfile.open(path, "w:gz") as tar:
            tar.add(folder, folder.name)
        return path

    monkeypatch.setattr(cifar, "download", download)
    for _ in range(2):
        assert len(load_source("cifar10").sets["train"]) == 5
    assert asked == [(PUBLISHED["cifar10"].url, "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171)]
    assert sorted(path.name for path in cache_folder.iterdir()) == ["datasets", "downloads"]


@pytest.mark.real
def test_the_reference_copy() -> None:
    source = load_source(f"cifar10:{Path(__file__).parents[3] / 'shared' / 'data' / 'cifar-10-batches-bin'}")
    assert {name: len(images) for name, images in source.sets.items()} == {"train": 50_000, "test": 5_000}
    assert np.bincount(source.sets["train"].labels).tolist() == [5_000] * 10
