"""``frostline export`` and ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from frostline.commands.options import DATA_HELP, Json, Unknown, print_json

Forms = Literal["onnx", "openvino", "int8", "torch", "litert", "timm", "zip"]


def export(
    model: Annotated[Path, typer.Argument(help='A run, a model directory, a ZIP of one, or "inside".')],
    to: Annotated[Forms, typer.Option(help="The form.")],
    out: Annotated[Path | None, typer.Option(help="File or folder to make. Default: named after the model.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help=f"Images to compare on (default: drawn ones), and to quantise with (default: a run's own): {DATA_HELP}."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the data: validation or test; never test for int8.")] = "validation",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    max_loss: Annotated[float, typer.Option(min=0, max=100, help="int8: points of accuracy that may be lost.")] = 0.5,
    min_gain: Annotated[float, typer.Option(min=0, help="int8: speed that must be gained, as a factor; 0 for any.")] = 1.3,
    calibration: Annotated[int, typer.Option(min=1, help="int8: images that ranges are taken from, but no more than half.")] = 300,
    json: Json = False,
) -> None:
    """Write a saved model in a form that other programs read, compared with the model on the same images."""
    from frostline.exports.exporting import export as write
    from frostline.exports.exporting import say_parity
    from frostline.exports.int8_form import say_int8
    from frostline.progress import say

    limits = {"max_loss": max_loss, "min_gain": min_gain}
    place, record = write(model, to, out, data=data, split=split, overwrite=overwrite, calibration=calibration, **limits)
    if json:
        print_json({"out": str(place), **record})
        return
    say_int8(record) if to == "int8" else say_parity(record)
    say(f"Written: {place}")


def import_(
    network: Annotated[Path, typer.Argument(help="An ONNX file.")],
    classes: Annotated[str, typer.Option(help="Names in the order of its outputs: a,b,c, or a file with one a line.")],
    out: Annotated[
        Path | None, typer.Option(help="The model directory to make; with --data, the run. Default: named after the network.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Of the images it takes: 224, or HEIGHTxWIDTH. Default: the network's own, or 224.")
    ] = None,
    preprocess: Annotated[
        str,
        typer.Option(help="imagenet, unit ([0, 1]), signed ([-1, 1]), pixels ([0, 255]), caffe; or JSON, or a file of it."),
    ] = "imagenet",
    channels: Annotated[Literal["rgb", "bgr"] | None, typer.Option(help="As it takes them. Default: the preset's.")] = None,
    layout: Annotated[Literal["auto", "nchw", "nhwc"], typer.Option(help="Of its input.")] = "auto",
    gives: Annotated[Literal["auto", "logits", "probabilities"], typer.Option(help="What comes out of it.")] = "auto",
    fit: Annotated[Literal["squash", "pad", "crop"], typer.Option(help="How photos are brought to the size.")] = "squash",
    output_name: Annotated[str, typer.Option(help="Which of several outputs.")] = "",
    licence: Annotated[str, typer.Option(help="Of its weights, for the card.")] = "unknown",
    data: Annotated[str | None, typer.Option(help=f"Judge it on this and write a run: {DATA_HELP}.")] = None,
    split: Annotated[str, typer.Option(help="Of the data: test.")] = "test",
    unknown_as_wrong: Unknown = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="With --data: replace the run in --out, once judged.")] = False,
) -> None:
    """Make a model directory of anyone's ONNX network: it predicts, is judged, compared, reported on and served like your own."""
    from frostline.imports.graph import framing, read_preprocess, read_size
    from frostline.imports.importing import import_onnx, read_classes, size_of

    before = read_preprocess(preprocess, fit)
    sides = read_size(size) if size is not None else size_of(network, before, layout, output_name)
    frame = framing(sides, before, channels=channels or "", layout=layout, gives=gives)
    import_onnx(
        network,
        read_classes(classes),
        frame,
        out or Path(network.stem),
        output_name=output_name,
        data=data,
        split=split,
        licence=licence,
        overwrite=overwrite,
        unknown_as_wrong=unknown_as_wrong,
    )
