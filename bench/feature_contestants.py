"""Contestants of bench/features.py, each a process of its own: raw uint8 images in, pooled features out, rates in images/s.

    python bench/feature_contestants.py NAME IMAGES.npy WEIGHTS|"" [PHOTOS]

The Keras one runs in the peers' environment and imports nothing of Frostline. Peers choose their best way while warming up.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from contest import serve
from numpy.typing import NDArray

SIDE = 160
TRIED = 256  # images on which a peer compares its ways
Array = NDArray[Any]


def rate(call: Callable[[], Any], images: int) -> float:
    """Images/s of one call."""
    started = time.perf_counter()
    call()
    return images / (time.perf_counter() - started)


def best_way(ways: dict[str, Callable[[Array], Any]], images: Array) -> str:
    """The name of the fastest of some ways, each warmed up and then timed twice."""
    some, speeds = images[:TRIED], {}
    for name, way in ways.items():
        way(some)
        speeds[name] = max(rate(lambda way=way: way(some), len(some)) for _ in range(2))
        print(f"  {name}: {speeds[name]:,.0f} images/s", file=sys.stderr)
    return max(speeds, key=speeds.__getitem__)


def compiled(stored: tuple[int, int] | None, weights: str) -> Any:
    """MobileNetV2 as ``frostline train --recipe mobilenetv2-frozen`` has it."""
    from frostline.config import Settings
    from frostline.frozen import freeze

    return freeze(Settings(backbone="mobilenetv2", weights=weights, device="cpu"), stored)


def way_of(frozen: Any) -> str:
    return f"{frozen.precision}, batch {frozen.engine.batch}, first {frozen.exact_layers} layers f32"


def extraction(frozen: Any, images: Any, visit: Callable[[int], None] = lambda rows: None) -> float:
    """Images/s of Frostline's extraction of a whole set, cold: gathering, computing, storing in a fresh cache."""
    from frostline.feature_cache import FeatureCache
    from frostline.features import extract

    root = Path(tempfile.mkdtemp())
    caches = [FeatureCache({**frozen.key, "view": "image"}, frozen.width, "float16", root)]
    started = time.perf_counter()
    for block in extract(images, np.arange(len(images)), frozen.preprocess, frozen.engine, caches):
        visit(len(block.rows))
    speed = len(images) / (time.perf_counter() - started)
    shutil.rmtree(root)
    return speed


