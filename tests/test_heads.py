"""Heads on features: what is chosen is chosen on validation, by a head that has not seen it."""

import numpy as np
import pytest
import torch

from frostline import anytime
from frostline.anytime import Extracted, FeatureTable
from frostline.calibrate import fit_temperature
from frostline.config import Settings
from frostline.errors import UserError
from frostline.feature_cache import to_stored
from frostline.features import FeatureBlock
from frostline.heads import fit_head
from frostline.linear import Logistic, Moments, judge, log_softmax
from frostline.stopping import StopRule

K, D, N, M = 3, 8, 240, 90
CENTRES = np.random.default_rng(4).normal(size=(K, D))


def drawn(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, n)
    return (CENTRES[labels] + 1.2 * rng.normal(size=(n, D))).astype(np.float32), labels


def table(x, views=1, dtype="float32"):
    made = FeatureTable(len(x), views, D, dtype)
    made.add(FeatureBlock(np.arange(len(x)), to_stored(np.repeat(x[:, None], views, 1), dtype)))
    return made


def extracted(dtype="float32", views=1):
    (x, y), (v, judged) = drawn(N, 0), drawn(M, 1)
    moments = Moments(D, K)
    moments.add(np.repeat(x, views, 0), np.repeat(y, views))
    return Extracted(table(x, views, dtype), table(v, views, dtype), moments), (x, y), (v, judged)


def settings(**values):
    return Settings(**{"head": "logistic", "l2": (1e-3, 1e-1, 10.0), "device": "cpu", "precision": "f32", **values})


def fitted(values, found=None, stop=None, history=None):
    made, (_, y), (_, judged) = extracted()
    rows = history if history is not None else []
    return fit_head(found or made, y, judged, values, stop or StopRule(), rows.append)


