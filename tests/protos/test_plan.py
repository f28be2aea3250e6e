"""Plans: what is accepted, what the digest is over, and every refusal with its sentence."""

import pytest

from protos.documents import DocumentError, read_document
from protos.plan import Plan
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.server_optimizers import FedAdam, FedAvg, FedAvgM, FedYogi
from tests.protos.documents_for_tests import PLAN, changed


def read(text: str) -> Plan:
    return read_document(text, Plan, "plan.yaml")


def plan_with(old: str, new: str) -> Plan:
    return read(changed(PLAN, old, new))


OPTIMISER = "server_optimiser: {kind: fedadam, learning_rate: 0.1}"


def test_a_plan_is_read():
    plan = read(PLAN)
    assert plan.sites.join_within == 120.0
    assert plan.training.round_deadline == 300.0
    assert plan.model.kind == "mlp"


def test_weights_are_one_unless_the_plan_says_otherwise():
    plan = read(PLAN)
    assert plan.weight_of(SiteName("west")) == 2
    assert plan.weight_of(SiteName("south")) == 1
    assert plan_with("\n  weights: {west: 2}", "").weight_of(SiteName("west")) == 1


def test_plan_names_the_model():
    assert read(PLAN).dense_model(7).hidden == (64, 32)
    logistic = plan_with("{kind: mlp, hidden: [64, 32]}", "{kind: logistic}").dense_model(7)
    assert (logistic.inputs, logistic.hidden) == (7, ())


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("{kind: fedavg}", FedAvg(learning_rate=1.0)),
        ("{kind: fedavgm, momentum: 0.9}", FedAvgM(learning_rate=1.0, momentum=0.9)),
        ("{kind: fedadam, learning_rate: 0.1}", FedAdam(learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3)),
        (
            "{kind: fedyogi, learning_rate: 1, beta1: 0, beta2: 0.5, tau: 1}",
            FedYogi(learning_rate=1.0, beta1=0.0, beta2=0.5, tau=1.0),
        ),
    ],
)
def test_plan_names_the_server_optimizer(written: str, means: object):
    assert plan_with(OPTIMISER, f"server_optimiser: {written}").server_optimizer() == means


def test_the_default_server_optimizer_is_the_plain_mean():
    assert plan_with(f"  {OPTIMISER}\n", "").server_optimizer() == FedAvg(learning_rate=1.0)


SAME = {
    "comment": ("seed: 1", "seed: 1  # for the audit"),
    "duration in another unit": ("round_deadline: 5m", "round_deadline: 300s"),
    "duration with a space and quotes": ("join_within: 2m", "join_within: '120 s'"),
    "quoting": ("purpose: credit-risk", 'purpose: "credit-risk"'),
    "quoted key": ("purpose: credit-risk", '"purpose": credit-risk'),
    "key order": (
        "name: lending-default\npurpose: credit-risk",
        "purpose: credit-risk\nname: lending-default",
    ),
    "block for flow": ("features: [funded_amnt, term]", "features:\n  - funded_amnt\n  - term"),
    "integer for a whole number": ("negative: 1.0", "negative: 1"),
    "exponent": ("l2: 0.001", "l2: 1e-3"),
    "default written out": ("  local_epochs: 1\n", ""),
}


@pytest.mark.parametrize("change", SAME)
def test_layout_does_not_change_the_digest(change: str):
    assert plan_with(*SAME[change]).digest == read(PLAN).digest


DIFFERENT = {
    "seed": ("seed: 1", "seed: 2"),
    "deadline": ("round_deadline: 5m", "round_deadline: 301s"),
    "order of features": ("[funded_amnt, term]", "[term, funded_amnt]"),
    "salt": ('salt: "1"', 'salt: "01"'),
    "weight": ("{west: 2}", "{west: 3}"),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_every_decision_changes_the_digest(change: str):
    assert plan_with(*DIFFERENT[change]).digest != read(PLAN).digest


def test_the_digest_is_pinned():
    """A change of this value breaks every signature over an earlier plan."""
    assert read(PLAN).digest == "b2663a084fe73249317a23bb3369ac917d02f28de56a336795434c766af7af1c"


def test_canonical_bytes_come_back_as_the_same_plan():
    plan = read(PLAN)
    assert Plan.from_canonical(plan.canonical) == plan
    assert Plan.from_canonical(plan.canonical).digest == plan.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seed":1', b'"seed": 1'),
        (b'"seed":1', b'"seed":1.0'),
        (b'"seed":1', b'"extra":0,"seed":1'),
        (b'"300s"', b'"5m"'),
        (b'"seed":1', b'"seed":1,"seed":1'),
        (b"}", b""),
    ],
)
def test_bytes_in_another_form_are_refused(old: bytes, new: bytes):
    data = read(PLAN).canonical
    assert old in data
    with pytest.raises(Refused, match="the Plan received"):
        Plan.from_canonical(data.replace(old, new))


def test_oversized_bytes_are_refused():
    with pytest.raises(Refused, match="at most 1048576"):
        Plan.from_canonical(b" " * (1 << 21))


def test_a_plan_cannot_be_changed():
    plan = read(PLAN)
    with pytest.raises(TypeError):
        plan.sites.weights[SiteName("west")] = 9  # type: ignore[index]
    default = plan_with("\n  weights: {west: 2}", "")
    with pytest.raises(TypeError):
        default.sites.weights[SiteName("west")] = 9  # type: ignore[index]


