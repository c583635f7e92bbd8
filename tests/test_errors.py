import pytest

from frostline.errors import UserError, nearest


def test_all_parts_a_line_each():
    error = UserError("Wrong.", expected="right", received="left", hint="--right")
    assert str(error) == error.text() == "Wrong.\n  Expected: right\n  Received: left\n  Try: --right"
    assert (error.message, error.expected, error.received, error.hint) == ("Wrong.", "right", "left", "--right")


def test_empty_parts_are_left_out():
    assert str(UserError("Wrong.")) == "Wrong."
    assert str(UserError("Wrong.", hint="again")) == "Wrong.\n  Try: again"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("densenet", "did you mean densenet169 or resnet50?"),
        ("vgg", "did you mean vgg16?"),
        ("zzz", "one of densenet169, vgg16, resnet50"),
    ],
)
def test_nearest(name, hint):
    assert nearest(name, ["densenet169", "vgg16", "resnet50"]) == hint