def logits(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def test_the_best_l2_on_validation_is_chosen_and_then_fitted_on_all():
    _, (x, y), (v, judged) = extracted()
    head = fitted(settings())
    swept = {row["l2"]: row["validation_loss"] for row in head.record["swept"]}
    assert head.record["l2"] == min(swept, key=swept.get)
    assert head.record["validation_loss"] == min(swept.values())
    both, labels = np.concatenate([x, v]), np.concatenate([y, judged])
    total = Moments(D, K)
    total.add(both, labels)
    wanted = Logistic(both, labels, total).fit(head.record["l2"], tolerance=1e-9).logits(both)
    np.testing.assert_allclose(np.exp(log_softmax(logits(head.module, both))), np.exp(log_softmax(wanted)), atol=3e-2)
    assert "330 images" in head.record["refitted_on"]


def test_validation_and_temperature_come_from_a_head_that_has_not_seen_validation():
    _, (x, y), (v, judged) = extracted()
    head = fitted(settings())
    moments = Moments(D, K)
    moments.add(x, y)
    alone = Logistic(x, y, moments).fit(head.record["l2"], tolerance=1e-9)
    np.testing.assert_allclose(np.exp(head.validation), np.exp(log_softmax(alone.logits(v))), atol=3e-2)
    assert head.temperature == pytest.approx(fit_temperature(head.validation, judged))
    assert head.record["temperature"] == head.temperature
    assert head.record["validation_accuracy"] == pytest.approx((head.validation.argmax(1) == judged).mean())


def test_ridge_takes_the_most_accurate_on_validation():
    _, (x, y), (v, judged) = extracted()
    head = fitted(settings(head="ridge", l2=(1e-4, 1e-2, 1.0, 1e4)))
    moments, total = Moments(D, K), Moments(D, K)
    moments.add(x, y)
    total.add(np.concatenate([x, v]), np.concatenate([y, judged]))
    accuracy = {l2: judge(moments.ridge(l2), v, judged)[0] for l2 in (1e-4, 1e-2, 1.0, 1e4)}
    assert head.record["validation_accuracy"] == max(accuracy.values()) == accuracy[head.record["l2"]]
    assert len(head.record["swept"]) == 4
    np.testing.assert_allclose(logits(head.module, v), total.ridge(head.record["l2"]).logits(v), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_features_are_read_from_each_storage_type(dtype):
    found, _, _ = extracted(dtype)
    exact, stored = fitted(settings(l2=(0.1,))), fitted(settings(l2=(0.1,)), found)
    np.testing.assert_allclose(stored.validation, exact.validation, atol=0.05)


def test_a_power_is_part_of_the_head():
    (x, y), (v, judged) = drawn(N, 0), drawn(M, 1)
    x, v = np.abs(x), np.abs(v)
    moments = Moments(D, K)
    moments.add(x**0.75, y)
    found = Extracted(table(x), table(v), moments, power=0.75)
    values = settings(l2=(0.1,))
    head = fit_head(found, y, judged, values, StopRule(), lambda row: None)
    by_hand = fit_head(Extracted(table(x**0.75), table(v**0.75), moments), y, judged, values, StopRule(), lambda row: None)
    np.testing.assert_allclose(logits(head.module, v), logits(by_hand.module, v**0.75), atol=1e-3)
    assert (head.record["power"], by_hand.record["power"]) == (0.75, 1.0)


def test_two_equal_views_change_nothing_in_a_linear_head():
    found, _, _ = extracted(views=2)
    made, (_, y), (_, judged) = extracted()
    one, two = (fit_head(what, y, judged, settings(l2=(0.1,)), StopRule(), print) for what in (made, found))
    np.testing.assert_allclose(two.validation, one.validation, atol=1e-3)


@pytest.mark.parametrize("name", ["dense-a", "dense-b", "dense-c", "dense-d"])
@pytest.mark.parametrize("views", [1, 2])
def test_dense_heads_keep_their_best_weights(name, views):
    found, _, (v, judged) = extracted(views=views)
    history = []
    head = fitted(settings(head=name, epochs=6, batch_size=32, lr=0.02), found, history=history)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    best = max(history, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
    assert head.record["best"]["epoch"] == best["epoch"]
    assert head.record["validation_accuracy"] == best["validation_accuracy"] > 0.6
    assert not head.module.training
    found_log_p = log_softmax(logits(head.module, v))
    np.testing.assert_allclose(found_log_p, head.validation, atol=1e-4)
    assert (found_log_p.argmax(1) == judged).mean() == pytest.approx(best["validation_accuracy"])


def test_the_same_seed_gives_the_same_head():
    values = settings(head="dense-d", epochs=2)
    first, second, other = fitted(values), fitted(values), fitted(values.with_values(seed=1))
    np.testing.assert_array_equal(first.validation, second.validation)
    assert np.abs(first.validation - other.validation).max() > 0


@pytest.mark.parametrize(("values", "patience"), [({}, 5), ({"patience": 2}, 2)])
def test_a_dense_head_stops_where_validation_gets_no_better(values, patience):
    history = []
    head = fitted(settings(head="dense-c", epochs=200, batch_size=64, lr=0.05, **values), history=history)
    assert head.record["head_ended"] == f"no better validation accuracy in {patience} epochs"
    assert head.record["patience"] == patience
    assert len(history) == head.record["best"]["epoch"] + patience < 200


def test_a_dense_head_is_trained_to_its_last_epoch_where_that_is_asked():
    history = []
    head = fitted(settings(head="dense-c", epochs=30, batch_size=64, lr=0.05, patience=0), history=history)
    assert (len(history), head.record["patience"], head.record["head_ended"]) == (30, 0, "all 30 epochs were run")
    assert head.record["best"]["epoch"] + 5 < 30  # it would have been stopped


def test_a_dense_head_has_a_rate_and_epochs_of_its_own():
    history = []
    fitted(settings(head="dense-c", epochs=7, lr=0.05, head_epochs=2, head_lr=0.01), history=history)
    assert [row["lr"] for row in history] == [0.01, 0.01]


def test_a_dense_head_ends_when_asked():
    history = []
    head = fitted(settings(head="dense-c", epochs=50), stop=StopRule(stop_at=0.3), history=history)
    assert "reached --stop-at 0.3" in head.record["ended"]
    assert len(history) < 50


def test_a_class_that_was_not_seen_is_said():
    found, (_, y), (_, judged) = extracted()
    with pytest.raises(UserError, match=r"every class was seen \(1 of 3 are missing\)") as caught:
        fit_head(found, np.where(y == 2, 0, y), judged, settings(), StopRule(), print)
    assert "--budget" in caught.value.hint


@pytest.mark.parametrize("values", [{}, {"head": "ridge"}, {"head": "dense-d", "epochs": 8, "lr": 0.02}, {"balance": "loss"}])
def test_a_class_that_the_training_split_lacks_is_no_mistake(values):
    _, (x, y), (v, judged) = extracted()
    kept, known = y != 2, judged != 2
    moments = Moments(D, K)
    moments.add(x[kept], y[kept])
    found = Extracted(table(x[kept]), table(v[known]), moments)
    head = fit_head(found, y[kept], judged[known], settings(**values), StopRule(), print, y[kept])
    p = np.exp(log_softmax(logits(head.module, v) / head.temperature))
    assert (p[:, :2].argmax(1) == judged)[known].mean() > 0.8
    assert not (p.argmax(1) == 2).any()
    if values.get("head") != "ridge":  # which has no probabilities
        assert p[known, 2].mean() < 0.02
    with pytest.raises(UserError, match=r"every class was seen \(1 of 2 are missing\)"):
        fit_head(found, np.zeros_like(y[kept]), judged[known], settings(), StopRule(), print, y[kept])


def test_a_class_that_only_validation_has_chooses_nothing_and_is_learned_with_it():
    _, (x, y), (v, judged) = extracted()
    kept, known = y != 2, judged != 2
    moments = Moments(D, K)
    moments.add(x[kept], y[kept])
    values = settings(l2=(1e-3, 1e-1, 10.0))
    both = fit_head(Extracted(table(x[kept]), table(v), moments), y[kept], judged, values, StopRule(), print, y[kept])
    alone = fit_head(
        Extracted(table(x[kept]), table(v[known]), moments), y[kept], judged[known], values, StopRule(), print, y[kept]
    )
    assert (both.record["l2"], both.temperature) == (alone.record["l2"], pytest.approx(alone.temperature, rel=1e-4))
    # what is said of validation is about all of it
    assert both.record["validation_accuracy"] == pytest.approx((both.validation.argmax(1) == judged).mean())
    assert both.record["validation_accuracy"] < alone.record["validation_accuracy"]
    assert (logits(both.module, v).argmax(1) == 2)[judged == 2].mean() > 0.5


def test_a_temperature_that_nothing_determines_stays_one(capsys):
    found, (x, y), _ = extracted()
    found.validation = table(x[:5])
    head = fit_head(found, y, y[:5], settings(l2=(0.1,)), StopRule(), print)
    assert head.temperature == 1
    assert "fewer than 10" in head.record["temperature_note"]
    assert "temperature stays 1" in capsys.readouterr().err


def test_large_tables_are_fitted_from_files(monkeypatch):
    from frostline import files, heads

    plain = fitted(settings())
    monkeypatch.setattr(files, "OF_THE_MEMORY", 100 / files.MEMORY)
    found, _, _ = extracted()
    np.testing.assert_allclose(fitted(settings(), found).validation, plain.validation, atol=1e-5)
    assert heads.scratch_array is anytime.scratch_array


DENSE = {"head": "dense-d", "epochs": 4, "optimizer": "adam", "lr": 0.01}


def test_a_dense_head_is_balanced_either_way():
    plain, weighted, drawn_more = (
        fitted(settings(**DENSE, balance=balance)).validation for balance in ("none", "loss", "sampling")
    )
    assert not np.array_equal(plain, weighted)
    assert not np.array_equal(plain, drawn_more)


def test_features_are_not_cut_and_mixed():
    assert np.array_equal(fitted(settings(**DENSE)).validation, fitted(settings(**DENSE, cutmix=1.0)).validation)


def test_a_balanced_logistic_head_is_fair_to_a_rare_class():
    _, (x, y), (v, judged) = extracted()
    rare = (y != 2) | (np.arange(len(y)) % 20 == 0)
    moments = Moments(D, K)
    moments.add(x[rare], y[rare])
    found = Extracted(table(x[rare]), table(v), moments)
    recalls = {}
    for balance in ("none", "loss"):
        head = fit_head(found, y[rare], judged, settings(balance=balance), StopRule(), lambda row: None)
        recalls[balance] = float((head.validation.argmax(1) == 2)[judged == 2].mean())
    assert recalls["loss"] > recalls["none"]
    with pytest.raises(UserError, match="weights all images alike"):
        fitted(settings(head="ridge", balance="loss"))
