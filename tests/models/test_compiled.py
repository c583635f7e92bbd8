"""Compiled steps train as others do, for images of every size; what does not compile is said."""

import shutil

import pytest
import torch
from torch import nn

from frostline.config import Settings
from frostline.data.batches import ArrayBatches
from frostline.errors import UserError
from frostline.loop import fit
from frostline.models.compiled import check_graphs

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


@pytest.mark.parametrize("compile", ["reduce-overhead", "max-autotune"])
def test_cuda_graphs_know_no_batches_in_parts(compile):
    settings = Settings(compile=compile, accumulate=2)
    with pytest.raises(UserError, match="at once alone") as caught:
        check_graphs(settings, torch.device("cuda"))
    assert caught.value.hint == "--set accumulate=1"
    check_graphs(settings, torch.device("cpu"))
    check_graphs(settings.with_values(accumulate=1), torch.device("cuda"))
    check_graphs(settings.with_values(compile="default"), torch.device("cuda"))


def trained(compile, sizes):
    """A small network, trained for an epoch with images of each size; batches of 32, 32 and 24."""
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (88, 8, 8, 3), dtype=torch.uint8, generator=drawn).numpy()
    labels = torch.randint(0, 3, (88,), generator=drawn).numpy()
    common = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    settings = Settings(device="cpu", precision="f32", epochs=len(sizes), batch_size=32, optimizer="sgd", lr=0.01, compile=compile)
    batches = ArrayBatches(pixels, labels, 32, shuffle=True, sizes=sizes, **common)
    return fit(network, batches, ArrayBatches(pixels, labels, 32, **common), settings=settings), network


@pytest.mark.slow
@needs_compiler
def test_compiled_steps_train_as_others_do():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    sizes = ((6, 6), (8, 8))
    (plain, first), (compiled, second) = trained("no", sizes), trained("default", sizes)
    assert [row["steps"] for row in compiled.history] == [3, 6]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == len(sizes)  # one for each size, and none for a short batch
    assert list(second.state_dict()) == list(first.state_dict())
    for name, value in second.state_dict().items():
        torch.testing.assert_close(value, first.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert compiled.history[-1]["train_loss"] == pytest.approx(plain.history[-1]["train_loss"], rel=1e-4)


def test_what_does_not_compile_is_said(monkeypatch):
    def refuse(graph, inputs):
        raise RuntimeError("there is no compiler here")

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **_: original(network, backend=refuse))
    torch._dynamo.reset()
    with pytest.raises(UserError, match="could not compile") as caught:
        trained("default", ((8, 8),))
    assert "compile=no" in caught.value.hint