BAD = {
    "minimum above the invitation": (
        "minimum: 2",
        "minimum: 4",
        "line 9: `sites.minimum`: 4 sites must take part but 3",
    ),
    "minimum of nobody": ("minimum: 2", "minimum: 0", "line 9: `sites.minimum` is 0"),
    "weight for a stranger": (
        "{west: 2}",
        "{west: 2, north: 1}",
        "line 11: `sites.weights`: north has a weight but is not",
    ),
    "weight for a name that is none": ("{west: 2}", "{West: 2}", "line 11: `sites.weights.West` is"),
    "weight of zero": ("{west: 2}", "{west: 0}", "`sites.weights.west` is 0"),
    "weight above a million": ("{west: 2}", "{west: 1000001}", "`sites.weights.west` is 1000001"),
    "site invited twice": ("[west, midwest, south]", "[west, midwest, west]", "'west' is named twice"),
    "nobody invited": ("[west, midwest, south]", "[]", "`sites.invite` is []"),
    "site name in capitals": (
        "[west, midwest, south]",
        "[West, midwest, south]",
        "'West' is not a site name",
    ),
    "boolean for a site": ("[west, midwest, south]", "[true, midwest, south]", "`sites.invite[0]` is true"),
    "feature named twice": ("[funded_amnt, term]", "[term, term]", "line 5: `features` is"),
    "no features": ("[funded_amnt, term]", "[]", "`features` is []"),
    "too many features": (
        "[funded_amnt, term]",
        "[" + ", ".join(f"f{place}" for place in range(1001)) + "]",
        "at most 1000 items",
    ),
    "fedprox without mu": ("  proximal_mu: 0.01\n", "", "`training.proximal_mu`: algorithm fedprox needs it"),
    "fedavg with mu": (
        "algorithm: fedprox",
        "algorithm: fedavg",
        "line 16: `training.proximal_mu`: algorithm fedavg does not",
    ),
    "mu of zero": ("proximal_mu: 0.01", "proximal_mu: 0", "`training.proximal_mu` is 0"),
    "unknown algorithm": (
        "algorithm: fedprox",
        "algorithm: fedsgd",
        "it should be 'fedavg', 'fedprox', 'dp-fedsgd' or 'dp-sgd'",
    ),
    "fedavgm without momentum": (
        OPTIMISER,
        "server_optimiser: {kind: fedavgm}",
        "line 17: `training.server_optimiser.momentum` is missing",
    ),
    "fedavg with momentum": (
        OPTIMISER,
        "server_optimiser: {kind: fedavg, momentum: 0.9}",
        "unknown key `training.server_optimiser.momentum`; known here: kind, learning_rate",
    ),
    "fedadam without a rate": (
        OPTIMISER,
        "server_optimiser: {kind: fedadam}",
        "`training.server_optimiser.learning_rate` is missing",
    ),
    "beta of one": (
        OPTIMISER,
        OPTIMISER.replace("}", ", beta2: 1}"),
        "`training.server_optimiser.beta2` is 1",
    ),
    "misspelt beta": (OPTIMISER, OPTIMISER.replace("}", ", beta_1: 0.5}"), "did you mean `beta1`?"),
    "unknown optimiser": (OPTIMISER, "server_optimiser: {kind: fedlion}", "`training.server_optimiser.kind`"),
    "no rounds": ("rounds: 20", "rounds: 0", "line 18: `training.rounds` is 0"),
    "too many rounds": ("rounds: 20", "rounds: 10001", "`training.rounds` is 10001"),
    "negative seed": ("seed: 1", "seed: -1", "`training.seed` is -1"),
    "seed beyond canonical JSON": (
        "seed: 1",
        "seed: 9007199254740992",
        "`training.seed` is 9007199254740992",
    ),
    "infinite learning rate": (
        "  learning_rate: 0.1\n",
        "  learning_rate: .inf\n",
        "`training.learning_rate` is Infinity",
    ),
    "class weight of zero": ("positive: 2.5", "positive: 0", "`training.class_weights.positive` is 0"),
    "too many hidden layers": ("[64, 32]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "`model.hidden` is"),
    "too wide a hidden layer": ("[64, 32]", "[4097]", "`model.hidden[0]` is 4097"),
    "mlp without layers": ("[64, 32]", "[]", "`model.hidden` is []"),
    "logistic with layers": ("kind: mlp", "kind: logistic", "unknown key `model.hidden`"),
    "component without a version": ("tabular/1", "tabular", "a component and its version"),
    "contract without a version": ("lending-club@1", "lending-club", "a name and a version"),
    "members without a version": ("demo@1", "demo@0", "a name and a version"),
    "nothing held out": ("share: 0.3", "share: 0", "`evaluation.holdout.share` is 0"),
    "everything held out": ("share: 0.3", "share: 1", "`evaluation.holdout.share` is 1"),
    "salt as a number": ('salt: "1"', "salt: 1", "put it in quotes"),
    "salt with the separator": ('salt: "1"', 'salt: "a\\x1fb"', "printable ASCII"),
    "deadline without a unit": ("round_deadline: 5m", "round_deadline: 300", "number with a unit"),
    "masked aggregation": (
        "{mode: plain}",
        "{mode: masked}",
        "does not match any of the expected tags: 'plain', 'secure'",
    ),
    "another privacy mode": ("{mode: none}", "{mode: local}", "`privacy.unit` is missing; add it"),
    "another version": ("plan/v1", "plan/v2", "it should be 'plan/v1'"),
    "misspelt key": ("  rounds: 20", "  round: 20", "unknown key `training.round`; did you mean `rounds`?"),
}


@pytest.mark.parametrize("defect", BAD)
def test_bad_plans_are_refused(defect: str):
    old, new, sentence = BAD[defect]
    with pytest.raises(DocumentError) as caught:
        plan_with(old, new)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("plan.yaml line ")
