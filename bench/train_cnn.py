"""Training speed of the sources' two networks: Frostline's loop against Keras on TensorFlow, images per second.

    python bench/train_cnn.py

Every contestant is a process of its own that stays alive; repetitions are interleaved, so that a slow minute of the machine
meets all of them. A repetition trains one epoch of 8,192 drawn 32×32 images in batches of 128. Frostline's includes its
augmentation (mirror, shift) and normalisation from uint8; Keras gets ready float32 arrays. Keras runs in the three ways a
person would try (float32, float32 with XLA, mixed bfloat16); each ratio is the median over the pairs of one round.
Rows go to results/train_cnn.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from contest import serve

NETWORKS = ("cnn-vgg", "cnn-small")
ROUNDS = 7
IMAGES, BATCH = 8192, 128
KERAS = {
    "keras-tensorflow f32": ("float32", "0"),
    "keras-tensorflow f32 xla": ("float32", "1"),
    "keras-tensorflow bf16": ("mixed_bfloat16", "0"),
}


def main() -> None:
    from common import append_rows

    rows = [row for network in NETWORKS for row in race(network)]
    for row in rows:
        speed = f"{row['images_per_second']:6,} images/s ({row['lowest']:,}–{row['highest']:,})"
        print(f"{row['network']:10} {row['contestant']:26} {speed}  ours / this: {row['ours_ratio']:.2f}")
    print(f"rows appended to {append_rows('train_cnn', rows)}")


def race(network: str) -> list[dict[str, Any]]:
    """One row a contestant: median, lowest and highest images/s of the rounds, and ours divided by it (median of pairs)."""
    from common import contestants, peers_python, ratio_row

    here, keras = Path(__file__), peers_python()
    commands: dict[str, list[str | Path]] = {"frostline": [sys.executable, here, "ours", network]}
    keras_commands: dict[str, list[str | Path]] = {
        name: [keras, here, "keras", network, *options] for name, options in KERAS.items()
    }
    with contestants(commands | keras_commands) as running:
        speeds: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(ROUNDS):
            for name, contestant in running.items():
                speeds[name].append(contestant.repeat())
        about = {name: contestant.about for name, contestant in running.items()}
    return [
        {
            "network": network,
            "contestant": name,
            **{key: value for key, value in ratio_row(found, speeds["frostline"], None).items() if key not in ("bar", "met")},
            "versions": about[name]["versions"],
        }
        for name, found in speeds.items()
    ]


def ours(network: str) -> None:
    """Frostline's own loop, as the recipes run it."""
    import numpy as np
    import torch

    from frostline.config import Settings
    from frostline.data.augment import make_augmentations
    from frostline.data.batches import ArrayBatches
    from frostline.loop import fit
    from frostline.models.cnn import make_network
    from frostline.models.device import pick_precision

    settings = Settings(
        device="cpu", epochs=1, optimizer="sgd", lr=0.01, batch_size=BATCH, label_smoothing=0.1, mirror=True, shift=2
    )
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, IMAGES)
    changes = make_augmentations(settings, mean)
    batches = ArrayBatches(pixels, labels, BATCH, mean=mean, std=std, augmentations=changes, shuffle=True)
    validation = ArrayBatches(pixels[:BATCH], labels[:BATCH], BATCH, mean=mean, std=std)
    model = make_network(network, 10, (32, 32))

    def repeat() -> float:
        return float(fit(model, batches, validation, settings=settings).history[-1]["images_per_second"])

    serve({"versions": f"torch {torch.__version__} {pick_precision('auto', torch.device('cpu'))}"}, repeat)


def keras(network: str, policy: str, xla: str) -> None:
    """The same network in Keras, trained by ``model.fit``."""
    import os
    import time

    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    import keras
    import numpy as np
    import tensorflow

    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((32, 32, 3)), *keras_layers(keras.layers, network)])
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=xla == "1")
    rng = np.random.default_rng(0)
    pixels, labels = rng.standard_normal((IMAGES, 32, 32, 3), dtype=np.float32), rng.integers(0, 10, IMAGES)

    def repeat() -> float:
        started = time.perf_counter()
        model.fit(pixels, labels, batch_size=BATCH, epochs=1, verbose=0)
        return IMAGES / (time.perf_counter() - started)

    serve(
        {"versions": f"keras {keras.__version__}, tensorflow {tensorflow.__version__}", "parameters": model.count_params()}, repeat
    )


def keras_layers(layers: Any, network: str) -> list[Any]:
    """The layers of SEEDS' sources B (cnn-vgg) and D (cnn-small), as a Keras user writes them."""

    def conv(width: int) -> Any:
        return layers.Conv2D(width, 3, padding="same", activation="relu")

    if network == "cnn-small":
        blocks = [layer for width in (32, 64, 128) for layer in (conv(width), layers.MaxPooling2D())]
        dropout = 0.5
    else:
        blocks, dropout = [], 0.45
        for widths in ((32, 32), (64, 32), (128,)):
            blocks += [layer for width in widths for layer in (conv(width), layers.BatchNormalization())]
            blocks += [layers.MaxPooling2D(), layers.Dropout(0.2)]
    end = [layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dropout(dropout)]
    return [*blocks, *end, layers.Dense(10, activation="softmax", dtype="float32")]


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        contestant = ours if sys.argv[1] == "ours" else keras
        contestant(*sys.argv[2:])
