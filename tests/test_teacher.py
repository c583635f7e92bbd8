"""A student learns what its teacher says of the training images, and nothing from their labels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import tinted_folders
from torch.nn import functional

from frostline import teacher as teaching
from frostline.checkpoints import training_identity
from frostline.config import Settings
from frostline.data.batches import ArrayBatches, FeatureBatches
from frostline.data.rows import pixel_digests
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.feature_cache import entries
from frostline.files import digest_json
from frostline.losses import make_loss
from frostline.losses import taught as loss_beside
from frostline.model_card import read_card, seen_digests
from frostline.repeat import train_seeds
from frostline.runs import Run
from frostline.serve.predictor import Predictor
from frostline.stopping import StopRule
from frostline.teacher import open_teacher, softened

pytestmark = pytest.mark.usefixtures("without_pictures")

CLASSES = ["10", "2", "nut"]
SETTINGS = Settings(
    recipe="cnn-small", kind="scratch", network="cnn-small", epochs=2, batch_size=20, device="cpu", precision="f32", lr=3e-3
)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    tinted_folders(root / "train", CLASSES, 40)
    tinted_folders(root / "test", CLASSES, 10, start=500)
    return load_data(root, SETTINGS)


@pytest.fixture(scope="module")
def teacher(splits, tmp_path_factory):
    return train(splits, SETTINGS.with_values(seed=1, epochs=3), tmp_path_factory.mktemp("teacher") / "run")


@pytest.fixture
def taught_by(teacher):
    return SETTINGS.with_values(teacher=str(teacher.folder))


def mislabelled(splits):
    """The same splits, with labels of training images that say nothing."""
    labels = np.random.default_rng(0).integers(0, len(CLASSES), len(splits.train))
    return replace(splits, train=replace(splits.train, labels=labels))


class Soon(StopRule):
    """Ends at the look of this number."""

    def __init__(self, looks):
        super().__init__()
        self.left = looks

    def check(self, accuracy=None):
        self.left -= 1
        self.interrupted = self.left <= 0
        return super().check(accuracy)


def test_softened_answers_are_their_powers():
    p = np.array([[0.9, 0.1, 0.0], [0.25, 0.25, 0.5]], np.float32)
    np.testing.assert_allclose(softened(p, 1.0), p, atol=1e-6)
    np.testing.assert_allclose(softened(p, 2.0)[1], np.sqrt(p[1]) / np.sqrt(p[1]).sum(), rtol=1e-6)
    assert np.isfinite(softened(p, 0.1)).all()
    assert softened(p, 100.0).max() < 0.65
    np.testing.assert_allclose(softened(p, 3.0).sum(axis=1), 1, rtol=1e-6)


def test_loss_is_least_where_the_student_says_what_the_teacher_says():
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    answers = functional.softmax(z / 2, dim=1)
    logits = z.clone().requires_grad_(True)
    loss_beside(logits, answers, 2.0).backward()
    assert logits.grad.abs().max() < 1e-9
    other = (z + torch.eye(5, 3)).requires_grad_(True)
    loss = loss_beside(other, answers, 2.0)
    loss.backward()
    assert float(loss_beside(z, answers, 2.0)) == pytest.approx(0, abs=1e-9)
    # d/dz of T² CE(a, z / T) is T (softmax(z / T) − a), a mean over the rows
    torch.testing.assert_close(other.grad, 2.0 * (functional.softmax(other.detach() / 2, dim=1) - answers) / 5)
    assert loss > loss_beside(z, answers, 2.0)


def test_sure_answers_are_labels():
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = make_loss(Settings(teacher="some", teacher_temperature=1.0, label_smoothing=0.3))
    torch.testing.assert_close(loss(logits, functional.one_hot(labels, 3).float()), functional.cross_entropy(logits, labels))


def test_answers_stay_with_their_images():
    numbers = np.arange(50, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (50, 4, 4, 3)).copy()
    answers = numbers[:, None] + np.array([[0.0, 0.25]], np.float32)
    batches = ArrayBatches(images, np.zeros(50, np.int64), 16, mean=(0, 0, 0), std=(1 / 255,) * 3, shuffle=True)
    seen = [(x, y) for x, y in batches.learn_from(answers).epoch(3)]
    for x, y in seen:
        torch.testing.assert_close(y[:, 0], x[:, 0, 0, 0])
        torch.testing.assert_close(y[:, 1] - y[:, 0], torch.full((len(y),), 0.25))
    assert sum(len(y) for _, y in seen) == 50
    with pytest.raises(ValueError, match="answers for 50 rows"):
        batches.learn_from(answers[:-1])


def test_a_student_learns_from_answers_alone(splits, teacher, taught_by, tmp_path, capsys):
    taught = taught_by.with_values(epochs=4)
    run, blind = (train(each, taught, tmp_path / name) for name, each in (("run", splits), ("blind", mislabelled(splits))))
    said = capsys.readouterr().err
    assert f"Taught by cnn-small ({read_card(teacher.model_folder).digest})" in said
    one, other = (np.load(each.folder / "predictions" / "test.npz") for each in (run, blind))
    np.testing.assert_array_equal(one["probabilities"], other["probabilities"])
    assert run.scores("test")["accuracy"] >= 0.9
    record = read_card(run.model_folder).values["training"]["teacher"]
    assert record["digest"] == read_card(teacher.model_folder).digest
    assert record["agrees_with_labels"] >= 0.9
    assert "taught by cnn-small (none taken over" in read_card(run.model_folder).licences["weights"]
    assert record["seen_of_validation"] == len(splits.validation)
    assert str(teacher.folder) not in (run.model_folder / "model.json").read_text("utf-8")


def test_which_images_are_easy_is_known_from_the_answers_too(splits, taught_by, tmp_path):
    taught = taught_by.with_values(epochs=2, skip_easy=0.25)
    run, blind = (train(each, taught, tmp_path / name) for name, each in (("run", splits), ("blind", mislabelled(splits))))
    one, other = (np.load(each.folder / "predictions" / "test.npz")["probabilities"] for each in (run, blind))
    np.testing.assert_array_equal(one, other)


def test_what_the_teacher_has_seen_its_student_has_seen(splits, teacher, taught_by, tmp_path):
    fewer = replace(splits, train=splits.train.take(np.arange(0, len(splits.train), 2)))
    run = train(fewer, taught_by.with_values(epochs=1), tmp_path / "run")
    assert seen_digests(run.model_folder) == seen_digests(teacher.model_folder)


def test_answers_are_what_the_teacher_predicts_asked_once(splits, teacher, taught_by, monkeypatch):
    predicted = Predictor(teacher.folder).judge(splits.train).probabilities
    found = open_teacher(taught_by.with_values(teacher_temperature=1.0), splits).answers(splits.train, StopRule())
    np.testing.assert_allclose(found, predicted, atol=1e-6)
    assert [(each["key"]["view"], each["rows"]) for each in entries()] == [("answers", len(splits.train))]
    monkeypatch.setattr(teaching, "_asked", lambda *_: pytest.fail("the teacher is asked again"))
    again = open_teacher(taught_by.with_values(teacher_temperature=3.0), splits).answers(splits.train, StopRule())
    np.testing.assert_allclose(again, softened(predicted, 3.0), atol=1e-5)


def test_answers_stand_in_the_order_of_the_students_classes(splits, teacher, taught_by):
    turned = tuple(reversed(splits.train.classes))
    others = {name: replace(getattr(splits, name), classes=turned) for name in ("train", "validation", "test")}
    one = open_teacher(taught_by, splits).answers(splits.train, StopRule())
    other = open_teacher(taught_by, replace(splits, **others)).answers(splits.train, StopRule())
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-6)


def test_asking_goes_on_where_it_was_stopped(splits, taught_by, monkeypatch):
    monkeypatch.setattr(teaching, "KEPT_EVERY", 30)
    model = open_teacher(taught_by, splits)

    assert model.answers(splits.train, Soon(2)) is None
    asked = []
    monkeypatch.setattr(teaching, "_asked", lambda _, images, rows: asked.append(rows) or np.ones((len(rows), 3), "f4"))
    assert model.answers(splits.train, StopRule()) is not None
    assert sum(map(len, asked)) == len(splits.train) - 60


def test_a_teacher_that_knows_test_is_refused(splits, taught_by):
    with pytest.raises(UserError, match="has seen 5 of the"):
        open_teacher(taught_by, replace(splits, test=splits.train.take(np.arange(5))))


def test_a_teacher_of_other_classes_is_refused(splits, taught_by):
    named = tuple("bolt" if name == "nut" else name for name in splits.classes)
    others = {name: replace(getattr(splits, name), classes=named) for name in ("train", "validation", "test")}
    with pytest.raises(UserError, match="a model without bolt"):
        open_teacher(taught_by, replace(splits, **others))


def test_a_student_learns_from_mixtures_too(splits, teacher, taught_by, tmp_path, monkeypatch):
    taught = taught_by.with_values(epochs=4, teacher_mixtures=2, alternate=True)
    run = train(splits, taught, tmp_path / "run")
    assert run.scores("test")["accuracy"] >= 0.9
    record = read_card(run.model_folder).values["training"]
    n = len(splits.train)
    assert (record["teacher"]["mixtures"], record["train_images"]) == (2 * n, n)
    alone = read_card(train(splits, taught_by, tmp_path / "alone").model_folder).values["training"]
    assert record["teacher"]["agrees_with_labels"] == alone["teacher"]["agrees_with_labels"]
    assert sum(each["rows"] for each in entries()) == 3 * n
    assert seen_digests(run.model_folder) == seen_digests(teacher.model_folder)
    monkeypatch.setattr(teaching, "_asked", lambda *_: pytest.fail("the teacher is asked again"))
    with monkeypatch.context() as patch:
        patch.setattr(Run, "add_history", _dies_after_the_second)
        with pytest.raises(_Killed):
            train(splits, taught, tmp_path / "again")
    again = train(splits, taught, tmp_path / "again", resume=True)
    assert (again.model_folder / "weights.safetensors").read_bytes() == (run.model_folder / "weights.safetensors").read_bytes()


def test_what_the_teacher_says_of_mixtures_is_what_it_predicts_for_them(splits, teacher, taught_by):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 24, 3), dtype=np.uint8)
    mixed = replace(
        splits.train.take(np.arange(20)), pixels=pixels, files=None, sides=None, lengths=None, digests=pixel_digests(pixels)
    )
    found = open_teacher(taught_by.with_values(teacher_temperature=1.0), splits).answers(splits.train, StopRule(), mixed)
    expected = [Predictor(teacher.folder).judge(images).probabilities for images in (splits.train, mixed)]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("values", "why"), [({"teacher": ""}, "no teacher"), ({"kind": "frozen", "train_from": "layer4"}, "activations")]
)
def test_mixtures_that_cannot_be_learned_from_are_refused(splits, taught_by, values, why):
    with pytest.raises(UserError, match="cannot be learned from here") as error:
        open_teacher(taught_by.with_values(teacher_mixtures=3, **values), splits)
    assert why in str(error.value)


@pytest.mark.parametrize("values", [{"loss": "focal"}, {"balance": "loss"}])
def test_what_weighs_labels_is_refused(splits, taught_by, values):
    with pytest.raises(UserError, match="from its teacher's answers"):
        open_teacher(taught_by.with_values(**values), splits)


def test_a_fitted_head_has_no_teacher(splits, tiny, teacher, tmp_path):
    with pytest.raises(UserError, match="above a frost line or from scratch"):
        train(splits, tiny.with_values(teacher=str(teacher.folder)), tmp_path / "run")


def test_no_such_teacher(splits, tmp_path):
    with pytest.raises(UserError, match="There is no model"):
        open_teacher(SETTINGS.with_values(teacher=str(tmp_path / "none")), splits)


@pytest.mark.slow
def test_a_student_of_a_teacher_that_knows_not_what_it_has_seen_does_not_either(splits, teacher, tmp_path, capsys):
    imported = shutil.copytree(teacher.model_folder, tmp_path / "imported")
    values = json.loads((imported / "model.json").read_text("utf-8")) | {"knows_seen": False}
    values["digest"] = digest_json({key: value for key, value in values.items() if key != "digest"})
    (imported / "model.json").write_text(json.dumps(values), "utf-8")
    student = train(splits, SETTINGS.with_values(teacher=str(imported)), tmp_path / "student")
    assert "has seen is not known" in capsys.readouterr().err
    assert not read_card(student.model_folder).knows_seen
    train(splits, SETTINGS.with_values(teacher=str(student.folder)), tmp_path / "grandchild")
    assert "has seen is not known" in capsys.readouterr().err
    assert not read_card((tmp_path / "grandchild") / "model").knows_seen


def test_an_answer_that_is_no_number_is_refused(splits, taught_by, monkeypatch):
    answers = np.full((len(splits.train), 3), 1 / 3, np.float32)
    answers[7, 1] = np.nan
    monkeypatch.setattr(Predictor, "stored", lambda self, blocks: iter([answers]))
    with pytest.raises(UserError, match="is no number") as error:
        open_teacher(taught_by, splits).answers(splits.train, StopRule())
    assert str(splits.train.ids[7]) in str(error.value)
    assert entries() == []


@pytest.mark.slow
def test_a_teacher_that_changes_meanwhile_is_refused(splits, teacher, tmp_path):
    folder = shutil.copytree(teacher.folder, tmp_path / "teacher")
    found = open_teacher(SETTINGS.with_values(teacher=str(folder)), splits)
    train(splits, SETTINGS.with_values(seed=2), folder, overwrite=True)
    with pytest.raises(UserError, match="changed meanwhile"):
        found.answers(splits.train, StopRule())


def test_what_cannot_be_is_found_before_the_run_s_folder_is_touched(splits, teacher, taught_by, tmp_path):
    for settings in (taught_by.with_values(loss="focal"), SETTINGS.with_values(teacher=str(tmp_path / "none"))):
        with pytest.raises(UserError):
            train(splits, settings, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    folder = shutil.copytree(teacher.folder, tmp_path / "own")
    with pytest.raises(UserError, match="cannot be its own teacher"):
        train(splits, SETTINGS.with_values(teacher=str(folder)), folder, overwrite=True)


@pytest.mark.slow
def test_a_resumed_run_has_the_teacher_that_it_began_with(splits, taught_by, tmp_path, monkeypatch):
    folder = shutil.copytree(Path(taught_by.teacher), tmp_path / "teacher")
    settings = SETTINGS.with_values(teacher=str(folder), epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "add_history", _dies_after_the_second)
        with pytest.raises(_Killed):
            train(splits, settings, tmp_path / "run")
    train(splits, SETTINGS.with_values(seed=2), folder, overwrite=True)
    monkeypatch.setattr(teaching, "_asked", lambda *_: pytest.fail("a teacher is asked before it is known to be the one"))
    with pytest.raises(UserError, match="of another training"):
        train(splits, settings, tmp_path / "run", resume=True)


class _Killed(BaseException):
    """What nothing catches."""


def _dies_after_the_second(self, row):
    if row["epoch"] == 2:
        raise _Killed


@pytest.mark.slow
def test_seeds_have_one_teacher_and_one_test_split(splits, teacher, taught_by, tmp_path):
    folder = shutil.copytree(teacher.folder, tmp_path / "teacher")
    settings = SETTINGS.with_values(teacher=str(folder), epochs=1)
    train_seeds(splits, settings, 2, tmp_path / "seeds")
    train(splits, SETTINGS.with_values(seed=2), folder, overwrite=True)
    with pytest.raises(UserError, match="that another teacher taught"):
        train_seeds(splits, settings, 3, tmp_path / "seeds")
    data = tinted_folders(tmp_path / "data", CLASSES, 40)
    own = train(data, SETTINGS, tmp_path / "own")
    with pytest.raises(UserError, match="every seed cuts its own"):
        train_seeds(data, SETTINGS.with_values(teacher=str(own.folder)), 2, tmp_path / "more")
    assert not (tmp_path / "more").exists()


@pytest.mark.slow
def test_a_dense_head_below_a_student_learns_from_labels(splits, tiny, teacher, tmp_path):
    values = {"train_from": "layer4", "epochs": 1, "head": "dense-a", "batch_size": 16, "label_smoothing": 0.1}
    settings = tiny.with_values(recipe="tiny-finetune", teacher=str(teacher.folder), **values)
    taught, plain = (
        train(splits, each, tmp_path / name) for name, each in (("a", settings), ("b", settings.with_values(teacher="")))
    )
    one, other = (np.load(run.folder / "predictions" / "test-head.npz")["probabilities"] for run in (taught, plain))
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_stopped_while_asking_a_fine_tuning_leaves_its_head(splits, tiny, teacher, tmp_path, monkeypatch):
    settings = tiny.with_values(recipe="tiny-finetune", train_from="layer4", epochs=1, teacher=str(teacher.folder))
    monkeypatch.setattr(teaching.Teacher, "answers", lambda *_: None)
    run = train(splits, settings, tmp_path / "run")
    assert (run.folder / "model" / "model.json").is_file()
    assert "teacher" not in read_card(run.model_folder).values["training"]


def test_answers_follow_rows_that_stand_in_another_order():
    features, places = np.arange(20, dtype=np.float32).reshape(20, 1, 1), np.random.default_rng(0).permutation(30)[:20]
    answers = np.stack([np.arange(30), np.zeros(30)], axis=1).astype(np.float32)
    batches = FeatureBatches(features, np.zeros(20, np.int64), 6, shuffle=True).learn_from(answers, places)
    for x, y in batches.epoch(0):
        np.testing.assert_array_equal(y[:, 0].numpy(), places[x[:, 0].long().numpy()])


def test_checkpoints_of_another_teachers_student_are_others(splits):
    plain = training_identity(SETTINGS, splits)
    assert len({plain, training_identity(SETTINGS, splits, teacher="a"), training_identity(SETTINGS, splits, teacher="b")}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_above_the_frost_line(splits, tiny, teacher, tmp_path, live):
    values = {"train_from": "layer4", "epochs": 2, "batch_size": 16, "optimizer": "adamw", "lr": 1e-3, "mixup": 0.2, "mirror": live}
    settings = tiny.with_values(recipe="tiny-finetune", teacher=str(teacher.folder), **values)
    run = train(splits, settings, tmp_path / "run")
    assert run.scores("test")["accuracy"] >= 0.9
    assert read_card(run.model_folder).values["training"]["teacher"]["name"] == "cnn-small"
    assert "teacher" not in read_card(run.stage_folder("head")).values["training"]
