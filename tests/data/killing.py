"""Runs that die in the middle, in this process: what they leave behind is what a power cut leaves."""

from contextlib import contextmanager

import pytest

from frostline.checkpoints import Checkpoints
from frostline.runs import Run


class _Killed(BaseException):
    """What nothing catches."""


@contextmanager
def killed(monkeypatch, *where, after_epoch=0):
    """While inside, a run dies where it calls this, or after this epoch of the network's training; all epochs have checkpoints."""
    real = Run.add_history

    def dies(*_):
        raise _Killed

    def dies_after(self, row):
        real(self, row)
        if row.get("epoch") == after_epoch:
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "offer", Checkpoints.save)
        patch.setattr(*(where or (Run, "add_history")), dies if where else dies_after)
        with pytest.raises(_Killed):
            yield
