import pytest

from frostline.amounts import parse_gigabytes, parse_seconds
from frostline.errors import UserError


@pytest.mark.parametrize(("text", "gigabytes"), [("1G", 1), ("512M", 0.5), ("1.5GiB", 1.5), ("2gb", 2), ("3", 3), (None, None)])
def test_gigabytes(text, gigabytes):
    assert parse_gigabytes(text) == gigabytes


@pytest.mark.parametrize("text", ["", "much", "-1G", "0", "G", "infG"])
def test_no_gigabytes(text):
    with pytest.raises(UserError, match="no amount of memory"):
        parse_gigabytes(text)


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("5m", 300), ("1h", 3600), ("2.5", 2.5), ("1.5M", 90), (None, None)])
def test_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "0", "soon", "1d", "inf", "nan", "5 apples"])
def test_what_is_no_time(text):
    with pytest.raises(UserError, match="no time"):
        parse_seconds(text)
