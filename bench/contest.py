"""The contestant's side of a race: warm up, say so, then one repetition for every line on standard input. Standard library only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def serve(about: dict[str, Any], repeat: Callable[[], Any], warm: bool = True) -> None:
    """Answer ``common.Contestant``: ``about`` once, after a first repetition where ``warm``, then a result for each line."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    if warm:
        repeat()
    print(json.dumps(about), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(repeat()), file=answers, flush=True)
