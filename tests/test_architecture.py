"""The shape of the package: arrows one way, torch only where training is, files that can be read in one sitting."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import frostline

ROOT = Path(frostline.__file__).parent

#: Every module, in the order of the data path: a module may import only what stands before it.
LAYERS = [
    # values and small tools
    "",
    "errors",
    "files",
    "progress",
    "stopping",
    "environment",
    "drawn",
    "setting_values",
    "config",
    "amounts",
    "recipes",
    # images in
    "preprocess",
    "image_bytes",
    "image_heads",
    "decode",
    "stored",
    "model_card",
    "data",
    "data.imageset",
    "data.statindex",
    "data.rows",
    "data.archives",
    "data.download",
    "data.cifar",
    "data.folders",
    "data.parquet",
    "data.tables",
    "data.sources",
    "data.units",
    "data.splits",
    "data.edits",
    "data.reading",
    "auditing",
    "auditing.thumbnails",
    "auditing.duplicates",
    "data.augment",
    "data.views",
    "data.order",
    "data.batches",
    "data.mixing",
    "data.mixtures",
    # predictions, scores and the record of a run: all from saved values
    "predictions",
    "picked",
    "metrics",
    "calibrate",
    "abstaining",
    "conformal",
    "records",
    "history",
    "layers",
    "run_folder",
    "runs",
    "paired",
    "verified",
    "compare",
    "plots",
    "plots_search",
    "plots_compare",
    "plots_shift",
    "plots_explain",
    "pictures",
    "reporting",
    "reporting.words",
    "reporting.document",
    "reporting.svg",
    "reporting.charts",
    "reporting.drawing",
    "reporting.inspected",
    "reporting.galleries",
    "reporting.facts",
    "reporting.verdict",
    "reporting.about",
    "reporting.making",
    "reporting.results",
    "reporting.ending",
    "reporting.page",
    "reporting.pictures",
    "reporting.card",
    "reporting.write",
    "auditing.audit",
    # compiled graphs, frozen features
    "vino",
    "engine",
    "explaining",
    "explaining.backward",
    "explaining.gradcam",
    "feature_cache",
    "rounding",
    "models.layers",
    "convert",
    "models",
    "model_files",
    "model_zip",
    "inside",
    "models.fast",
    "models.cnn",
    "models.shipped",
    "models.backbones",
    "models.keras_names",
    "models.traced",
    "models.folded",
    "models.transfer",
    "models.hub_config",
    "models.hub",
    "models.weights",
    "models.compiled",
    "models.device",
    "models.eager",
    "explaining.galleries",
    "features",
    "frozen",
    # heads and training
    "linear",
    "anytime",
    "feature_neighbours",
    "auditing.neighbours",
    "auditing.label_errors",
    "models.heads",
    "checkpoints",
    "losses",
    "optim",
    "loop_state",
    "training",
    "rehearsal",
    "heap",
    "rate_finder",
    "loop",
    "heads",
    # the model directory, and what is trained into one
    "exports",
    "exports.ir",
    "exports.onnx_writing",
    "exports.onnx_layers",
    "exports.onnx_rules",
    "exports.onnx_graph",
    "runner",
    "onnx_engine",
    "models.rebuilt",
    "selftest",
    "artifact",
    "models.exporting",
    "models.inside",
    "serve",
    "serve.predictor",
    "teacher",
    "trained",
    "speed",
    "plan",
    "train_frozen",
    "train_scratch",
    "above_line",
    "activations",
    "train_finetune",
    "choosing",
    "auditing.features",
    "effects",
    "preparing",
    "experiment",
    "repeat",
    "search_spaces",
    "tune",
    # what stands on a saved model
    "serve.settings",
    "serve.answers",
    "serve.refusals",
    "serve.batching",
    "serve.reading",
    "serve.metrics",
    "serve.reference",
    "serve.service",
    "serve.limits",
    "serve.bodies",
    "serve.logs",
    "serve.gate",
    "serve.tensors",
    "serve.described",
    "serve.answering",
    "serve.protocol",
    "wanted",
    "judge",
    "exports.quantisation",
    "exports.parity",
    "exports.forms",
    "exports.int8_form",
    "exports.exporting",
    "imports",
    "imports.onnx_reading",
    "imports.parts",
    "imports.graph",
    "imports.importing",
    "shifts",
    "shifts.warping",
    "shifts.corruptions",
    "shifts.shift",
    "predicting",
    "predicting.items",
    "predicting.packed_images",
    "predicting.listing",
    "predicting.row_formats",
    "predicting.resuming",
    "predicting.batch",
    "explaining.neighbours",
    "explaining.explain",
    # the page and the whole service
    "serve.page_examples",
    "serve.page_gradio",
    "serve.page_receiving",
    "serve.page_unread",
    "serve.page_guard",
    "serve.page_uploads",
    "serve.page_words",
    "serve.page_model",
    "serve.page_parts",
    "serve.page_one",
    "serve.page_many",
    "serve.page",
    "serve.api",
    "serve.connections",
    "serve.running",
    # what a person sees
    "show",
    "show_lists",
    "commands",
    "commands.options",
    "commands.training",
    "commands.judging",
    "commands.reporting",
    "commands.using",
    "commands.serving",
    "commands.shipping",
    "commands.explaining",
    "cli",
    "__main__",
]
#: Modules that may import torch or timm, beside everything in models/.
WITH_TORCH = {
    "checkpoints",
    "loop_state",
    "data.augment",
    "data.order",
    "data.batches",
    "data.mixing",
    "above_line",
    "activations",
    "training",
    "rehearsal",
    "rate_finder",
    "plan",
    "convert",
    "loop",
    "train_frozen",
    "train_scratch",
    "train_finetune",
    "optim",
    "losses",
    "linear",
    "heads",
}
#: Packages that a process without torch must not load.
HEAVY = ("torch", "timm", "lightning_fabric", "torchvision")


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path):
    """Names of all modules that a file imports anywhere, in functions too; relative imports are not used here."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix("frostline.") in MODULES else node.module for name in inside}
    return found


