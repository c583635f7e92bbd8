"""What people hand to the page: their files and archives, nobody else's, within limits."""

import zipfile

import pytest
from drawing import drawn, encoded

from frostline.decode import BadImage
from frostline.serve import page_uploads
from frostline.serve.page_uploads import images, received
from frostline.serve.refusals import Refused

JPEG = encoded(drawn(1))


def packed(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def told(files, largest=100_000):
    return [(name, str(data) if isinstance(data, BadImage) else len(data)) for name, data in images(files, largest)]


def test_files_and_members_are_called_as_they_were_at_home(tmp_path):
    archive = packed(tmp_path / "a.zip", **{"one.jpg": JPEG, "deep/two.jpg": JPEG, "notes.txt": b"x", "__MACOSX/._one.jpg": b"x"})
    (tmp_path / "b.jpg").write_bytes(JPEG)
    files = [("my holiday.zip", archive), ("b.jpg", tmp_path / "b.jpg")]
    assert told(files) == [("my holiday.zip/one.jpg", len(JPEG)), ("my holiday.zip/deep/two.jpg", len(JPEG)), ("b.jpg", len(JPEG))]


def test_what_is_too_large_or_broken_is_a_row(tmp_path):
    large = packed(tmp_path / "a.zip", **{"bomb.png": bytes(300_000)})
    (tmp_path / "b.zip").write_bytes(b"PK\3\4 no archive")
    (tmp_path / "c.jpg").write_bytes(bytes(200_000))
    none = packed(tmp_path / "d.zip", **{"notes.txt": b"x"})
    rows = told([("a.zip", large), ("b.zip", tmp_path / "b.zip"), ("c.jpg", tmp_path / "c.jpg"), ("d.zip", none)])
    assert rows[0] == ("a.zip/bomb.png", "over-large: 300,000 bytes, at most 100,000 are read")
    assert rows[1][0] == "b.zip"
    assert "damaged" in rows[1][1]
    assert rows[2] == ("c.jpg", "over-large: 200,000 bytes, at most 100,000 are read")
    assert rows[3] == ("d.zip", "no images in this archive")


def test_a_huge_list_of_members_is_not_read(tmp_path, monkeypatch):
    archive = packed(tmp_path / "a.zip", **{f"{number}.jpg": b"" for number in range(50)})
    monkeypatch.setattr(page_uploads, "MOST_LISTED", 1000)
    ((name, reason),) = told([("a.zip", archive)])
    assert name == "a.zip"
    assert reason.startswith("over-large: a list of members of")


@pytest.mark.parametrize("how", ["64-bit", "a comment", "an end in the end"])
def test_the_list_s_size_is_read_where_zipfile_reads_it(tmp_path, how):
    """An end that says nothing, and what ``zipfile`` believes instead."""
    path = packed(tmp_path / "a.zip", **{f"{number}.jpg": b"" for number in range(50)})
    data = path.read_bytes()
    size = int.from_bytes(data[-10:-6], "little")
    if how == "64-bit":
        path.write_bytes(data[:-22] + b"PK\6\7" + bytes(16) + data[-22:-10] + bytes(4) + data[-6:])
        assert page_uploads._listed(path) > page_uploads.MOST_LISTED
    elif how == "a comment":
        path.write_bytes(data[:-2] + b"\4\0nice")
        assert page_uploads._listed(path) == size
    else:  # the place of the list, which a reader that takes the last one it finds would take for another end
        path.write_bytes(data[:-6] + b"PK\5\6" + data[-2:])
        assert page_uploads._listed(path) == size


def test_an_archive_inside_the_name_of_another_keeps_no_server_path(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\5\6")
    assert str(tmp_path) not in str(told([("x.zip", tmp_path / "x.zip")]))


def test_too_many_are_refused(tmp_path, monkeypatch):
    archive = packed(tmp_path / "a.zip", **{f"{number}.jpg": JPEG for number in range(4)})
    monkeypatch.setattr(page_uploads, "MOST_FILES", 3)
    with pytest.raises(Refused, match="too many") as refused:
        told([("a.zip", archive)])
    assert (refused.value.status, refused.value.expected) == (413, "at most 3 files, at once")
    monkeypatch.setattr(page_uploads, "MOST_FILES", 9)
    monkeypatch.setattr(page_uploads, "MOST_UNPACKED", 2 * len(JPEG))
    with pytest.raises(Refused, match="too many"):
        told([("a.zip", archive)])


def test_only_what_was_sent_here_is_read(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "x.png").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "secret")
    assert received({"path": str(folder / "x.png"), "orig_name": "a\nb.png"}, folder) == ("a\\nb.png", folder / "x.png")
    for path in ("/etc/passwd", str(folder / ".." / "secret"), str(folder / "link"), str(folder), None):
        with pytest.raises(Refused, match="no longer here"):
            received({"path": path}, folder)
