import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from frostline.config import Settings
from frostline.data.augment import make_augmentations
from frostline.data.batches import ArrayBatches, FeatureBatches
from frostline.errors import UserError
from frostline.loop import fit, predict_log_probs
from frostline.models.cnn import make_network
from frostline.models.device import pick_device, pick_precision
from frostline.models.heads import make_head
from frostline.stopping import StopRule

ROW = [
    "epoch",
    "steps",
    "seconds",
    "lr",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "images_per_second",
    "elapsed",
]


def settings(**values):
    return Settings(**{"device": "cpu", "precision": "f32", "epochs": 3, "batch_size": 16, "lr": 0.01, **values})


def drawn(n=60, side=8, seed=0):
    """Three classes that differ in the brightest channel."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pixels = rng.integers(0, 120, (n, side, side, 3), dtype=np.uint8)
    pixels[np.arange(n), :, :, labels] += 80
    return pixels, labels


def arrays(n=60, seed=0, *, train=True, **options):
    pixels, labels = drawn(n, seed=seed)
    augmentations = make_augmentations(Settings(mirror=True, shift=1, cutout=2), (0.5, 0.5, 0.5)) if train else ()
    return ArrayBatches(pixels, labels, 16, mean=(0.5,) * 3, std=(0.25,) * 3, augmentations=augmentations, shuffle=train, **options)


def points(n=40, views=1, seed=0, shuffle=False, batch_size=16):
    """Two classes on a line, (N, V, 1): to the left and to the right of 0."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = (labels * 2 - 1)[:, None, None] + 0.1 * rng.standard_normal((n, views, 1))
    return FeatureBatches(x.astype(np.float32), labels, batch_size, shuffle=shuffle)


class Scripted(nn.Module):
    """Answers validation with scripted accuracies: the n-th evaluation is right on the first ``right[n]`` of 10 rows."""

    def __init__(self, right):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))
        self.right, self.evaluations = right, 0

    def forward(self, x):
        if self.training:
            return x.new_zeros(len(x), 2) + self.w
        right = self.right[self.evaluations]
        self.evaluations += 1
        zero = (torch.arange(len(x)) < right).float()
        return torch.stack([zero, 1 - zero], dim=1)


def scripted(right, **values):
    network = Scripted(right)
    trained = FeatureBatches(np.zeros((8, 1, 1), np.float32), np.ones(8, np.int64), 4, shuffle=True)
    judged = FeatureBatches(np.zeros((10, 1, 1), np.float32)[:, :, :], np.zeros(10, np.int64), 10)
    judged.features = judged.features[:, 0]
    weights = []
    keep = {"on_epoch": lambda row: weights.append(network.w.detach().clone())}
    stop = values.pop("stop", None)
    fitted = fit(network, trained, judged, settings=settings(epochs=len(right), **values), stop=stop, **keep)
    return fitted, weights


def test_a_scratch_network_learns_drawn_images_and_its_history_is_data():
    rows = []
    fitted = fit(
        make_network("cnn-vgg", 3, (8, 8)), arrays(), arrays(30, 1, train=False), settings=settings(), on_epoch=rows.append
    )
    assert fitted.best["validation_accuracy"] > 0.9
    assert list(fitted.history) == rows
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["steps"] for row in rows] == [4, 8, 12]
    assert set(rows[0]) == set(ROW)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert not fitted.network.training
    assert (fitted.device, fitted.precision, fitted.reason) == ("cpu", "f32", "all 3 epochs were run")


def test_bf16_trains_too():
    fitted = fit(
        make_network("cnn-vgg", 3, (8, 8)), arrays(), arrays(30, 1, train=False), settings=settings(precision="bf16", epochs=4)
    )
    assert fitted.best["validation_accuracy"] > 0.9
    assert fitted.precision == "bf16"
    assert all(p.dtype == torch.float32 for p in fitted.network.parameters())


