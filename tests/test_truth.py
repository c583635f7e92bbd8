"""One truth: the same two hundred images get the same answer by every way in."""

import tarfile
import zipfile

import numpy as np
import pytest
from truth_images import COUNT, truth_images

from frostline import inside
from frostline.data.imageset import ImageSet
from frostline.data.rows import digest_bytes16
from frostline.data.sources import load_source
from frostline.exports.exporting import FORMS
from frostline.exports.onnx_graph import to_onnx
from frostline.imports.graph import framing
from frostline.imports.importing import import_onnx
from frostline.predicting.batch import predict_files
from frostline.serve.predictor import Predictor
from frostline.stored import read_stored

CLASSES = 10


@pytest.fixture(scope="module")
def predictor():
    return Predictor("inside", "f32")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    for name, data in truth_images().items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def truth(predictor, files):
    """(200, 10): what training-time evaluation says."""
    n = len(files)
    names = np.array([path.name for path in files])
    digests = np.array([digest_bytes16(path.read_bytes()) for path in files], "S16")
    images = ImageSet("test", predictor.classes, np.zeros(n, np.int64), names, digests, files=tuple(files))
    return predictor.judge(images).probabilities


def test_the_images_are_many_and_differ(truth):
    assert truth.shape == (COUNT, CLASSES)
    assert len({p.tobytes() for p in truth}) > COUNT * 0.95


def test_paths_and_bytes(predictor, files, truth):
    np.testing.assert_array_equal(predictor.predict(files), truth)
    np.testing.assert_array_equal(predictor.predict(list(truth_images().values())), truth)


def test_another_batch(files, truth):
    found = Predictor("inside", "f32", batch=3).predict(files)
    np.testing.assert_allclose(found, truth, atol=1e-4)


def test_a_folder_of_small_images_that_becomes_arrays(predictor, tmp_path):
    """Such a folder is decoded whole when it is looked through; single files must be, too."""
    some = {name: data for name, data in truth_images().items() if "-64x64-" in name}
    for number, (name, data) in enumerate(some.items()):
        (tmp_path / f"class-{number % 2}").mkdir(exist_ok=True)
        (tmp_path / f"class-{number % 2}" / name).write_bytes(data)
    (images,) = load_source(tmp_path, training=False).sets.values()
    assert images.pixels is not None
    paths = [next(tmp_path.rglob(row.rpartition("/")[2])) for row in images.ids]
    judged = predictor.judge(images, np.zeros(len(images), np.int64))
    assert len(judged.probabilities) > 5
    np.testing.assert_array_equal(judged.probabilities, predictor.predict(paths))


@pytest.mark.parametrize("name", ["truth.zip", "truth.tar.gz"])
def test_files_folders_and_archives(predictor, files, truth, tmp_path, name):
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            for path in files:
                packed.write(path, path.name)
    else:
        with tarfile.open(tmp_path / name, "w:gz", compresslevel=1) as tar:
            for path in files:
                tar.add(path, path.name)
    rows = list(predict_files(predictor, [files[0].parent, tmp_path / name], CLASSES))
    assert [row.path.rpartition("/")[2] for row in rows] == 2 * [path.name for path in files]
    for row, p in zip(rows, np.concatenate([truth, truth]), strict=True):
        assert dict(row.top) == dict(zip(predictor.classes, p.tolist(), strict=True))


@pytest.mark.parametrize("to", ["onnx", "openvino", "zip", pytest.param("torch", marks=pytest.mark.slow)])
def test_every_export_in_f32(to, predictor, files, truth, tmp_path):
    answer = FORMS[to].write(predictor, tmp_path / f"inside{FORMS[to].ending}")
    stored = np.stack([read_stored(path, predictor.card.preprocess) for path in files])
    np.testing.assert_allclose(answer(stored), truth, atol=1e-4)


def test_an_import_of_the_network(files, truth, tmp_path):
    """What the classifier inside computes, taken for somebody else's network: floats in, one view."""
    onnx = pytest.importorskip("onnx")
    model = to_onnx(inside.place() / "graph.xml")
    onnx.save(without_uint8(onnx, model), tmp_path / "net.onnx")
    frame = framing((32, 32), {"mean": [0, 0, 0], "std": [1 / 255] * 3}, layout="nhwc")
    imported = Predictor(import_onnx(tmp_path / "net.onnx", list("abcdefghij"), frame, tmp_path / "m", output_name="probabilities"))
    np.testing.assert_allclose(imported.predict(files), truth, atol=1e-4)


def without_uint8(onnx, model):
    """The same network for floats of [0, 255]."""
    (given,) = model.graph.input
    given.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model
