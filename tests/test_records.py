from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from frostline.records import json_record, write_csv


def test_numpy_and_paths_become_plain() -> None:
    record = json_record({"a": np.float32(0.5), "b": np.arange(2), 3: (Path("x") / "y", None, True), "d": {"e": np.int64(4)}})
    assert record == {"a": 0.5, "b": [0, 1], "3": [str(Path("x/y")), None, True], "d": {"e": 4}}


def test_what_is_not_finite_is_null_and_named() -> None:
    record = json_record({"loss": float("nan"), "rows": [{"x": np.float32("inf")}], "fine": 1.0})
    assert record == {"loss": None, "rows": [{"x": None}], "fine": 1.0, "not_finite": ["loss: nan", "rows.0.x: inf"]}
    json.dumps(record, allow_nan=False)


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    odd = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert json_record({odd: [odd]}) == {"caf\\udce9.png": ["caf\\udce9.png"]}
    write_csv(tmp_path / "t.csv", ["path", "reason"], [[odd, 'a "b", c'], ["größe", None]])
    assert (tmp_path / "t.csv").read_text("utf-8") == 'path,reason\ncaf\\udce9.png,"a ""b"", c"\ngröße,\n'
