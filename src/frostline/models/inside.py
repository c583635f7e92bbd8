"""The classifier inside, as torch has it: made small for the package, and taken from there as the backbone ``cifar-fast``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from frostline import engine, inside
from frostline.abstaining import stated_threshold
from frostline.artifact import write_model
from frostline.calibrate import apply_temperature, recorded_temperature
from frostline.conformal import card_rows
from frostline.convert import convert_head, convert_network
from frostline.data.batches import ArrayBatches
from frostline.data.imageset import ImageSet
from frostline.data.reading import stored_pixels
from frostline.model_card import WEIGHTS, read_card, seen_digests
from frostline.models.cnn import WithMap, make_network
from frostline.models.fast import folded
from frostline.models.layers import Classifier
from frostline.preprocess import Preprocess
from frostline.records import json_record
from frostline.training import log_probabilities
from frostline.vino import ops, ov


def compact(model: Path, validation: ImageSet, out: Path, views: int, about: Mapping[str, Any]) -> str:
    """Write the model directory that ships: filters in 8 bits, every weight once, BatchNorm folded; returns the model's digest.

    Temperature and thresholds are fitted anew, on what the rounded network says with so many views.

    Args:
        model: the model directory of a run of one of the fast networks.
        validation: the images on which that run chose.
        out: the directory to write.
        views: how many of ``data.views.SERVED`` it shall average.
        about: what the card shall say beside what the run's says: what it is for, the command, its scores.
    """
    card = read_card(model)
    network = _rounded(_folded(model, card.values))
    preprocess = _representable(card.preprocess)
    batches = ArrayBatches(
        stored_pixels(validation, preprocess), validation.labels, 250, views=views, mean=preprocess.mean, std=preprocess.std
    )
    log_p = log_probabilities(network, batches)[0].numpy()
    calibrated = recorded_temperature(log_p, validation.labels)
    body = engine.with_views(convert_network(WithMap(network.body), preprocess), views)
    width = int(card.values["architecture"]["features"])
    graph = _kept_small(engine.join(body, convert_head(network.head, width, calibrated["temperature"])))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    places = _places(graph, weights)
    probabilities = apply_temperature(log_p, calibrated["temperature"])
    values: dict[str, Any] = {
        key: value for key, value in card.values.items() if key not in ("schema", "files", "digest", "scores")
    }
    values |= {
        **calibrated,
        "preprocess": preprocess.as_dict(),
        "views": views,
        "made_from": card.digest,
        "shared_weights": places,
        "precision": "bf16",
    }
    values |= {
        "sure_from": stated_threshold(probabilities, validation.labels),
        "label_sets": card_rows(probabilities, validation.labels),
        **about,
    }
    kept = {name: value for name, value in weights.items() if name not in places}
    digest = write_model(out, graph, kept, seen_digests(model), json_record(values), half=True)
    _check_kept(inside.weights(out), weights)
    return digest


def _check_kept(found: Mapping[str, NDArray[Any]], weights: Mapping[str, NDArray[Any]]) -> None:
    """What was written is read back: every weight as it was rounded."""
    wrong = [name for name, value in weights.items() if not np.array_equal(found.get(name, np.empty(0)), value)]
    if wrong:
        raise ValueError(f"these weights are not in the model directory as they were rounded: {', '.join(wrong)}")


def _folded(model: Path, card: Mapping[str, Any]) -> Classifier:
    network = make_network(card["architecture"]["network"], len(card["classes"]), tuple(card["preprocess"]["size"]))
    network.load_state_dict(load_file(model / WEIGHTS))
    return folded(network.eval())


def _rounded(network: Classifier) -> Classifier:
    """Every weight as it will be kept: as float16 holds it, or 8 bits and a scale."""
    with torch.no_grad():
        for value in network.state_dict().values():
            parts = inside.in_8_bits(value.numpy())
            value.copy_(value.half().float() if parts is None else torch.from_numpy(parts[0] * parts[1].astype(np.float32)))
    return network


def _kept_small(graph: ov.Model) -> ov.Model:
    """The same graph, its constants kept in 8 bits and scales, or in float16, and made floats of when it is compiled.

    OpenVINO's own way to float16 leaves a graph alone that has constants of 8 bits.
    """
    graph = graph.clone()
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32:
            continue
        value = node.data
        if (parts := inside.in_8_bits(value)) is not None and (parts[0] * parts[1].astype(np.float32) == value).all():
            whole, scales = (ops.convert(ops.constant(part), "f32") for part in parts)
            node.output(0).replace(ops.multiply(whole, scales).output(0))
        elif value.size > 1 and (value.astype(np.float16) == value).all():
            node.output(0).replace(ops.convert(ops.constant(value.astype(np.float16)), "f32").output(0))
    return graph


def _representable(preprocess: Preprocess) -> Preprocess:
    """The nearest mean and deviation whose scale and offset, as the graph holds them, are float16 numbers."""
    scales = [float(np.float16(1 / (255 * deviation))) for deviation in preprocess.std]
    std = [1 / (255 * scale) for scale in scales]
    offsets = [float(np.float16(-mean / deviation)) for mean, deviation in zip(preprocess.mean, std, strict=True)]
    mean = [-offset * deviation for offset, deviation in zip(offsets, std, strict=True)]
    return replace(preprocess, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))


def _places(graph: Any, weights: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        engine.save_graph(graph, Path(scratch) / "graph.xml", half=True)
        return inside.shared(weights, (Path(scratch) / "graph.bin").read_bytes())
