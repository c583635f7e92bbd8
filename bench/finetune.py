"""Fine-tuning MobileNetV2@160 from a Keras block on: Frostline's cached activations against the whole network at every step.

    python bench/finetune.py [--from block_7]

Every contestant is a process of its own that stays alive; repetitions are interleaved, so that a slow minute of the machine
meets all of them. A repetition trains one epoch in batches of 64 with AdamW. Frostline's reads stored activations, as its recipe
does once they are cached; torch runs the whole network in bf16 with the lower part under ``no_grad``, from uint8 images; Keras
on TensorFlow runs ``model.fit`` with the same layers trainable, on ready float32 images, in float32 and in mixed
bfloat16. Weights are random.
Rows go to results/finetune.csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contest import serve

ROUNDS, BATCH, SIDE, CLASSES = 5, 64, 160, 10
IMAGES = 2048  # of every contestant in every round, timed from outside the call that trains
#: Keras layers from a block on; the first is the recipe's cut, the second that of "last:50".
KERAS_LAYERS = {"block_7": 91, "block_12": 47}
BARS = {"keras-tensorflow": 3.0, "torch whole": 1.8}


def main() -> None:
    from common import append_rows, contestants, peers_python
    from inputs import machine_speed

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="first", choices=KERAS_LAYERS, default=next(iter(KERAS_LAYERS)), help="what trains first")
    first = parser.parse_args().first
    here, keras = Path(__file__), peers_python()
    commands: dict[str, list[str | Path]] = {
        "frostline": [sys.executable, here, "ours", first],
        "torch whole bf16": [sys.executable, here, "whole", first],
        "keras-tensorflow f32": [keras, here, "keras", first, "float32"],
        "keras-tensorflow bf16": [keras, here, "keras", first, "mixed_bfloat16"],
    }
    machine = machine_speed()
    with contestants(commands) as running:
        speeds: dict[str, list[float]] = {name: [] for name in running}
        for _ in range(ROUNDS):
            for name, contestant in running.items():
                speeds[name].append(contestant.repeat())
        about = {name: contestant.about for name, contestant in running.items()}
    rows = [row(f"{name}, from {first}", found, speeds["frostline"], about[name], machine) for name, found in speeds.items()]
    for each in rows:
        speed = f"{each['images_per_second']:6,} images/s ({each['lowest']:,}–{each['highest']:,})"
        print(f"{each['contestant']:24} {speed}  ours / this: {each['ours_ratio']:.2f}  bar {each['bar']}")
    print(f"rows appended to {append_rows('finetune', rows)}")


def row(name: str, found: list[float], ours: list[float], about: dict[str, Any], machine: int) -> dict[str, Any]:
    from common import ratio_row

    bar = next((bar for start, bar in BARS.items() if name.startswith(start)), None)
    return {
        "contestant": name,
        **ratio_row(found, ours, bar),
        "trainable_parameters": about["trainable"],
        "machine_bf16_gflops": machine,
        "versions": about["versions"],
    }


def ours(first: str) -> None:
    """The loop on stored activations, as ``train_finetune`` has it."""
    import numpy as np
    import torch
    from torch import nn

    from frostline.config import Settings
    from frostline.data.batches import FeatureBatches
    from frostline.loop import fit
    from frostline.models.backbones import FeatureNetwork, build
    from frostline.models.transfer import Trainable, cut
    from frostline.optim import parameter_groups

    size = (SIDE, SIDE)
    line = cut(FeatureNetwork(build("mobilenetv2", size)).eval(), first, size, "mobilenetv2")
    network = Trainable(line.upper, nn.Linear(1280, CLASSES), line.shape)
    rng, n = np.random.default_rng(0), IMAGES
    stored = rng.random((n, 2, int(np.prod(line.shape))), np.float32).astype(np.float16)
    labels = rng.integers(0, CLASSES, n)
    settings = Settings(device="cpu", epochs=1, optimizer="adamw", lr=1e-4, batch_size=BATCH, label_smoothing=0.1)
    batches = FeatureBatches(stored, labels, BATCH, shape=line.shape, shuffle=True)
    judging = FeatureBatches(stored[:BATCH], labels[:BATCH], BATCH, shape=line.shape)

    def repeat() -> float:
        started = time.perf_counter()
        groups = parameter_groups(network, settings)
        with network.folded():
            fit(network, batches, judging, settings=settings, parameters=groups)
        return n / (time.perf_counter() - started)

    trainable = sum(parameter.numel() for parameter in network.parameters())
    serve({"versions": f"torch {torch.__version__}", "trainable": trainable}, repeat)


def whole(first: str) -> None:
    """The way of a notebook that knows ``no_grad`` and bf16."""
    import torch
    from torch import nn
    from torch.nn import functional

    from frostline.convert import FromUint8
    from frostline.drawn import drawn_images
    from frostline.models.backbones import FeatureNetwork, build
    from frostline.models.transfer import Trainable, cut
    from frostline.preprocess import Preprocess

    size = (SIDE, SIDE)
    line = cut(FeatureNetwork(build("mobilenetv2", size)).eval(), first, size, "mobilenetv2")
    lower = FromUint8(line.lower, Preprocess(size=size, stored=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)).eval()
    lower = lower.to(memory_format=torch.channels_last)
    network = Trainable(line.upper, nn.Linear(1280, CLASSES), line.shape).train()
    n = IMAGES
    images, labels = torch.from_numpy(drawn_images(n, 32, 32)), torch.arange(n) % CLASSES
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def repeat() -> float:
        started = time.perf_counter()
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    activations = lower(x)
                logits = network(activations)
            loss = functional.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return n / (time.perf_counter() - started)

    trainable = sum(parameter.numel() for parameter in network.parameters())
    serve({"versions": f"torch {torch.__version__}", "trainable": trainable}, repeat)


def keras(first: str, policy: str) -> None:
    """``model.fit`` with Keras' last layers trainable and BatchNorm in inference mode."""
    import os

    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    import keras
    import numpy as np
    import tensorflow

    keras.config.set_dtype_policy(policy)
    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    for layer in base.layers[: -KERAS_LAYERS[first]]:
        layer.trainable = False
    inputs = keras.Input((SIDE, SIDE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax", dtype="float32")(pooled))
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    rng, n = np.random.default_rng(0), IMAGES
    images, labels = rng.standard_normal((n, SIDE, SIDE, 3), dtype=np.float32), rng.integers(0, CLASSES, n)

    def repeat() -> float:
        started = time.perf_counter()
        model.fit(images, labels, batch_size=BATCH, epochs=1, verbose=0)
        return n / (time.perf_counter() - started)

    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    about = {"versions": f"keras {keras.__version__}, tensorflow {tensorflow.__version__}", "trainable": trainable}
    serve(about, repeat)


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"ours": ours, "whole": whole, "keras": keras}
    if sys.argv[1:2] and sys.argv[1] in roles:
        roles[sys.argv[1]](*sys.argv[2:])
    else:
        main()
