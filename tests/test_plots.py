from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frostline import plots
from frostline.errors import UserError

pytest.importorskip("matplotlib")

EPOCHS = [
    {"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.3, "validation_loss": 1.9, "validation_accuracy": 0.5},
    {"epoch": 2, "train_loss": 1.0, "train_accuracy": 0.6, "validation_loss": 1.2, "validation_accuracy": 0.7},
    {"epoch": 3, "train_loss": None, "train_accuracy": 0.8, "validation_loss": 1.1, "validation_accuracy": 0.7},
]
POINTS = [
    {"images": n, "seconds": n / 330, "validation_accuracy": a, "interval": [a - 0.01, a + 0.01]}
    for n, a in [(2000, 0.88), (4000, 0.89), (4100, 0.891), (5000, 0.893), (10000, 0.903), (45000, 0.911)]
]


def texts(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlapping(figure: Any, labels: list[Any]) -> list[tuple[str, str]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    pen = FigureCanvasAgg(figure).get_renderer()
    boxes = [(label.get_text(), label.get_window_extent(pen)) for label in labels if label.get_text()]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, two in boxes[i + 1 :] if one.overlaps(two)]


def test_curves_mark_the_first_best_epoch(tmp_path: Path, figures: list[Any]) -> None:
    plots.curves([*EPOCHS, {"images": 5}], tmp_path / "c.png", "run 3 · cnn-vgg")
    left, right = figures[0].axes
    assert figures[0].get_suptitle() == "run 3 · cnn-vgg"
    assert [line.get_label() for line in left.lines[:2]] == ["training", "validation"]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [2.0, 1.0, np.nan])
    np.testing.assert_array_equal(right.lines[1].get_ydata(), [0.5, 0.7, 0.7])
    assert "kept: epoch 2" in texts(figures[0])
    assert "kept: 70.00 % on validation" in texts(figures[0])


def test_curves_mark_the_epoch_that_was_kept(tmp_path: Path, figures: list[Any]) -> None:
    plots.curves(EPOCHS, tmp_path / "c.png", "t", best=3)
    assert "kept: epoch 3" in texts(figures[0])


def test_curves_show_what_there_is(tmp_path: Path, figures: list[Any]) -> None:
    plots.curves([{"epoch": 1, "train_loss": 1.0}], tmp_path / "c.png", "t")
    (axes,) = figures[0].axes
    assert axes.get_title("left") == "Loss"
    assert not [text for text in texts(figures[0]) if "kept" in text or text == "validation"]
    plots.curves([{"epoch": 1, "train_loss": None, "train_accuracy": 0.5}], tmp_path / "c.png", "t")
    for rows in ([], [{"images": 3}], [{"epoch": 1}]):
        with pytest.raises(ValueError, match="epoch"):
            plots.curves(rows, tmp_path / "none.png", "t")
    assert not (tmp_path / "none.png").exists()


def test_learning_curve_tells_images_seconds_and_interval(tmp_path: Path, figures: list[Any]) -> None:
    plots.learning_curve([*POINTS, {"epoch": 1}], tmp_path / "l.png", "run · model", "More images would help little.")
    (axes,) = figures[0].axes
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == ["2,000\n6.1 s", "5,000\n15 s", "10,000\n30 s", "45,000\n136 s"]
    assert overlapping(figures[0], labels) == []
    assert "at the end 91.10 % [90.10 %, 92.10 %]" in texts(figures[0])
    assert "More images would help little." in texts(figures[0])


def test_learning_curve_of_one_point_without_interval(tmp_path: Path, figures: list[Any]) -> None:
    plots.learning_curve([{"images": 10, "validation_accuracy": 0.5}], tmp_path / "l.png", "t")
    assert "at the end 50.00 %" in texts(figures[0])
    with pytest.raises(ValueError, match="images"):
        plots.learning_curve([{"images": 10}], tmp_path / "l.png", "t")


@pytest.mark.parametrize(("k", "length"), [(2, 3), (2, 24), (10, 10), (20, 40), (40, 12)])
def test_names_of_classes_do_not_overlap(tmp_path: Path, figures: list[Any], k: int, length: int) -> None:
    names = [f"{'class' * 9}"[: length - 3] + f"{i:03d}" for i in range(k)]
    plots.confusion(np.eye(k, dtype=int) * 12345, names, tmp_path / "m.png", "run · model")
    axes = figures[0].axes[0]
    assert overlapping(figures[0], axes.get_yticklabels()) == []
    if length < 6:
        assert overlapping(figures[0], axes.get_xticklabels()) == []
    assert len({label.get_text() for label in axes.get_yticklabels()}) == k
    assert len(axes.texts) == (k if k <= plots.MOST_COUNTED else 0)
    assert overlapping(figures[0], axes.texts) == []


def test_confusion_colours_shares_of_the_row(tmp_path: Path, figures: list[Any]) -> None:
    plots.confusion([[3, 1, 0], [0, 0, 0], [0, 5, 5]], ["a", "$b", "c^$"], tmp_path / "m.png", "t")
    axes = figures[0].axes[0]
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(shares, [[0.75, 0.25, 0], [np.nan] * 3, [0, 0.5, 0.5]])
    assert [text.get_text() for text in axes.texts] == ["3", "1", "5", "5"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_confusion_in_percent_of_the_row(tmp_path: Path, figures: list[Any]) -> None:
    plots.confusion([[7, 1, 0], [0, 0, 0], [0, 5, 5]], ["a", "b", "c"], tmp_path / "m.png", "t", percent=True)
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["87.5", "12.5", "50.0", "50.0"]
    assert axes.get_xlabel() == "predicted, % of the true class"
    plots.confusion(np.zeros((2, 2), int), ["a", "b"], tmp_path / "none.png", "t", percent=True)
    assert len(figures[1].axes[0].texts) == 0


def test_a_thousand_classes_still_make_a_picture(tmp_path: Path, figures: list[Any]) -> None:
    plots.confusion(np.eye(1000, dtype=int), [str(i) for i in range(1000)], tmp_path / "m.png", "t")
    axes = figures[0].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(200))
    assert "5 classes to a square" in axes.get_xlabel()
    with Image.open(tmp_path / "m.png") as picture:
        assert max(picture.size) < 2000


def test_names_in_any_script_are_drawn_without_a_warning(tmp_path: Path) -> None:
    plots.confusion(np.eye(2), ["猫", "собака 🐕"], tmp_path / "m.png", "运行 · model")
    assert (tmp_path / "m.png").exists()


def test_added_blocks_keep_every_count() -> None:
    counts = np.arange(49).reshape(7, 7)
    added = plots._added(counts, 3)
    assert added.shape == (3, 3)
    assert added.sum() == counts.sum()
    assert added[2, 2] == 48
    assert added[0, 1] == counts[:3, 3:6].sum()


def test_grid_keeps_shapes_and_words(tmp_path: Path, figures: list[Any]) -> None:
    images = [np.zeros((8, 8, 3), np.uint8), np.zeros((100, 200, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)]
    plots.sample_grid(images, ["cat", "true: cat predicted: dog 98 %", "déjà vu"], tmp_path / "g.png", "run · model", columns=2)
    axes = figures[0].axes[0]
    sizes = [np.abs(np.diff(np.reshape(image.get_extent(), (2, 2)))).ravel() for image in axes.images]
    np.testing.assert_allclose(sizes, [[1, 1], [1, 0.5], [0.5, 1]])
    assert [text.get_text() for text in axes.texts] == ["cat", "true: cat\npredicted: dog 98\n%", "déjà vu"]
    assert overlapping(figures[0], axes.texts) == []


def test_a_grid_needs_images_and_a_title_each(tmp_path: Path) -> None:
    for images, titles in (([], []), ([np.zeros((2, 2, 3), np.uint8)], [])):
        with pytest.raises(ValueError, match="make no grid"):
            plots.sample_grid(images, titles, tmp_path / "g.png", "t")


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: plots.curves(EPOCHS, path, "t"),
        lambda path: plots.learning_curve(POINTS, path, "t"),
        lambda path: plots.confusion(np.eye(3), "abc", path, "t"),
        lambda path: plots.sample_grid([np.zeros((4, 4, 3), np.uint8)], ["x"], path, "t"),
    ],
)
def test_equal_records_give_equal_files(tmp_path: Path, draw: Callable[[Path], None]) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.convert("L").getextrema()[0] < 128
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_neither_matplotlib_nor_pyplot_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from frostline import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.learning_curve([{'images': 1, 'validation_accuracy': .5}], Path(sys.argv[1]), 't')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "l.png")], check=True)


def test_without_matplotlib_the_hint_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        lambda: plots.curves(EPOCHS, tmp_path / "c.png", "t"),
        lambda: plots.learning_curve(POINTS, tmp_path / "c.png", "t"),
    ):
        with pytest.raises(UserError, match=r"frostline\[report\]"):
            draw()
