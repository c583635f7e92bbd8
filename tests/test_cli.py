"""Every command, in process: what it prints where, and its exit code."""

import csv
import errno
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import reported
from drawing import encoded, put
from PIL import Image
from toymodel import write_toy

import frostline
from frostline import cli
from frostline.predictions import Predictions
from frostline.runs import Run

QUICK = ["--recipe", "cnn-small", "--set", "epochs=2", "--set", "batch_size=16"]
COLOURS = {"blue": (10, 30, 190), "green": (20, 210, 40), "red": (200, 20, 30)}


def folders(root, per_class=20):
    for name, colour in COLOURS.items():
        for number in range(per_class):
            pixels = np.full((8, 8, 3), colour, np.uint8)
            pixels[number % 8, number // 8] = 255
            put(root / name / f"{number}.png", encoded(Image.fromarray(pixels), "PNG"))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return folders(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A run of two epochs, and what training it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROSTLINE_HOME", str(tmp_path_factory.mktemp("home")))
        out = tmp_path_factory.mktemp("runs") / "a run"
        command = [sys.executable, "-m", "frostline", "train", str(data), *QUICK, "--out", str(out), "--csv", "--tensorboard"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return out, ran


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command line; its exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["frostline", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return ended.value.code or 0, said.out, said.err

    return call


def finished_run(folder, hits):
    """A finished run of four images, by hand: ``hits`` of them right."""
    labels = np.arange(4) % 2
    predicted = np.where(np.arange(4) < hits, labels, 1 - labels)
    ids, digests = np.array(list("abcd")), np.array([b"1", b"2", b"3", b"4"], "S16")
    with Run.create(folder) as made:
        made.write_predictions("test", Predictions(ids, labels, np.eye(2, dtype=np.float32)[predicted], ("no", "yes"), digests))
        made.finish({"parameters": 12, "training_seconds": 3.4})
    return folder


# the program itself


def test_version(run):
    assert run("--version") == (0, f"frostline {frostline.__version__}\n", "")


COMMANDS = ["train", "evaluate", "predict", "explain", "compare", "recipes", "models", "cache"]


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(run, flag):
    code, out, _ = run(flag)
    assert code == 0
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"frostline {command}" in out


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    heavy = "{'numpy', 'openvino', 'PIL', 'torch', 'sklearn', 'matplotlib'}"
    code = f"import atexit, sys; atexit.register(lambda: print(sorted(set(sys.modules) & {heavy})))\n"
    code += f"sys.argv = ['frostline', *{arguments}]\nimport frostline.cli; frostline.cli.main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("--exclude", None, "Cannot read"),
        ("--exclude", "id\nnobody\n", "an image that the data does not have"),
        ("--relabel", "id\nred/1.png\n", "no column 'suggested'"),
        ("--relabel", "id,suggested\nred/1.png,rde\n", "did you mean red"),
    ],
)
def test_a_file_of_edits_that_is_wrong_is_code_2(run, data, tmp_path, option, text, told):
    file = tmp_path / "edits.csv"
    if text is not None:
        file.write_text(text)
    code, _, err = run("train", data, *QUICK, option, file, "--out", tmp_path / "run")
    assert code == 2
    assert told in err


def test_a_device_without_a_network_is_code_2(run, data, tmp_path):
    code, _, err = run("inspect", data, "--device", "cpu", "--out", tmp_path / "out")
    assert (code, "A device is for a network" in err) == (2, True)


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["predict"], ["train", "x", "--epoch", "3"], ["evaluate", "m"]])
def test_what_cannot_be_parsed_is_code_2(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Usage: frostline" in err


def test_no_command_shows_the_help(run):
    code, out, err = run()
    assert code == 2
    assert "train" in out + err


# mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "densnet169-frozen"], ["There is no recipe 'densnet169-frozen'.", "did you mean densenet169-frozen"]),
        ([*QUICK, "--set", "epochs"], ["--set takes key=value.", "Received: epochs"]),
        ([*QUICK, "--set", "epoch=3"], ["There is no setting 'epoch'.", "did you mean epochs"]),
        ([*QUICK, "--set", "epochs=many"], ["Setting 'epochs' has an impossible value.", "Expected: a whole number"]),
        ([*QUICK, "--set", "epochs=0"], ["Setting 'epochs' is out of range."]),
        ([*QUICK, "--set", "optimizer=lion"], ["Expected: one of adam, adamw, sgd"]),
        ([*QUICK, "--seed", "-1"], ["Setting 'seed' is out of range."]),
        ([*QUICK, "--device", "tpu"], ["Setting 'device' has an impossible value.", "Expected: one of auto, cpu, cuda, mps"]),
        ([*QUICK, "--precision", "int8"], ["Expected: one of auto, bf16, f32"]),
        ([*QUICK, "--views", "3"], ["Setting 'views' is out of range."]),
        ([*QUICK, "--fit", "stretch"], ["Expected: one of squash, crop, pad"]),
        ([*QUICK, "--stop-at", "90"], ["Setting 'stop_at' is out of range.", "between 0 and 1"]),
        ([*QUICK, "--config", "gone.toml"], ["Cannot read settings from gone.toml."]),
        ([*QUICK, "--set", "network=cnn-huge"], ["There is no network 'cnn-huge'."]),
        ([*QUICK, "--group", "patient"], ["Groups need a table."]),
    ],
)
def test_a_mistake_is_said_without_a_traceback(run, data, tmp_path, arguments, said):
    code, out, err = run("train", data, *arguments, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert [words for words in said if words not in err] == []
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("text", ["soon", "0", "-5s", "5d", "s", "nan", "inf"])
def test_a_budget_that_is_no_time(run, data, text):
    code, _, err = run("train", data, *QUICK, f"--budget={text}")
    assert code == 2
    assert "That is no time." in err
    assert "60s, 5m or 1h" in err


def test_data_that_is_not_there(run, tmp_path):
    code, _, err = run("train", "digts", *QUICK, "--out", tmp_path / "run")
    assert code == 2
    assert "There is no data set 'digts'." in err
    assert "did you mean digits?" in err


def test_a_folder_that_holds_other_things_is_left_alone(run, data, tmp_path):
    put(tmp_path / "run" / "thesis.txt", b"years")
    code, _, err = run("train", data, *QUICK, "--out", tmp_path / "run", "--overwrite")
    assert code == 2
    assert "holds other things than a run" in err
    assert (tmp_path / "run" / "thesis.txt").read_bytes() == b"years"


def test_without_the_packages_for_training(run, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "frostline.train_scratch", raising=False)
    code, _, err = run("train", data, *QUICK, "--out", tmp_path / "run")
    assert code == 2
    assert "This needs torch, which the base install leaves out." in err
    assert "pip install 'frostline[train]'" in err


def test_another_missing_module_is_no_mistake_of_the_user(monkeypatch):
    def broken():
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr("frostline.show_lists.recipes", broken)
    monkeypatch.setattr(sys, "argv", ["frostline", "recipes"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_a_cache_folder_that_cannot_be_used_is_code_2(run, tmp_path, monkeypatch):
    put(tmp_path / "file", b"in the way")
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path / "file" / "home"))
    code, out, err = run("train", "cifar10", *QUICK, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert f"Cannot use {tmp_path / 'file'}" in err
    assert "Not a directory" in err
    assert "FROSTLINE_HOME=FOLDER" in err


@pytest.mark.parametrize(
    ("path", "number", "hint"),
    [
        ("{home}/features/x.rows", errno.ENOSPC, "'frostline cache --clear' empties it"),
        ("{home}/features/x.rows", errno.EROFS, "FROSTLINE_HOME=FOLDER"),
        ("{above}", errno.EACCES, "FROSTLINE_HOME=FOLDER"),
        ("/elsewhere/run", errno.ENOSPC, "make room on that disk"),
        ("/elsewhere/run", errno.EACCES, "another place"),
    ],
)
def test_what_the_system_refuses_is_named(run, monkeypatch, cache_folder, path, number, hint):
    path = path.format(home=cache_folder, above=cache_folder.parent)

    def refuse():
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("frostline.show_lists.recipes", refuse)
    code, _, err = run("recipes")
    assert code == 2
    assert f"Cannot use {path}." in err
    assert os.strerror(number) in err
    assert hint in err


def test_an_error_of_the_system_that_names_no_file_is_not_hidden(monkeypatch):
    def refuse():
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr("frostline.show_lists.recipes", refuse)
    monkeypatch.setattr(sys, "argv", ["frostline", "recipes"])
    with pytest.raises(ConnectionResetError):
        cli.main()


def test_ctrl_c_is_code_130(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("frostline.show_lists.recipes", interrupted)
    code, _, err = run("recipes")
    assert code == 130
    assert "Aborted. Cached features are kept" in err


# train


def test_train_says_what_it_did_and_what_to_type_next(trained, data):
    out, ran = trained
    assert "Data: 49 train, 5 validation, 6 test images of 3 classes." in ran.stderr
    assert "Test accuracy" in ran.stderr
    for what in (out, out / "model", out / "plots"):
        assert f"  {what}  (" in ran.stdout
    assert f"frostline predict PHOTO.jpg --model '{out}'" in ran.stdout
    assert f"frostline evaluate '{out}' {data}" in ran.stdout


def test_train_leaves_a_finished_run(trained):
    out, _ = trained
    made = Run.open(out)
    made.verify()
    assert [row["epoch"] for row in made.history()] == [1, 2]
    assert (out / "history.csv").read_text().count("\n") == 3
    assert list((out / "tensorboard").iterdir())


def test_train_does_not_replace_a_finished_run(run, trained, data):
    code, _, err = run("train", data, *QUICK, "--out", trained[0])
    assert code == 2
    assert "holds a finished run" in err
    assert "--overwrite" in err
    Run.open(trained[0]).verify()


def test_a_finished_run_is_shown_where_it_should_go_on(run, trained):
    before = (trained[0] / "run.json").read_bytes()
    code, out, err = run("train", "--resume", trained[0])
    assert code == 0
    assert "is finished: nothing is left to train" in err
    assert "Type next:" in out
    assert (trained[0] / "run.json").read_bytes() == before
    code, _, err = run("train", "--resume", trained[0], "--set", "lr=0.5")
    assert (code, "lr: " in err) == (2, True)


# evaluate


def test_evaluate_as_json(run, trained, data):
    code, out, err = run("evaluate", trained[0], data, "--json")
    scores = json.loads(out)
    assert (code, err) == (0, "")
    assert scores["n"] == 6
    low, high = scores["interval"]
    assert 0 <= low <= scores["accuracy"] <= high <= 1
    recorded = Run.open(trained[0]).scores("test")
    for name in ("accuracy", "interval", "confusion", "per_class"):
        assert scores[name] == recorded[name]


def test_evaluate_as_a_table(run, toy, data):
    code, out, err = run("evaluate", toy, data)
    assert code == 0
    assert "Accuracy 100.00% (93.98% to 100.00%, n = 60)" in out
    for words in ("precision", "recall", "macro average", "weighted average", "Log loss"):
        assert words in out
    assert "all of its 60 images are judged" in err


def test_evaluate_says_what_it_left_out(run, toy, tmp_path):
    put(folders(tmp_path / "data", per_class=2) / "red" / "bad.png", b"")
    code, out, err = run("evaluate", toy, tmp_path / "data", "--json")
    scores = json.loads(out)
    assert (code, scores["n"], scores["rejected"]) == (0, 6, 1)
    assert scores["rejects"] == [{"path": "red/bad.png", "reason": "empty: zero bytes"}]
    assert "1 unusable files" in err
    assert "red/bad.png: empty: zero bytes" in err
    assert "red/bad.png: empty: zero bytes" in run("evaluate", toy, tmp_path / "data")[2]


def test_evaluate_says_what_was_seen_in_training(run, trained, data):
    code, out, err = run("evaluate", trained[0], data, "--split", "train", "--json")
    assert code == 0
    assert json.loads(out)["seen_in_training"] == json.loads(out)["n"] == 49
    assert "49 of these 49 images were seen in training: these scores flatter the model." in err


def test_evaluate_saves_predictions(run, toy, data, tmp_path):
    assert run("evaluate", toy, data, "--save", tmp_path / "p.npz")[0] == 0
    saved = Predictions.load(tmp_path / "p.npz")
    assert len(saved) == 60
    assert saved.classes == ("red", "green", "blue")


@pytest.mark.parametrize("options", [["--save", "file/p.npz"], ["--corruptions", "--out", "file/shift"]])
def test_evaluate_looks_at_the_place_of_its_results_first(run, toy, data, tmp_path, monkeypatch, options):
    def judge(*_given, **_options):
        raise AssertionError("judged first")

    monkeypatch.setattr("frostline.judge.evaluate", judge)
    monkeypatch.setattr("frostline.shifts.shift.judge_shift", judge)
    put(tmp_path / "file", b"in the way")
    code, _, err = run("evaluate", toy, data, *options[:-1], tmp_path / options[-1])
    assert code == 2
    assert f"Cannot use {tmp_path / 'file'}" in err
    assert "another place" in err


def test_evaluate_tells_what_thresholds_of_validation_do(run, trained, data):
    code, out, _ = run("evaluate", trained[0], data, "--wanted", "0.97", "--sets", "0.9")
    assert code == 0
    assert "For 97 % right answers validation gives " in out
    assert "Sets promised to hold the truth in 90 % hold it in 100.00% of 6 images (60.97% to 100.00%); 3.00 classes" in out
    code, out, _ = run("evaluate", trained[0], data, "--wanted", "0.01", "--json")
    (row,) = json.loads(out)["abstaining"]
    assert (code, row["wanted"], row["threshold"], row["answered"], row["n"]) == (0, 0.01, 0.0, 6, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sets", "0.97"], "one of 0.9, 0.95, 0.99"),
        (["--wanted", "97"], "A wanted accuracy lies between 0 and 1."),
        (["--sets", "0.9", "--split", "validation"], "have chosen the threshold, so they cannot judge it."),
        (["--wanted", "0.9", "--corruptions"], "judged on images as they are"),
    ],
)
def test_evaluate_refuses_thresholds_that_nothing_gives(run, trained, data, options, said):
    code, out, err = run("evaluate", trained[0], data, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_evaluate_says_what_a_bare_model_lacks(run, trained, toy, data):
    code, out, err = run("evaluate", toy, data, "--wanted", "0.97")
    assert (code, out) == (2, "")
    assert "a run with predictions/validation.npz" in err
    code, out, err = run("evaluate", toy, data, "--sets", "0.95")
    assert (code, out) == (2, "")
    assert "keeps no thresholds for label sets" in err


@pytest.mark.parametrize(("model", "said"), [("gone", "received: no such folder"), (".", "received: a folder without model.json")])
def test_evaluate_without_a_model(run, tmp_path, model, said):
    code, out, err = run("evaluate", tmp_path / model, "digits")
    assert (code, out) == (2, "")
    assert "There is no model at" in err
    assert said in err.lower()


def test_evaluate_a_model_that_was_changed(run, data, tmp_path):
    model = write_toy(tmp_path / "model")
    (model / "graph.bin").write_bytes(b"something else")
    code, _, err = run("evaluate", model, data)
    assert code == 2
    assert "is not the file that this model was saved with" in err


# predict


def test_predict_as_json_from_a_run(run, trained, data):
    code, out, _ = run("predict", data / "red", data / "blue" / "0.png", "--model", trained[0], "--format", "json", "--top", "9")
    rows = json.loads(out)
    assert (code, len(rows)) == (0, 21)
    assert {len(row["top"]) for row in rows} == {3}
    assert [sum(entry["probability"] for entry in row["top"]) for row in rows] == pytest.approx([1] * 21, abs=1e-5)


def test_predict_as_csv_and_as_a_table(run, toy, data):
    code, out, _ = run("predict", data / "green", "--model", toy, "--format", "csv", "--top", "1")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["class"] for row in rows] == ["green"] * 20
    code, out, _ = run("predict", data / "green" / "3.png", "--model", toy)
    assert code == 0
    assert out.startswith(f"{data / 'green' / '3.png'}: green ")


def test_predict_is_code_1_where_a_file_could_not_be_read(run, toy, data, tmp_path):
    bad = put(tmp_path / "bad.png", b"text")
    code, out, _ = run("predict", bad, data / "red" / "0.png", "--model", toy, "--format", "json")
    rows = json.loads(out)
    assert code == 1
    assert rows[0]["path"] == str(bad)
    assert "error" in rows[0]
    assert rows[1]["top"][0]["class"] == "red"


def test_predict_mistakes(run, toy, data, tmp_path):
    assert run("predict", tmp_path, "--model", toy)[0] == 2  # an empty folder
    assert run("predict", data, "--model", tmp_path)[0] == 2
    assert run("predict", data, "--model", toy, "--format", "xml")[0] == 2
    assert run("predict", data, "--model", toy, "--top", "0")[0] == 2


# compare, recipes, models, cache


def test_compare(run, tmp_path):
    runs = [finished_run(tmp_path / "good [1]", 4), finished_run(tmp_path / "bad", 0)]
    code, out, _ = run("compare", *runs)
    assert code == 0
    assert "good [1]" in out  # a name in brackets is a name
    assert "100.00 %" in out
    assert "good [1] and bad cannot be told apart on these 4 images (p = 0.12)" in out


def test_compare_as_json(run, tmp_path):
    runs = [finished_run(tmp_path / "good", 4), finished_run(tmp_path / "bad", 0)]
    code, out, _ = run("compare", *runs, "--json")
    found = json.loads(out)
    assert code == 0
    assert [(row["name"], row["accuracy"], row["n"]) for row in found["runs"]] == [("good", 1.0, 4), ("bad", 0.0, 4)]
    (pair,) = found["pairs"]
    assert (pair["only_a"], pair["only_b"], pair["p"]) == (4, 0, 0.125)


def test_curves_against_time_need_no_test_images(run, tmp_path):
    runs = [reported.finished_run(tmp_path / name, seed=seed, test=name == "b") for seed, name in enumerate("abc")]
    code, out, err = run("compare", *runs, "--plot", "time", "--output", tmp_path / "plot.png")
    assert (code, (tmp_path / "plot.png").exists()) == (0, True)
    assert "Not judged on test images: a, c" in " ".join(err.split())
    assert "b-recipe" in out
    assert run("compare", *runs)[0] == 2


def test_runs_judged_on_other_images_are_drawn_and_not_compared_in_pairs(run, tmp_path):
    runs = [reported.finished_run(tmp_path / name, n=n) for name, n in (("a", 120), ("b", 90))]
    code, out, err = run("compare", *runs, "--json", "--plot", "time", "--output", tmp_path / "plot.png")
    assert (code, json.loads(out)["pairs"], (tmp_path / "plot.png").exists()) == (0, [], True)
    assert "different test images" in " ".join(err.split())
    assert run("compare", *runs)[0] == 2


def test_compare_with_itself_is_refused(run, tmp_path):
    folder = finished_run(tmp_path / "runs" / "a", 4)
    for other in (folder, tmp_path / "runs" / ".." / "runs" / "a"):
        code, out, err = run("compare", folder, other)
        assert (code, out) == (2, "")
        assert "The run a is named twice" in err


def test_compare_one_run_and_none(run, tmp_path):
    code, out, _ = run("compare", finished_run(tmp_path / "only", 3), "--json")
    assert (code, json.loads(out)["pairs"]) == (0, [])
    code, _, err = run("compare", tmp_path / "gone")
    assert code == 2
    assert "There is no run at" in err


def test_recipes_and_models(run):
    from frostline.models.backbones import BACKBONES
    from frostline.recipes import RECIPES

    code, out, _ = run("recipes")
    assert (code, [name for name in RECIPES if name not in out]) == (0, [])
    code, out, _ = run("models")
    assert (code, [name for name in BACKBONES if name not in out]) == (0, [])
    assert "cnn-small, cnn-vgg" in out


def test_cache_is_shown_and_cleared(run, cache_folder):
    from frostline.feature_cache import FeatureCache

    cache = FeatureCache({"network": "drawn", "view": "image", "precision": "f32"}, 4, "float32")
    cache.write(np.array([b"1" * 16, b"2" * 16]), np.zeros((2, 4), np.float32))
    put(cache_folder / "graphs" / "one" / "graph.bin", bytes(2**20))
    code, out, _ = run("cache")
    assert code == 0
    assert "drawn" in out
    assert str(cache_folder) in out
    assert "1.0 MiB of compiled graphs" in out
    code, out, _ = run("cache", "--clear")
    assert code == 0
    assert "Freed 1.0 MiB" in out
    assert not list(cache_folder.glob("features/*")) + list(cache_folder.glob("graphs/*"))
    assert run("cache", "--clear")[1] == "Freed 0.0 MiB.\n"


def test_the_module_is_the_program():
    ran = subprocess.check_output([sys.executable, "-m", "frostline", "--version"], text=True)
    assert ran == f"frostline {frostline.__version__}\n"


def test_a_home_that_nobody_has(run):
    code, _, err = run("inspect", "~nobody-of-this-name/photos")
    assert (code, "Nobody knows where that home folder is." in err) == (2, True)


def test_pictures_of_runs_are_pngs(run, tmp_path):
    code, _, err = run("compare", finished_run(tmp_path / "a", 3), "--plot", "time", "--output", tmp_path / "plot.svg")
    assert (code, "ends in .png" in err) == (2, True)
    assert not (tmp_path / "plot.svg").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_the_terminal_has_no_letters_for(tmp_path, encoding):
    folders = [finished_run(tmp_path / name, hits) for name, hits in (("猫", 3), ("b", 4))]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for options in ([], ["--json"]):
        command = [sys.executable, "-m", "frostline", "compare", *map(str, folders), *options]
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        assert b"\\u732b" in done.stdout
    assert json.loads(done.stdout)["runs"][0]["name"] in ("猫", "b")
