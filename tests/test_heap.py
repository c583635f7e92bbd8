"""What is freed within stays, and goes back to the system afterwards."""

from __future__ import annotations

import resource

import pytest
import torch

from frostline import heap
from frostline.heap import freed_memory_kept

MIB = 2**20


def faults_of_a_step() -> int:
    """Page faults of tensors, 160 MiB together, that are taken, written and freed."""
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(20 * MIB, dtype=torch.uint8) for _ in range(8)]
    assert len(tensors) == 8
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun


def anonymous_bytes() -> int:
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(heap._library() is None, reason="this C library is not GNU's")
def test_memory_that_is_freed_is_used_again_and_then_given_back():
    with freed_memory_kept() as kept:
        assert kept
        faults_of_a_step()
        assert sum(faults_of_a_step() for _ in range(5)) < 20_000  # without it 200,000
        before = anonymous_bytes()
    assert before - anonymous_bytes() > 70 * MIB


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(heap.platform, "libc_ver", lambda: ("", ""))
    with freed_memory_kept() as kept:
        assert not kept
