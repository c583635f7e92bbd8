import os

import pytest

from frostline.errors import UserError
from frostline.serve.predictor import newest_run


def test_the_run_that_finished_last_and_no_unfinished_one(tmp_path, capsys):
    for number, name in enumerate(("late", "early", "unfinished")):
        (tmp_path / name).mkdir()
        if name != "unfinished":
            (tmp_path / name / "run.json").write_text("{}")
            os.utime(tmp_path / name / "run.json", (0, 1000 - number))
    assert newest_run(tmp_path) == tmp_path / "late"
    assert "the newest run" in capsys.readouterr().err


def test_no_run_at_all(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        newest_run(tmp_path / "runs")
