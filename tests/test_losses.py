import math

import pytest
import torch

from frostline.config import Settings
from frostline.losses import balanced_weights, focal, make_loss


def test_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([0, 2])
    assert float(make_loss(Settings())(logits, labels)) == pytest.approx((-math.log(0.5) - math.log(0.8)) / 2)


def test_label_smoothing_mixes_the_target_with_one_in_k():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]]))
    expected = -(0.9 + 0.1 / 3) * math.log(0.5) - 2 * (0.1 / 3) * math.log(0.25)
    assert float(make_loss(Settings(label_smoothing=0.1))(logits, torch.tensor([0]))) == pytest.approx(expected)


def test_low_precision_logits_are_judged_in_single_precision():
    assert make_loss(Settings())(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.float32


def test_focal_loss_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    expected = (0.5**2 * -math.log(0.5) + 0.2**2 * -math.log(0.8)) / 2
    assert float(make_loss(Settings(loss="focal"))(logits, torch.tensor([0, 2]))) == pytest.approx(expected)
    assert float(focal(logits, torch.tensor([0, 2]), 0.0, 0.0)) == pytest.approx((-math.log(0.5) - math.log(0.8)) / 2)


def test_without_focus_and_with_smoothing_it_is_torchs_cross_entropy():
    logits, labels = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 5
    wanted = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    assert float(focal(logits, labels, 0.0, 0.2)) == pytest.approx(float(wanted))


def test_class_weights_by_hand():
    labels = torch.tensor([0] * 6 + [2] * 2)
    assert balanced_weights(labels).tolist() == pytest.approx([8 / 12, 0, 8 / 4])
    assert float(balanced_weights(labels)[labels].mean()) == pytest.approx(1)
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]))
    loss = make_loss(Settings(balance="loss"), labels)
    assert float(loss(logits, torch.tensor([0, 2]))) == pytest.approx((8 / 12 * math.log(2) + 2 * math.log(4)) / 2)


def test_the_focal_gradient_is_finite_where_the_network_is_sure():
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    for gamma in (0.5, 1.0, 2.0):
        focal(logits, torch.tensor([0, 0]), gamma, 0.1).backward()
        assert logits.grad.isfinite().all()