def own(path):
    """Names, without "frostline.", of the package's own modules that a file imports."""
    names = {name for name in imports(path) if name.split(".")[0] == "frostline"}
    return {name.removeprefix("frostline").removeprefix(".") for name in names}


def test_every_module_has_its_place():
    assert len(LAYERS) == len(set(LAYERS))
    assert sorted(set(MODULES) - set(LAYERS)) == []


@pytest.mark.parametrize("name", sorted(set(MODULES) & set(LAYERS)))
def test_a_module_imports_only_earlier_ones(name):
    if name == "":
        return  # the public names, looked up when they are asked for: see the test without torch
    earlier = set(LAYERS[: LAYERS.index(name)])
    assert sorted(own(MODULES[name]) - earlier) == []


def test_torch_is_imported_only_where_training_is():
    guilty = {name for name, path in MODULES.items() if {imported.split(".")[0] for imported in imports(path)} & set(HEAVY)}
    assert sorted(name for name in guilty - WITH_TORCH if not name.startswith("models.")) == []


@pytest.mark.parametrize(
    "module",
    [
        "frostline",
        "frostline.metrics",
        "frostline.compare",
        "frostline.runs",
        "frostline.data.sources",
        "frostline.data.splits",
        "frostline.features",
        "frostline.engine",
        "frostline.explaining.gradcam",
        "frostline.explaining.galleries",
        "frostline.explaining.explain",
        "frostline.artifact",
        "frostline.serve.predictor",
    ],
)
def test_judging_and_predicting_load_no_torch(module):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "[]", "")


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, frostline; print(sorted(set(sys.modules) & {'numpy', 'PIL', 'openvino', 'rich', 'typer'}))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_files_are_short():
    assert {name: lines for name, path in MODULES.items() if (lines := len(path.read_text("utf-8").splitlines())) > 300} == {}


def test_nothing_is_reported_to_anyone():
    """OpenVINO would otherwise report its use over the network, from a forked process."""
    code = "import frostline.serve.predictor, frostline.convert, sys; print(sys.modules.get('openvino_telemetry'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "None"
    others = {name for name, path in MODULES.items() if any(found.split(".")[0] == "openvino" for found in imports(path))}
    assert others == {"vino"}
