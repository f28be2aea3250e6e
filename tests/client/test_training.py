"""The rules of the training component "tabular/1"."""

import subprocess
import sys

import numpy as np
import pytest

from client.training import TrainingSession
from protos.plan import Plan
from strategies.analytics.moments import moments, scaling_from
from strategies.encoding import vector_digest
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import site_name
from strategies.models import DenseModel
from strategies.sampling import held_out
from tests.client.loans_for_tests import CONTRACT, plan, table

WEST, SOUTH = site_name("west"), site_name("south")
MLP = "{kind: mlp, hidden: [8, 4]}"


def session(of: Plan | None = None, *, site=WEST, data=None) -> TrainingSession:
    return TrainingSession(of or plan(), CONTRACT, data or table(), site=site)


def scaling_of(one: TrainingSession) -> Scaling:
    return scaling_from(one.moments())


def update(of: Plan, *, site=WEST, data=None, round_number=1, start=None) -> np.ndarray:
    one = session(of, site=site, data=data)
    start = one.model.initial(of.training.seed) if start is None else start
    return one.train(start, scaling_of(one), round_number)


def test_importing_the_package_does_not_load_torch():
    code = "import client.data, client.training, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("process", ["client.process", "coordinator.cli", "coordinator.flower.server_app"])
def test_no_process_waits_for_libraries_that_it_may_never_use(process: str) -> None:
    """They take longer to load than all else that an agent or a command starts with."""
    code = f"import {process}, sys; sys.exit(bool({{'scipy.stats', 'onnx'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_moments_are_those_of_the_training_rows():
    whole = table()
    training = whole.rows(~held_out(whole.keys, "1", 0.3))
    spec = CONTRACT.feature_spec(["amount", "income", "term"])
    np.testing.assert_array_equal(session().moments(), moments(spec.unit_values(training.columns)))


@pytest.mark.parametrize("model", ["{kind: logistic}", MLP])
def test_equal_inputs_give_equal_bits(model):
    settings = plan(model=model)
    first = update(settings)
    assert vector_digest(first) == vector_digest(update(settings))
    assert first.dtype == np.float64
    assert first.any()


