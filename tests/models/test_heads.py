import pytest
import torch

from frostline.errors import UserError
from frostline.losses import make_penalty
from frostline.models.heads import HEADS, make_head


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dense-a", (512 * 256 + 256) + (256 * 128 + 128) + (128 * 10 + 10)),
        ("dense-b", (512 * 128 + 128) + (128 * 256 + 256) + (256 * 10 + 10)),
        ("dense-c", 512 * 10 + 10),  # 5,130: source C's count of trainable parameters
        ("dense-d", (512 * 128 + 128) + (128 * 10 + 10)),
    ],
)
def test_parameters_and_shapes(name, parameters):
    head = make_head(name, 512, 10)
    assert sum(p.numel() for p in head.parameters()) == parameters
    assert head(torch.randn(3, 512)).shape == (3, 10)


def test_every_head_is_covered_above():
    assert set(HEADS) == {"dense-a", "dense-b", "dense-c", "dense-d"}


def test_only_the_second_kernel_of_dense_b_is_penalised():
    head = make_head("dense-b", 6, 3)
    assert make_penalty(head)().item() == pytest.approx(0.001 * (head[3].weight ** 2).sum().item(), rel=1e-6)
    make_penalty(head)().backward()
    assert torch.allclose(head[3].weight.grad, 0.002 * head[3].weight)
    assert [name for name, p in head.named_parameters() if p.grad is not None] == ["3.weight"]
    assert make_penalty(make_head("dense-a", 6, 3))() == 0.0


def test_seeded_and_named():
    assert torch.equal(make_head("dense-c", 4, 2, seed=3)[0].weight, make_head("dense-c", 4, 2, seed=3)[0].weight)
    assert not torch.equal(make_head("dense-c", 4, 2, seed=3)[0].weight, make_head("dense-c", 4, 2, seed=4)[0].weight)
    with pytest.raises(UserError, match="dense-e"):
        make_head("dense-e", 4, 2)
