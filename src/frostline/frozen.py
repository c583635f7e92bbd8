"""Below the frost line: a pretrained network, compiled once and kept, and the features it gives through the cache."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from frostline import engine, inside
from frostline.data.imageset import ImageSet
from frostline.data.views import view_name
from frostline.decode import DECODER_VERSION
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.feature_cache import FeatureCache, graphs_folder
from frostline.features import FeatureBlock, Runs, extract
from frostline.files import digest_file, digest_json, named, write_json
from frostline.preprocess import Preprocess
from frostline.progress import say

if TYPE_CHECKING:
    from frostline.config import Settings
    from frostline.models.backbones import FeatureNetwork
    from frostline.models.transfer import Cut
    from frostline.models.weights import Loaded


#: Of what ``convert`` makes of a network: raised when a change in it moves the features.
CONVERSION_VERSION = 2


@dataclass
class Frozen:
    """A frozen network ready to give features.

    Attributes:
        loaded: the backbone with its weights.
        preprocess: what stands in front of it.
        graph: from uint8 images to "features" (B, D) and "map"; None where the network does not convert.
        engine: runs it.
        width: D.
        precision: "bf16" or "f32" of computing.
        exact_layers: first layers that bf16 would harm and that are kept in f32.
        key: what determines a row of features, beside the image and the view.
        notes: sentences for the record.
    """

    loaded: Loaded
    preprocess: Preprocess
    graph: Any
    engine: Runs
    width: int
    precision: str
    exact_layers: int
    key: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def caches(self, views: Iterable[int], dtype: str) -> list[FeatureCache]:
        """The cache of each view, by their numbers."""
        return [FeatureCache({**self.key, "view": view_name(number)}, self.width, dtype) for number in views]

    def extract(
        self, images: ImageSet, rows: NDArray[np.int64], caches: list[FeatureCache], views: Sequence[int] = ()
    ) -> Iterator[FeatureBlock]:
        """Features of these rows, in order; ``views`` are the numbers of the caches' views, from 0 where there are none."""
        return extract(images, rows, self.preprocess, self.engine, caches, views)


def freeze(settings: Settings, stored: tuple[int, int] | None) -> Frozen:
    """Load, convert and compile the backbone of ``settings``.

    Args:
        settings: backbone, weights, image size, how photos are fitted, device, precision.
        stored: (H, W) of the images where they are arrays of one size; None for photos.

    Raises:
        UserError: unknown backbone, weights that cannot be had.
    """
    return _ready(*_loaded(settings, stored), settings)


def _loaded(settings: Settings, stored: tuple[int, int] | None) -> tuple[Loaded, Preprocess]:
    """The network of the settings, and what stands in front of it."""
    from frostline.models.backbones import find
    from frostline.models.weights import load

    row = find(settings.backbone)
    side = settings.image_size or (row.photos if stored is None else row.arrays)
    loaded = load(settings.backbone, (side, side), settings.weights, settings.excuse)
    preprocess = Preprocess(
        size=(side, side),
        stored=stored or (side, side),
        fit=settings.fit,
        kernel=loaded.kernel,
        crop=loaded.crop,
        mean=loaded.mean,
        std=loaded.std,
    )
    return loaded, preprocess


def _ready(loaded: Loaded, preprocess: Preprocess, settings: Settings, first: str = "") -> Frozen:
    """The network, or its part below ``first``, compiled where it can be."""
    from frostline.models.device import pick_device

    if pick_device(settings.device).type == "cpu":
        try:
            return _compiled(loaded, preprocess, engine.resolve_precision(settings.precision), first)
        except RuntimeError as error:  # what OpenVINO and torch.export raise for operations they do not know
            note = f"{loaded.name} could not be compiled ({str(error).splitlines()[0][:160]}); torch runs it, more slowly."
            by_torch = _eager(loaded, preprocess, settings, [note], first)
            say(note, "yellow")
            return by_torch
    return _eager(loaded, preprocess, settings, [], first)


def _key(loaded: Loaded, preprocess: Preprocess, first: str) -> dict[str, Any]:
    """What determines a feature whichever engine computes it."""
    return {
        **({"below": first} if first else {}),
        "weights": loaded.digest,
        "network": loaded.name,
        "timm": version("timm"),
        "preprocess": preprocess.as_dict(),
        "decoder": DECODER_VERSION,
    }


def _kept(loaded: Loaded, preprocess: Preprocess, precision: str, first: str) -> tuple[Any, int, dict[str, Any]]:
    """The converted network, its first layers that stay in f32, and the key of the features it gives."""
    key = {
        **_key(loaded, preprocess, first),
        "engine": f"openvino {engine.version()}",
        "conversion": CONVERSION_VERSION,
        "precision": precision,
        "batch": engine.BATCH,
    }
    graph, exact_layers = _graph(loaded, preprocess, precision, key)
    return graph, exact_layers, {**key, "exact_layers": exact_layers}


def _compiled(loaded: Loaded, preprocess: Preprocess, precision: str, first: str) -> Frozen:
    graph, exact_layers, key = _kept(loaded, preprocess, precision, first)
    notes = list(loaded.notes)
    notes += [f"The first {exact_layers} layers are computed in f32: bf16 would move the features too far."] if exact_layers else []
    if precision == "f32":
        notes.append("The network is computed in f32, about half as fast as bf16 on processors that have it.")
    width = graph.output("features").get_partial_shape()[1].get_length()
    return Frozen(loaded, preprocess, graph, engine.Engine(graph, precision), width, precision, exact_layers, key, notes)