def test_same_seed_same_weights_whatever_the_global_generator():
    def weights(seed, world):
        torch.manual_seed(world)
        network = make_network("cnn-vgg", 3, (8, 8), seed=0)
        fit(network, arrays(seed=0), arrays(20, 1, train=False), settings=settings(epochs=2, seed=seed))
        return network.state_dict()

    one, two, three = weights(1, 10), weights(1, 20), weights(2, 10)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.weight"], three["head.weight"])


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fit(make_head("dense-d", 1, 2), points(shuffle=True), points(seed=1), settings=settings(epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_best_weights_are_restored_at_a_normal_end():
    fitted, weights = scripted([4, 9, 6])
    assert fitted.best["epoch"] == 2
    assert torch.equal(fitted.network.w, weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_patience_counts_epochs_without_a_better_score_and_restores():
    fitted, weights = scripted([4, 7, 7, 5, 9], patience=2)
    assert len(fitted.history) == 4
    assert fitted.reason == "no better validation accuracy in 2 epochs"
    assert torch.equal(fitted.network.w, weights[1])


def test_patience_names_the_score_by_which_it_judged():
    fitted, _ = scripted([4, 7, 6, 5, 9], stop=StopRule(stop_at=0.99), patience=2, monitor="loss")
    assert fitted.reason == "no better validation accuracy in 2 epochs"


@pytest.mark.parametrize("values", [{}, {"patience": 0}])
def test_what_is_no_dense_head_is_not_stopped_unless_asked(values):
    fitted, _ = scripted([9, 1, 1, 1, 1, 1, 1, 1, 1], **values)
    assert (len(fitted.history), fitted.best["epoch"]) == (9, 1)


def test_stop_at_keeps_the_epoch_that_reached_it_even_when_loss_is_monitored():
    fitted, weights = scripted([4, 7, 9], stop=StopRule(stop_at=0.7), monitor="loss")
    assert len(fitted.history) == 2
    assert "reached --stop-at" in fitted.reason
    assert torch.equal(fitted.network.w, weights[1])


def test_loss_can_decide():
    # Accuracy never changes; the loss is least where the weight is nearest to the answer.
    batches, validation = points(shuffle=True), points(seed=1)
    fitted = fit(make_head("dense-c", 1, 2), batches, validation, settings=settings(monitor="loss", epochs=4, lr=0.05))
    losses = [row["validation_loss"] for row in fitted.history]
    assert fitted.best["validation_loss"] == min(losses)


class Interrupts(FeatureBatches):
    """Ctrl-C during a given step of training."""

    stop, at, seen = None, 0, 0

    def epoch(self, number):
        for batch in super().epoch(number):
            self.seen += 1
            self.stop.interrupted |= self.seen == self.at
            yield batch


def interrupting(at, stop):
    batches = Interrupts(np.ones((40, 1, 1), np.float32), np.ones(40, np.int64), 10, shuffle=True)
    batches.stop, batches.at = stop, at
    return batches


@pytest.mark.parametrize(("at", "epochs", "steps"), [(1, 1, 1), (4, 1, 4), (6, 2, 6)])
def test_an_interrupt_ends_at_the_step_and_leaves_a_judged_network(at, epochs, steps):
    stop = StopRule()
    fitted = fit(make_head("dense-c", 1, 2), interrupting(at, stop), points(seed=1), settings=settings(), stop=stop)
    assert fitted.reason == "interrupted by Ctrl-C"
    assert len(fitted.history) == epochs
    assert fitted.history[-1]["steps"] == steps
    assert 0 <= fitted.best["validation_accuracy"] <= 1
    assert all(math.isfinite(value) for value in fitted.history[-1].values())


def test_an_interrupt_between_two_epochs_trains_no_step_of_the_second():
    stop, features = StopRule(), np.ones((40, 2, 1), np.float32)

    def complete():  # the views that the first epoch does without
        stop.interrupted = True

    batches = FeatureBatches(features, np.ones(40, np.int64), 10, complete=complete, shuffle=True)
    fitted = fit(make_head("dense-c", 1, 2), batches, points(seed=1), settings=settings(), stop=stop)
    assert fitted.reason == "interrupted by Ctrl-C"
    assert [row["steps"] for row in fitted.history] == [4]


def test_a_spent_budget_ends_after_one_step():
    fitted = fit(make_head("dense-c", 1, 2), points(shuffle=True), points(seed=1), settings=settings(), stop=StopRule(budget_s=0.0))
    assert "budget" in fitted.reason
    assert fitted.history[-1]["steps"] == 1


def test_a_second_interrupt_still_restores_the_best_weights():
    network, kept = make_head("dense-c", 1, 2), []

    def abort(row):
        kept.append(network[0].weight.detach().clone())
        if row["epoch"] == 2:
            with torch.no_grad():
                network[0].weight.fill_(9.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network, points(shuffle=True), points(seed=1), settings=settings(monitor="loss"), on_epoch=abort)
    assert torch.equal(network[0].weight, kept[1])


def test_a_loss_that_is_not_finite_names_epoch_step_and_rate():
    batches = points(shuffle=True)
    batches.features[:] = math.inf
    with pytest.raises(UserError, match=r"loss became nan in epoch 1, step 1, at a learning rate of 0\.01") as caught:
        fit(make_head("dense-c", 1, 2), batches, points(seed=1), settings=settings())
    assert "--set lr=0.001" in str(caught.value)


def test_a_training_that_diverges_late_keeps_what_was_best_before(capsys):
    batches, network = points(shuffle=True), make_head("dense-c", 1, 2)

    def spoil(row):
        if row["epoch"] == 2:
            batches.features[:] = math.inf

    found = fit(network, batches, points(seed=1), settings=settings(epochs=5), on_epoch=spoil)
    assert len(found.history) == 2
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    assert "became nan in epoch 3" in found.reason
    assert f"The weights after epoch {found.best['epoch']} are kept" in found.reason
    said = " ".join(capsys.readouterr().err.split())
    assert "Training ends" in said
    assert "--set lr=0.001" in said


def test_a_trainable_parameter_without_a_gradient_is_named():
    network = make_head("dense-c", 1, 2)
    network.forgotten = nn.Linear(2, 2)
    network.forward = lambda x: network[0](x)
    with pytest.raises(UserError, match=r"no gradient for forgotten\.weight, forgotten\.bias"):
        fit(network, points(shuffle=True), points(seed=1), settings=settings())


def test_parameters_that_are_not_named_stay_as_they_are():
    network = make_network("cnn-small", 3, (8, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit(network, arrays(), arrays(20, 1, train=False), settings=settings(epochs=1), parameters=network.head.parameters())
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


def test_groups_may_have_their_own_rates():
    network = make_network("cnn-small", 3, (8, 8))
    body = [p.detach().clone() for p in network.body.parameters()]
    groups = [{"params": network.body.parameters(), "lr": 0.0}, {"params": network.head.parameters()}]
    head = network.head.weight.detach().clone()
    fitted = fit(network, arrays(), arrays(20, 1, train=False), settings=settings(epochs=1), parameters=groups)
    assert fitted.best["lr"] == settings().lr  # the history tells the settings' rate, whatever the first group's is
    assert all(torch.equal(a, b) for a, b in zip(body, network.body.parameters(), strict=True))
    assert not torch.equal(head, network.head.weight)


def test_nothing_to_train_is_said():
    network = make_head("dense-c", 1, 2).requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train"):
        fit(network, points(shuffle=True), points(seed=1), settings=settings())


def test_log_probabilities_of_all_rows_in_order_averaged_over_views():
    head, batches = make_head("dense-b", 1, 2), points(n=11, views=3, batch_size=4)
    head.train()
    log_probs = predict_log_probs(head, batches, settings())
    assert log_probs.shape == (11, 2)
    assert log_probs.dtype == np.float32
    assert np.allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-6)
    with torch.no_grad():
        each = torch.log_softmax(head.eval()(batches.features), dim=-1).mean(dim=1)
    assert np.allclose(log_probs, torch.log_softmax(each, dim=-1), atol=1e-6)


def test_validation_scores_are_those_of_the_predicted_rows():
    validation = points(n=23, views=2, seed=1, batch_size=5)
    fitted = fit(make_head("dense-d", 1, 2), points(shuffle=True, views=2), validation, settings=settings())
    log_probs, labels = predict_log_probs(fitted.network, validation, settings()), validation.labels.numpy()
    assert fitted.best["validation_accuracy"] == (log_probs.argmax(axis=1) == labels).mean()
    assert fitted.best["validation_loss"] == pytest.approx(-log_probs[np.arange(23), labels].mean(), abs=1e-6)


def test_training_accuracy_and_loss_are_means_over_rows():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return torch.cat([x, -x], dim=-1) + 0 * self.w

    rows = FeatureBatches(np.array([1, 1, -1], np.float32)[:, None, None], np.zeros(3, np.int64), 2, shuffle=True)
    fitted = fit(Fixed(), rows, points(), settings=settings(epochs=1))
    assert fitted.history[0]["train_accuracy"] == pytest.approx(2 / 3)
    assert fitted.history[0]["train_loss"] == pytest.approx((2 * math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 3)


def test_devices_and_precisions():
    assert pick_device("cpu").type == "cpu"
    assert pick_precision("f32", torch.device("cpu")) == "f32"
    assert pick_precision("auto", torch.device("cpu")) in ("bf16", "f32")
    assert pick_precision("auto", torch.device("mps")) == "f32"
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no device 'cuda'"):
            pick_device("cuda")


def test_bf16_is_chosen_where_the_processor_has_it(monkeypatch):
    for found, expected in ((True, "bf16"), (False, "f32")):
        monkeypatch.setattr("frostline.models.device.has_bf16", lambda found=found: found)
        assert pick_precision("auto", torch.device("cpu")) == expected


def test_freezeout_holds_parameters_from_a_share_of_the_epochs_on():
    network = make_network("cnn-small", 3, (8, 8), seed=0)
    first = next(name for name, _ in network.named_parameters())
    seen = []

    def look(row):
        held = dict(network.named_parameters())[first]
        seen.append((held.requires_grad, held.detach().clone()))

    fit(network, arrays(), arrays(train=False), settings=settings(epochs=4, freezeout=(f"{first}=0.5",)), on_epoch=look)
    assert [asks for asks, _ in seen] == [True, True, False, False]
    assert not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(seen[1][1], seen[2][1])
    assert torch.equal(seen[2][1], seen[3][1])
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("pattern", ["nothing.*=0.5", "*=2", "*=frozen", "half"])
def test_a_wrong_freezeout_is_said_before_training(pattern):
    with pytest.raises(UserError):
        fit(make_network("cnn-small", 3, (8, 8), seed=0), arrays(), arrays(train=False), settings=settings(freezeout=(pattern,)))


def test_what_muon_is_told_to_hold_stays_to_the_bit():
    network = make_network("cnn-small", 3, (8, 8), seed=0)
    filters = next(name for name, each in network.named_parameters() if each.dim() == 4 and min(each.shape[:2]) > 1)
    seen = []

    def look(row):
        seen.append(dict(network.named_parameters())[filters].detach().clone())

    how = settings(epochs=4, optimizer="muon", lr=0.05, momentum=0.6, freezeout=(f"{filters}=0.5",))
    fit(network, arrays(), arrays(train=False), settings=how, on_epoch=look)
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], seen[3])


def test_holding_everything_is_said_before_training():
    with pytest.raises(UserError, match="Nothing would train in the last epoch"):
        fit(make_network("cnn-small", 3, (8, 8), seed=0), arrays(), arrays(train=False), settings=settings(freezeout=("*=0.5",)))


def test_a_budget_may_begin_its_last_epoch_at_any_time():
    network = make_network("cnn-small", 3, (8, 8), seed=0)
    first = next(name for name, _ in network.named_parameters())
    late = settings(epochs=10, freezeout=(f"{first}=0.5", "*=0.95"))
    fit(network, arrays(), arrays(train=False), settings=late.with_values(epochs=2))
    with pytest.raises(UserError, match="Nothing would train in the last epoch"):
        fit(network, arrays(), arrays(train=False), settings=late.with_values(budget=60.0))


def test_what_is_held_follows_the_clock_of_a_budget(monkeypatch):
    network = make_network("cnn-small", 3, (8, 8), seed=0)
    first = next(name for name, _ in network.named_parameters())
    monkeypatch.setattr(StopRule, "spent", lambda self, began=0.0: 0.6)
    asks = []
    fit(
        network,
        arrays(),
        arrays(train=False),
        settings=settings(epochs=2, freezeout=(f"{first}=0.5",)),
        on_epoch=lambda row: asks.append(dict(network.named_parameters())[first].requires_grad),
    )
    assert asks == [False, False]


def test_single_images_and_batchnorm_of_one_pixel_are_refused():
    network = make_network("fast-small", 3, (8, 8), seed=0)
    pixels, labels = drawn(6)
    alone = ArrayBatches(pixels, labels, 1, mean=(0.5,) * 3, std=(0.25,) * 3, shuffle=True)
    with pytest.raises(UserError, match="no statistics of a single image") as caught:
        fit(network, alone, arrays(train=False), settings=settings(batch_size=1))
    assert "batch_size" in caught.value.hint