def inference(frozen: Any, n: int) -> float:
    """Images/s of the bare compiled network: OpenVINO's own queue over one fixed batch, outputs left where they are."""
    from frostline.drawn import drawn_images
    from frostline.vino import ov

    batch = frozen.engine.batch
    queue = ov.AsyncInferQueue(frozen.engine.compiled, frozen.engine.ahead)
    block = drawn_images(batch, *frozen.preprocess.stored)

    def run() -> None:
        for _ in range(n // batch):
            queue.start_async({0: block})
        queue.wait_all()

    return rate(run, n // batch * batch)


def ours(pixels: Array, weights: str) -> None:
    from frostline.data.imageset import ImageSet
    from frostline.data.rows import pixel_digests

    frozen = compiled(pixels.shape[1:3], weights)

    def repeat() -> float:
        started = time.perf_counter()
        n = len(pixels)
        digests = pixel_digests(pixels)  # the peers need none: they count here, as all that extraction asks for
        images = ImageSet("train", ("drawn",), np.zeros(n, np.int64), np.arange(n).astype(str), digests, pixels=pixels)
        digesting = time.perf_counter() - started
        return n / (digesting + n / extraction(frozen, images))

    serve({"way": way_of(frozen), "exact_layers": frozen.exact_layers}, repeat)


def bare(pixels: Array, weights: str) -> None:
    frozen = compiled(pixels.shape[1:3], weights)
    serve({"way": way_of(frozen)}, lambda: inference(frozen, len(pixels)))


def timm_eager(pixels: Array, weights: str) -> None:
    """timm's network in eager f32: float, bicubic enlargement, normalisation and network, in its best batch and layout."""
    import torch
    from torch.nn import functional

    from frostline.models.weights import load

    network = load("mobilenetv2", (SIDE, SIDE), weights).network.network
    layouts = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

    def features(images: Array, batch: int, layout: str) -> Array:
        network.to(memory_format=layouts[layout])
        with torch.inference_mode():
            parts = []
            for block in torch.from_numpy(images).split(batch):
                x = block.permute(0, 3, 1, 2).to(torch.float32, memory_format=layouts[layout])
                x = functional.interpolate(x, (SIDE, SIDE), mode="bicubic").div_(127.5).sub_(1)
                parts.append(network(x))
            return torch.cat(parts).numpy()

    ways = {
        f"f32 {layout}, batch {batch}": lambda images, batch=batch, layout=layout: features(images, batch, layout)
        for layout, batch in itertools.product(layouts, (16, 32, 64, 128))
    }
    chosen = best_way(ways, pixels)
    serve({"way": chosen}, lambda: rate(lambda: ways[chosen](pixels), len(pixels)))


def keras_predict(pixels: Array, policy: str) -> None:
    """Keras' MobileNetV2 by ``predict``, resize and normalisation in the graph, in its best batch."""
    import os

    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
    import keras

    keras.config.set_dtype_policy(policy)
    network = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), include_top=False, pooling="avg", weights=None)

    images = keras.Input(pixels.shape[1:], dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    model = keras.Model(images, network(keras.layers.Resizing(SIDE, SIDE, interpolation="bicubic")(x)))
    model.compile(jit_compile=False)  # XLA has no bicubic resizing, and with a bilinear one takes nine times as long
    ways = {
        f"{policy}, batch {batch}": lambda some, batch=batch: model.predict(some, batch_size=batch, verbose=0)
        for batch in (32, 64, 128, 256)
    }
    chosen = best_way(ways, pixels)
    serve({"way": chosen}, lambda: rate(lambda: ways[chosen](pixels), len(pixels)))


def photos(folder: str, weights: str) -> None:
    """A repetition of all three on a folder of JPEGs: extraction (with memory), decoding alone, inference alone."""
    from frostline.data.sources import load_source

    started = time.perf_counter()
    images = load_source(folder).sets["train"]
    checked = len(images) / (time.perf_counter() - started)
    frozen = compiled(None, weights)
    extraction(frozen, images.take(range(min(256, len(images)))))

    def repeat() -> dict[str, Any]:
        memory: list[int] = []
        extracted = extraction(frozen, images, lambda rows: memory.append(anonymous_bytes()))
        return {
            "extraction": extracted,
            "decoding": max(way(images, frozen.preprocess) for way in (decoding, decoding_apart)),
            "inference": inference(frozen, len(images)),
            "memory_peak": max(memory),
            "memory_quarter": memory[len(memory) // 4],
            "memory_end": memory[-1],
        }

    serve({"way": way_of(frozen), "images": len(images), "checked": checked}, repeat, warm=False)


def anonymous_bytes() -> int:
    """This process's anonymous memory now."""
    from frostline.environment import STATUS

    lines = STATUS.read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def decoding(images: Any, preprocess: Any) -> float:
    """Images/s of decoding and reducing alone, in as many threads as cores, each with a share of its own."""
    from concurrent.futures import ThreadPoolExecutor

    from frostline.environment import cores

    shares = np.array_split(np.arange(len(images)), cores())
    with ThreadPoolExecutor(cores()) as pool:
        return rate(lambda: list(pool.map(lambda rows: _decode(images, rows, preprocess), shares)), len(images))


def decoding_apart(images: Any, preprocess: Any) -> float:
    """The same in processes: no interpreter lock between them."""
    import multiprocessing

    from frostline.environment import cores

    shares = np.array_split(np.arange(len(images)), cores())
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_decode, args=(images, rows, preprocess)) for rows in shares]

    def run() -> None:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return rate(run, len(images))


def _decode(images: Any, rows: Array, preprocess: Any) -> None:
    from frostline.data.reading import read_row

    for row in rows:
        read_row(images, int(row), preprocess)


CONTESTANTS: dict[str, Callable[[Array, str], None]] = {
    "frostline": ours,
    "bare": bare,
    "timm": timm_eager,
    "keras": keras_predict,
}

if __name__ == "__main__":
    name, given, option = sys.argv[1:]
    if name == "photos":
        photos(given, option)
    else:
        CONTESTANTS[name](np.load(given), option)