def _graph(loaded: Loaded, preprocess: Preprocess, precision: str, key: dict[str, Any]) -> tuple[Any, int]:
    """The converted network, kept under ``FROSTLINE_HOME``: conversion takes seconds, reading it a fraction of one."""
    folder = graphs_folder() / digest_json(key)
    manifest = folder / "graph.json"
    try:
        described = json.loads(manifest.read_text("utf-8"))
        if all(digest_file(folder / name) == digest for name, digest in described["files"].items()):
            return engine.read_graph(folder / "graph.xml"), int(described["exact_layers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not there yet, or damaged: made anew
    graph, exact_layers = converted(loaded.network, preprocess, precision)
    kept = _written(graph, folder)
    files = {name: digest_file(folder / name) for name in ("graph.xml", "graph.bin")}
    write_json(manifest, {"key": key, "exact_layers": exact_layers, "files": files})
    return kept, exact_layers


def _written(graph: Any, folder: Path) -> Any:
    """The graph, read back from where it is kept; an ``OSError`` that names the folder where it cannot be kept."""
    with named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            engine.save_graph(graph, folder / "graph.xml")
            return engine.read_graph(folder / "graph.xml")
        except RuntimeError as error:  # OpenVINO's own, of a full disk say; the network did compile
            raise OSError(errno.EIO, " ".join(str(error).split())[-160:], str(folder)) from error


def converted(network: Any, preprocess: Preprocess, precision: str) -> tuple[Any, int]:
    """The network as a graph that computes what torch does, and how many of its first layers are marked to stay in f32.

    Raises:
        RuntimeError: it cannot be compiled, or compiled it computes something else.
    """
    from frostline.convert import PROBE, checked_features, convert_network, with_exact_layers

    graph = convert_network(network, preprocess)
    probe = drawn_images(engine.BATCH if precision == "f32" else PROBE, *preprocess.stored)
    exact = checked_features(graph, network, preprocess, probe)
    return (graph, 0) if precision == "f32" else with_exact_layers(graph, probe, exact)[:2]


@dataclass
class Below:
    """A network cut at the frost line: its lower part ready to give activations, its upper part to be trained.

    Attributes:
        loaded: the whole network; ``line``'s parts share its weights.
        line: the cut.
        frozen: gives activations (B, C·h·w) of the lower part.
    """

    loaded: Loaded
    line: Cut
    frozen: Frozen

    @property
    def precision(self) -> str:
        """Of a saved model's graph, which is compiled for a processor whatever computes here."""
        return engine.resolve_precision("auto") if self.frozen.graph is None else self.frozen.precision

    def whole_as_pretrained(self) -> tuple[Any, int]:
        """The whole network's graph and how many of its first layers stay in f32; to be asked before anything is trained."""
        with self._convertible():
            return _kept(self.loaded, self.frozen.preprocess, self.precision, "")[:2]

    def whole(self) -> tuple[Any, int]:
        """The same of the network as it is now."""
        with self._convertible():
            return converted(self.loaded.network.cpu().eval(), self.frozen.preprocess, self.precision)

    @contextmanager
    def _convertible(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise UserError(
                f"{self.loaded.name} cannot be compiled, and a fine-tuned model of it could not be saved.",
                received=str(error).splitlines()[0][:160],
                hint="--train-from head",
            ) from error


def freeze_below(settings: Settings, stored: tuple[int, int] | None) -> Below:
    """Load the backbone of ``settings``, cut it where ``settings.train_from`` says and compile what is below; as ``freeze``."""
    from frostline.models.transfer import Lower, cut

    if settings.backbone == inside.BACKBONE:
        raise UserError(
            f"{inside.BACKBONE} gives features; it is not trained on.",
            received=f"train_from={settings.train_from}",
            hint="--train-from head, or --recipe fast-94, which trains such a network from scratch",
        )
    loaded, preprocess = _loaded(settings, stored)
    line = cut(cast("FeatureNetwork", loaded.network), settings.train_from, preprocess.size, settings.backbone)
    lower: Loaded = replace(loaded, network=cast("Any", Lower(line.lower).eval()))
    return Below(loaded, line, _ready(lower, preprocess, settings, line.first))


def _eager(loaded: Loaded, preprocess: Preprocess, settings: Settings, notes: list[str], first: str) -> Frozen:
    from frostline.models.eager import EagerEngine

    runner = EagerEngine(loaded.network, preprocess, settings.device, settings.precision)
    try:
        answer = next(runner.run([drawn_images(1, *preprocess.stored)]))[0]
        if answer.ndim != 2:
            raise ValueError(f"features of shape {answer.shape}")
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        height, width = preprocess.size
        raise UserError(
            f"{loaded.name} gives no features of images of {height}×{width}.",
            expected="a row of features for each image",
            received=str(error).splitlines()[0][:200],
            hint="--set image_size=…, larger; other model_args in the weights' config.json; or another network",
        ) from error
    width = answer.shape[1]
    key = {
        **_key(loaded, preprocess, first),
        "engine": runner.name,
        "precision": runner.precision,
        "batch": runner.batch,
    }
    return Frozen(loaded, preprocess, None, runner, width, runner.precision, 0, key, [*loaded.notes, *notes])
