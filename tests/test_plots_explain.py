"""The picture of an explanation: what is on it, and that nothing lies over anything else."""

import numpy as np
import pytest

from frostline.plots_explain import explanation

pytest.importorskip("matplotlib")
IMAGE = np.full((40, 30, 3), 90, np.uint8)
LONG = "a class whose name is far longer than any column of a picture has room for"


def overlapping(figure):
    """Pairs of texts whose boxes meet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.canvas.draw()
    own = [part._suptitle for part in (figure, *figure.subfigs) if part._suptitle]
    texts = own + [text for axes in figure.get_axes() for text in (axes.title, *axes.texts) if text.get_text()]
    shown = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    assert len(shown) > 10
    return [(a, b) for i, (a, first) in enumerate(shown) for b, second in shown[i + 1 :] if first.overlaps(second)]


@pytest.mark.parametrize("count", [0, 3, 5, 7])
def test_every_part_is_there(tmp_path, figures, count):
    near = [(IMAGE, f"near {number}\n0.{number}00") for number in range(count)]
    titles = ("the image\nas the model sees it", f"what speaks for {LONG}\nGrad-CAM")
    explanation((IMAGE, IMAGE), titles, [("cat", 0.7), (LONG, 0.2), ("nut", 0.1)], near, tmp_path / "a.png", "title")
    (figure,) = figures
    drawn = [axes for axes in figure.get_axes() if axes.images]
    assert len(drawn) == 2 + count
    words = [text.get_text() for axes in figure.get_axes() for text in axes.texts]
    assert words[:2] == ["cat", "70.0 %"]
    assert len(words[2]) <= 26
    assert [axes.get_title() for axes in drawn[2:]] == [text for _, text in near]
    widths = [bar.get_width() for axes in figure.get_axes() for bar in axes.patches]
    assert widths == [1, 1, 1, 0.7, 0.2, 0.1]
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_long_names_do_not_meet(tmp_path, figures):
    near = [(IMAGE, f"{number} {LONG}\n0.{number}00") for number in range(5)]
    titles = ("the image\nas the model sees it", f"what speaks for {LONG}\nGrad-CAM; {LONG} 70.0 %")
    explanation((IMAGE, IMAGE), titles, [(LONG, 0.7), (LONG[::-1], 0.2), ("nut", 0.1)], near, tmp_path / "a.png", LONG)
    assert overlapping(figures[0]) == []


def test_equal_values_give_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        explanation((IMAGE, IMAGE), ("a", "b"), [("cat", 1.0)], [(IMAGE, "cat")], tmp_path / name, "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
