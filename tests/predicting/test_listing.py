"""What may be named to be predicted, in which order it comes, and that any number of names takes little memory."""

import io
import os
import sys
import tracemalloc

import pytest

from frostline.decode import BadImage
from frostline.errors import UserError
from frostline.predicting.listing import check_not_among, image_files, in_order, listed


def touched(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names(root, paths, **options):
    return [item.name.removeprefix(f"{root}/") for item in listed(map(str, paths), **options)]


def test_a_folder_is_its_images_in_order(tmp_path):
    touched(tmp_path, "b.png", "a.JPG", "sub/deep/z.webp", "sub/a.gif", "sub.png", "notes.txt", "d.heic", "sub/notes.md")
    wanted = ["a.JPG", "b.png", "d.heic", "sub.png", "sub/a.gif", "sub/deep/z.webp"]
    assert names(tmp_path, [tmp_path]) == wanted
    assert [str(path.relative_to(tmp_path)) for path in image_files([tmp_path])] == wanted
    assert names(tmp_path, [tmp_path], recursive=False) == wanted[:4]


def test_what_holds_no_images_is_an_item_beside_what_does(tmp_path):
    touched(tmp_path, "full/a.png", "empty/notes.txt")
    found = list(listed(map(str, [tmp_path / "empty", tmp_path / "full"])))
    assert [item.name for item in found] == [str(tmp_path / "full" / "a.png"), str(tmp_path / "empty")]
    assert isinstance(found[1].source, BadImage)
    assert str(found[1].source) == "no images in it"
    assert list(listed([str(tmp_path / "empty")])) == []


def test_hidden_files_and_litter_are_left_aside(tmp_path):
    touched(tmp_path, ".hidden.png", "._a.png", "__MACOSX/a.png", ".git/b.png", "@eaDir/c.png", "kept.png")
    assert names(tmp_path, [tmp_path]) == ["kept.png"]
    assert names(tmp_path, [tmp_path / ".hidden.png"]) == [".hidden.png"]  # it is named


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path):
    touched(tmp_path, "notes.txt")
    assert names(tmp_path, [tmp_path / "notes.txt", tmp_path / "gone.png"]) == ["notes.txt", "gone.png"]


def test_links_to_files_are_followed_and_to_folders_are_not(tmp_path):
    touched(tmp_path, "real/a.png")
    (tmp_path / "real" / "link.png").symlink_to("a.png")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "real" / "loop.png").symlink_to(tmp_path)
    (tmp_path / "real" / "gone.png").symlink_to("nowhere")
    assert names(tmp_path, [tmp_path / "real"]) == ["real/a.png", "real/gone.png", "real/link.png"]
    (tmp_path / "named").symlink_to("real")
    assert len(names(tmp_path, [tmp_path / "named"])) == 3


def test_a_folder_that_cannot_be_read_is_an_item_with_the_reason(tmp_path, monkeypatch):
    touched(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    original = os.scandir

    def scandir(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = list(listed([str(tmp_path)]))
    assert [item.name.removeprefix(f"{tmp_path}/") for item in found] == ["a/1.png", "b", "c/3.png"]
    with pytest.raises(BadImage, match="unreadable: Permission denied"):
        found[1].encoded()


def test_patterns(tmp_path):
    touched(tmp_path, "a/1.png", "a/2.jpg", "b/deep/3.png", "b/[x].png", "4.png")
    assert names(tmp_path, [tmp_path / "*/*.png"]) == ["a/1.png", "b/[x].png"]
    assert names(tmp_path, [tmp_path / "**/*.png"]) == ["4.png", "a/1.png", "b/[x].png", "b/deep/3.png"]
    assert names(tmp_path, [tmp_path / "[ab]"]) == ["a/1.png", "a/2.jpg", "b/[x].png", "b/deep/3.png"]
    assert names(tmp_path, [tmp_path / "b" / "[x].png"]) == ["b/[x].png"]  # a file of this very name
    (item,) = listed([str(tmp_path / "*.bmp")])
    with pytest.raises(BadImage, match="no file fits"):
        item.encoded()


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"a.png\r\nb.png", ["a.png", "b.png"]),
        (b"a.png\0b\nc.png\0", ["a.png", "b\\nc.png"]),
        (b"\n\n*.png\n", ["*.png"]),
        (b"", []),
    ],
)
def test_a_list_on_standard_input(data, wanted):
    assert names("", ["-"], stdin=io.BytesIO(data)) == wanted


def test_a_list_may_name_folders_among_files(tmp_path):
    touched(tmp_path, "photos/1.png", "photos/2.png")
    found = names(tmp_path, ["before.png", "-", "after.png"], stdin=io.BytesIO(f"{tmp_path}/photos\n".encode()))
    assert found == ["before.png", "photos/1.png", "photos/2.png", "after.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_names_are_one_printable_line_and_stay_different(tmp_path):
    for name in (b"caf\xe9.png", b"line\nbreak.png", b"line\\nbreak.png"):
        touched(tmp_path, os.fsdecode(name))
    found = names(tmp_path, [tmp_path])
    assert sorted(found) == sorted(["caf\\udce9.png", "line\\nbreak.png", "line\\\\nbreak.png"])
    assert {item.source.read_bytes() for item in listed([str(tmp_path)])} == {b"x"}


@pytest.mark.parametrize("most", [1, 2, 3, 7, 10, 11, 1000])
def test_sorting_beyond_memory(most):
    words = [f"{(number * 7919) % 10}-é\udce9-{number}" for number in range(10)]
    assert list(in_order(iter(words), most)) == sorted(words)
    assert list(in_order([], most)) == []


def test_many_names_take_little_memory():
    tracemalloc.start()
    count = sum(1 for _ in in_order((f"{(number * 7919) % 100_003:08d}.png" for number in range(100_000)), 2000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 12_000_000  # the names alone are 6 MB


def test_a_pattern_follows_no_link_back_to_its_own_folder(tmp_path, monkeypatch):
    touched(tmp_path, "a.png", "sub/b.png", "sub/deep/c.png", ".hidden/d.png", "sub/.e.png")
    (tmp_path / "sub" / "back").symlink_to(tmp_path)
    (tmp_path / "sub" / "again").symlink_to(tmp_path / "sub")
    wanted = ["a.png", "sub/b.png", "sub/deep/c.png"]
    assert names(tmp_path, [tmp_path / "**" / "*.png"]) == wanted
    assert names(tmp_path, [tmp_path / "**"]) == wanted
    assert names(tmp_path, [tmp_path / "s*" / "**" / "*.png"]) == wanted[1:]
    assert names(tmp_path, [tmp_path / "**" / "deep" / "*.png"]) == wanted[2:]
    assert names(tmp_path, [tmp_path / "s**" / "**" / "*.png"]) == wanted[1:]
    monkeypatch.chdir(tmp_path)
    assert [item.name for item in listed(["**/*.png"])] == wanted
    assert [item.name for item in listed(["sub/**/*.png"])] == wanted[1:]


def test_what_is_read_is_not_written_over(tmp_path):
    photo, rows = tmp_path / "a.jpg", tmp_path / "rows.csv"
    photo.write_bytes(b"photo")
    check_not_among(rows, ["-", str(photo), str(tmp_path / "*.jpg")])
    (tmp_path / "same.csv").symlink_to(photo)
    for output in (photo, tmp_path / "same.csv"):
        with pytest.raises(UserError, match="is to be read"):
            check_not_among(output, ["-", str(tmp_path), str(photo)])
