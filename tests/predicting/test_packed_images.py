"""Archives are read image by image, and whatever is wrong with them is a row with its reason."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from drawing import drawn, encoded

from frostline.decode import BadImage
from frostline.predicting import packed_images
from frostline.predicting.packed_images import is_archive, members

IMAGES = {"a.png": encoded(drawn(1), "PNG"), "sub/b.jpg": encoded(drawn(2)), "c.heic": b"heic"}
ASIDE = {"notes.txt": b"text", "__MACOSX/._a.png": b"x", ".hidden.png": b"x", "__MACOSX/._x.zip": b"x"}


def zipped(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def tarred(path, contents):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" or path.suffix == ".tgz" else "w") as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def made(path, contents):
    return (zipped if path.suffix == ".zip" else tarred)(path, contents)


def reasons(path):
    """Name → reason of what cannot be read."""
    found = {}
    for item in members(path):
        try:
            item.encoded()
        except BadImage as error:
            found[item.name.removeprefix(f"{path.parent}/")] = str(error)
    return found


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz"])
def test_the_images_in_their_order(tmp_path, name):
    path = made(tmp_path / name, {**IMAGES, **ASIDE})
    assert is_archive(path)
    items = list(members(path))
    assert [item.name for item in items] == [f"{path}/{name}" for name in IMAGES]
    assert [item.encoded() for item in items] == list(IMAGES.values())


def test_what_is_looked_into():

    assert [is_archive(Path(name)) for name in ("A.ZIP", "a.Tar.GZ", "a.gz", "a.zip.png", "zip")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize("share", [0, 0.4, 0.9])
def test_cut_short(tmp_path, name, share):
    path = made(tmp_path / name, IMAGES)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    found = reasons(path)
    if name != "x.tar" or share < 0.9:  # the end of a tar is padding
        assert "damaged or cut short" in found[name] or "truncated" in str(found)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_what_is_no_archive(tmp_path, name):
    (tmp_path / name).write_bytes(b"text" * 300)
    assert list(reasons(tmp_path / name)) == [name]


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_archive_inside_an_archive_is_not_looked_into_and_says_so(tmp_path, name):
    path = made(tmp_path / name, {"in/more.zip": b"PK", "notes.txt": b"words"})
    assert reasons(path) == {f"{name}/in/more.zip": "an archive inside an archive is not looked into"}


def test_links_and_devices_in_a_tar(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("device.png", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert reasons(tmp_path / "x.tar") == {
        "x.tar/link.png": "a link in an archive",
        "x.tar/hard.png": "a link in an archive",
        "x.tar/device.png": "not a regular file",
    }


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_a_member_that_is_too_large_is_a_row(tmp_path, name, monkeypatch):
    monkeypatch.setattr(packed_images, "MOST_BYTES", 1000)
    path = made(tmp_path / name, {"large.png": bytes(1001), "small.png": bytes(999)})
    assert reasons(path) == {f"{name}/large.png": "over-large: 1,001 bytes, at most 1,000 are read from an archive"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_bomb_ends_the_archive(tmp_path, name, monkeypatch):
    monkeypatch.setattr(packed_images, "GIB", 1 << 20)
    path = made(tmp_path / name, {f"{number}.bmp": bytes(1 << 20) for number in range(10)})
    found = reasons(path)
    assert list(found) == [name]
    assert "more than" in found[name]
    assert 1 <= len(list(members(path))) < 10


def test_an_entry_that_is_longer_than_it_says(tmp_path):
    data = zipped(tmp_path / "x.zip", {"a.bmp": bytes(1 << 20)}).read_bytes()
    (tmp_path / "x.zip").write_bytes(data.replace((1 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    assert "damaged in its archive" in reasons(tmp_path / "x.zip")["x.zip/a.bmp"]


def test_encrypted_damaged_and_strangely_compressed_entries(tmp_path):
    data = bytearray(zipped(tmp_path / "x.zip", {"a.png": IMAGES["a.png"]}).read_bytes())
    central = data.index(b"PK\1\2")
    for at, value, reason in ((8, 1, "encrypted"), (10, 99, "neither stored nor deflated"), (16, 77, "damaged in its archive")):
        spoiled = bytearray(data)
        spoiled[central + at] ^= value
        (tmp_path / "x.zip").write_bytes(spoiled)
        assert reason in reasons(tmp_path / "x.zip")["x.zip/a.png"]


def test_names_that_lead_elsewhere_are_only_names(tmp_path):
    path = zipped(tmp_path / "x.zip", {"../../a.png": IMAGES["a.png"], "/etc/b.png": b"", "line\nbreak.png": b""})
    assert [item.name for item in members(path)] == [f"{path}/../../a.png", f"{path}//etc/b.png", f"{path}/line\\nbreak.png"]
    assert [found.name for found in tmp_path.iterdir()] == ["x.zip"]


def test_a_tar_of_any_length_is_not_remembered(tmp_path):
    path = tarred(tmp_path / "x.tar", {f"{number}.png": b"x" for number in range(50)})
    with tarfile.open(path, "r|") as tar:
        for _ in packed_images._entries(path, tar, path.stat().st_size):
            assert len(tar.getmembers() if tar._loaded else vars(tar)["members"]) <= 1


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_without_a_limit_is_not_unpacked(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a.png", bytes(1 << 20))
    assert reasons(tmp_path / "x.zip") == {"x.zip/a.png": "compressed in a way that is not read: neither stored nor deflated"}


@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
@pytest.mark.parametrize("inner", ["a.jpg", "notes.txt"])
def test_a_member_that_claims_to_be_longer_than_its_archive_ends_it(tmp_path, monkeypatch, name, inner):
    monkeypatch.setattr(packed_images, "GIB", 1 << 20)
    entry = tarfile.TarInfo(inner)
    entry.size = 2**60
    data = entry.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name == "x.tgz" else data)
    found = reasons(path)
    assert found.pop(name) == "damaged or cut short: a member that is longer than the archive"
    assert [(member, reason.split(":")[0]) for member, reason in found.items()] == (
        [(f"{name}/a.jpg", "over-large")] if inner == "a.jpg" else []
    )


def test_a_member_with_holes_ends_no_archive(tmp_path):
    sparse = tarfile.TarInfo("disk.png")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (0, 512)  # the one part that is not a hole
    head[483:495] = b"%011o\0" % (50 * 2**20)  # how long it is with its holes
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    plain = tarred(tmp_path / "plain.tar", {"b.png": IMAGES["a.png"]}).read_bytes()
    path = tmp_path / "x.tar"
    path.write_bytes(bytes(head) + bytes(512) + plain)
    found = list(members(path))
    assert [item.name.rpartition("/")[2] for item in found] == ["disk.png", "b.png"]
    assert reasons(path) == {"x.tar/disk.png": "not a regular file"}
    assert found[1].encoded() == IMAGES["a.png"]