def test_a_process_of_its_own_computes_the_same_bits():
    code = (
        "from tests.client.test_training import *;"
        "import torch; torch.manual_seed(7); torch.rand(3);"
        f"print(vector_digest(update(plan(model='{MLP}'))))"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert other.stdout.strip() == vector_digest(update(plan(model=MLP)))


def test_a_session_repeats_a_round_to_the_bit_whatever_ran_between():
    one = session()
    start, scaling = one.model.initial(1), scaling_of(one)
    first = one.train(start, scaling, 1)
    one.train(start + 1.0, Scaling.identity(2), 2)
    one.evaluate(start, scaling)
    np.testing.assert_array_equal(one.train(start, scaling, 1), first)


def test_training_leaves_the_global_random_state_alone():
    import torch

    before = torch.random.get_rng_state()
    update(plan())
    assert torch.equal(before, torch.random.get_rng_state())


def test_round_site_and_seed_each_change_the_batches():
    updates = [
        update(plan()),
        update(plan(), round_number=2),
        update(plan(), site=SOUTH),
        update(plan(seed=2)),
    ]
    assert len({vector_digest(one) for one in updates}) == 4


def test_held_out_rows_never_train():
    data = table()
    evaluating = held_out(data.keys, "1", 0.3)
    without = data.rows(~evaluating)
    one, other = session(data=data), session(data=without)
    np.testing.assert_array_equal(one.moments(), other.moments())
    scaling, start = scaling_of(one), one.model.initial(1)
    np.testing.assert_array_equal(one.train(start, scaling, 1), other.train(start, scaling, 1))


def test_training_rows_are_never_scored():
    data = table()
    evaluating = held_out(data.keys, "1", 0.3)
    one, other = session(data=data), session(data=data.rows(~evaluating))
    model, scaling = np.linspace(-1, 1, one.model.size), scaling_of(one)
    counts = one.score_counts(model, scaling)
    np.testing.assert_array_equal(one.evaluate(model, scaling), counts.ravel())
    assert counts.shape == (2, 100)
    assert counts.dtype == np.int64
    assert counts.sum(axis=1).tolist() == [
        int((data.target[evaluating] == 0).sum()),
        int((data.target[evaluating] == 1).sum()),
    ]
    assert other.evaluate(model, scaling).sum() == 0


def test_rows_says_how_many_train_and_how_many_are_held_out():
    evaluating = int(held_out(table().keys, "1", 0.3).sum())
    assert session().rows == (200 - evaluating, evaluating)


def test_training_learns():
    one = session(plan(learning_rate=0.5), data=table(2000))
    scaling, model = scaling_of(one), one.model.initial(1)
    for round_number in range(1, 11):
        model = model + one.train(model, scaling, round_number)
    from strategies.analytics.histograms import metrics_from

    assert metrics_from(one.score_counts(model, scaling)).auc > 0.8


@pytest.mark.parametrize("hidden", [(), (8,), (16, 4)])
def test_the_torch_forward_is_the_reference_forward(hidden):
    import torch

    from client.training.network import DenseNetwork, tensor

    model = DenseModel(inputs=7, hidden=hidden)
    source = np.random.default_rng(3)
    vector, x = source.normal(size=model.size), source.normal(size=(500, 7)).astype(np.float32)
    scores = torch.sigmoid(DenseNetwork(model, vector).logits(tensor(x)).double())
    np.testing.assert_allclose(scores.detach().numpy(), model.probabilities(vector, x), atol=1e-6, rtol=0)


def test_a_network_holds_its_vector_exactly_at_float32():
    from client.training.network import DenseNetwork

    model = DenseModel(inputs=3, hidden=(2,))
    vector = np.random.default_rng(1).normal(size=model.size)
    np.testing.assert_array_equal(
        DenseNetwork(model, vector).vector(), vector.astype(np.float32).astype(np.float64)
    )


def one_step(**settings: object) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Update, start, rows and labels of one full-batch step of logistic regression from a start that is not zero."""
    of = plan(local_epochs=1, batch_size=1000, learning_rate=0.25, **settings)
    data = table()
    training = data.rows(~held_out(data.keys, "1", 0.3))
    spec = CONTRACT.feature_spec(of.features)
    one = session(of)
    x = spec.encode(training.columns, scaling_of(one)).astype(np.float64)
    start = np.linspace(-1.0, 1.0, spec.width + 1)
    return one.train(start, scaling_of(one), 1), start, x, training.target


def gradient(start, x, y, importance):
    errors = importance * (1 / (1 + np.exp(-(x @ start[:-1] + start[-1]))) - y)
    return np.append(x.T @ errors, errors.sum()) / len(y)


def test_a_step_is_the_rate_times_the_gradient_of_the_mean_loss():
    moved, start, x, y = one_step()
    np.testing.assert_allclose(moved, -0.25 * gradient(start, x, y, np.ones(len(y))), atol=1e-6)


def test_class_weights_multiply_each_examples_loss():
    weights = plan().training.class_weights.model_copy(update={"negative": 0.5, "positive": 3.0})
    moved, start, x, y = one_step(class_weights=weights)
    np.testing.assert_allclose(moved, -0.25 * gradient(start, x, y, np.where(y > 0, 3.0, 0.5)), atol=1e-6)


def test_l2_shrinks_weights_and_leaves_biases():
    plain, start, *_ = one_step()
    decayed, *_ = one_step(l2=0.1)
    expected = -0.25 * 0.1 * np.append(start[:-1], 0.0)
    np.testing.assert_allclose(decayed - plain, expected, atol=1e-6)


def test_l2_leaves_the_biases_of_hidden_layers():
    start = np.full(DenseModel(inputs=6, hidden=(8, 4)).size, 0.5)
    common = {"model": MLP, "local_epochs": 1, "batch_size": 1000}
    moved = update(plan(l2=0.1, **common), start=start) - update(plan(**common), start=start)
    for weight, bias in DenseModel(inputs=6, hidden=(8, 4)).split(moved):
        np.testing.assert_allclose(weight, -0.1 * 0.1 * 0.5, atol=1e-6)
        np.testing.assert_allclose(bias, 0.0, atol=1e-6)


def test_fedprox_pulls_towards_the_global_model_the_harder_the_larger_mu():
    drifts = [np.linalg.norm(update(plan(local_epochs=10)))]
    drifts += [
        np.linalg.norm(update(plan(local_epochs=10, algorithm="fedprox", proximal_mu=mu)))
        for mu in (0.1, 1.0, 5.0)
    ]
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[-1] < 0.5 * drifts[0]


def test_the_first_fedprox_step_is_that_of_fedavg():
    plain, *_ = one_step()
    proximal, *_ = one_step(algorithm="fedprox", proximal_mu=5.0)
    np.testing.assert_array_equal(plain, proximal)


def test_a_step_of_rate_nearly_zero_sends_exactly_zero():
    start = np.random.default_rng(5).normal(size=session().model.size)
    assert not update(plan(learning_rate=1e-30), start=start).any()


def test_a_hold_out_that_leaves_nothing_to_train_on_is_no_refusal():
    """A plan's hold-out can leave exactly one key: to refuse, or not, would say whether it is there."""
    base = plan()
    holdout = base.evaluation.holdout.model_copy(update={"share": 0.999999})
    chosen = base.model_copy(update={"evaluation": base.evaluation.model_copy(update={"holdout": holdout})})
    one = session(chosen)
    assert one.rows[0] == 0
    assert not one.moments().any()
    scaling = Scaling(mean=(0.5, 0.5), std=(1.0, 1.0))
    assert not one.train(one.model.initial(1), scaling, 1).any()


def test_a_model_of_another_size_is_refused():
    one = session()
    with pytest.raises(UsageError, match="parameters"):
        one.train(np.zeros(3), scaling_of(one), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contract": "loans@2"}, "loans@2"),
        ({"features": ("amount", "incone")}, "income"),
        ({"training": plan(component="tabular/2").training}, "tabular/2"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change, words):
    with pytest.raises(UsageError, match=words):
        session(plan().model_copy(update=change))
