"""Three noisy classes in three numbers, to train small heads on."""

import numpy as np

from frostline.config import Settings
from frostline.data.batches import FeatureBatches


def settings(**values):
    return Settings(**{"device": "cpu", "precision": "f32", "epochs": 4, "batch_size": 16, "lr": 0.05, **values})


def points(n=80, seed=0, noise=1.5, shuffle=True):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = np.eye(3)[labels] + noise * rng.standard_normal((n, 3))
    return FeatureBatches(x[:, None].astype(np.float32), labels, 16, shuffle=shuffle)
