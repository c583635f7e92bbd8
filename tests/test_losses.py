import math

import pytest
import torch

from frostline.config import Settings
from frostline.losses import make_loss


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
