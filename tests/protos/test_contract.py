"""Contracts, the encodings they give, and plans checked against them."""

import pytest

from protos.contract import Contract
from protos.documents import DocumentError, read_document
from protos.plan import Plan
from protos.plan_fit import check_plan
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, NumericFeature
from tests.protos.documents_for_tests import CONTRACT, PLAN, changed


def read(text: str) -> Contract:
    return read_document(text, Contract, "contract.yaml")


def plan_with(old: str, new: str) -> Plan:
    return read_document(changed(PLAN, old, new), Plan, "plan.yaml")


def test_a_contract_gives_the_encoding_of_features_in_the_order_asked_for():
    spec = read(CONTRACT).feature_spec(["term", "income", "funded_amnt"])
    assert spec.features == (
        CategoricalFeature(name="term", vocabulary=("term_36", "term_60")),
        NumericFeature(name="income", low=0.0, high=1e6, transform="log1p", missing="indicator"),
        NumericFeature(name="funded_amnt", low=0.0, high=50000.0, transform="none", missing="refuse"),
    )


def test_a_contract_has_a_reference_and_comes_back_from_canonical_bytes():
    contract = read(CONTRACT)
    assert contract.ref == "lending-club@1"
    assert Contract.from_canonical(contract.canonical) == contract


def test_the_order_of_columns_does_not_change_the_digest():
    lines = CONTRACT.splitlines(keepends=True)
    swapped = "".join([*lines[:6], lines[8], lines[7], lines[6]])
    assert read(swapped).digest == read(CONTRACT).digest


def test_a_category_may_be_called_no():
    text = changed(CONTRACT, "[term_36, term_60]", "[no, yes, on]")
    assert read(text).feature_spec(["term"]).features == (CategoricalFeature("term", ("no", "yes", "on")),)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fundedamnt", "has no column 'fundedamnt'; did you mean 'funded_amnt'?"),
        ("zzz", "it has funded_amnt, income, term"),
        ("loan_id", "loan_id is the key"),
        ("Class", "Class is the target"),
    ],
)
def test_features_that_are_none_are_refused(name: str, sentence: str):
    with pytest.raises(UsageError) as caught:
        read(CONTRACT).feature_spec(["term", name])
    assert sentence in str(caught.value)


def test_columns_cannot_be_changed():
    with pytest.raises(TypeError):
        del read(CONTRACT).columns["term"]  # type: ignore[attr-defined]


def test_a_plan_fits_its_contract():
    check_plan(read_document(PLAN, Plan, "plan.yaml"), read(CONTRACT))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("lending-club@1", "lending-club@2", "is for contract lending-club@2, but this is lending-club@1"),
        ("[funded_amnt, term]", "[funded_amount, term]", "did you mean 'funded_amnt'?"),
        ("[funded_amnt, term]", "[loan_id]", "a key is never a feature"),
        ("[funded_amnt, term]", "[Class]", "the target is never a feature"),
        ("by: loan_id", "by: customer_id", "set evaluation.holdout.by: loan_id"),
    ],
)
def test_plans_that_do_not_fit_are_refused(old: str, new: str, sentence: str):
    with pytest.raises(UsageError) as caught:
        check_plan(plan_with(old, new), read(CONTRACT))
    assert sentence in str(caught.value)


BAD = {
    "range turned around": ("[0, 50000]", "[50000, 0]", "line 7: `columns.funded_amnt.range`"),
    "range of nothing": ("[0, 50000]", "[1, 1]", "leaves no room"),
    "range without an end": ("[0, 50000]", "[0, .inf]", "`columns.funded_amnt.range[1]` is Infinity"),
    "range that overflows": ("[0, 50000]", "[-1.7e308, 1.7e308]", "leaves no room"),
    "range of three": ("[0, 50000]", "[0, 1, 2]", "`columns.funded_amnt.range` is [0, 1, 2]"),
    "empty vocabulary": ("[term_36, term_60]", "[]", "`columns.term.vocabulary` is []"),
    "word listed twice": ("[term_36, term_60]", "[term_36, term_36]", "'term_36' is named twice"),
    "number as a word": ("[term_36, term_60]", "[36, 60]", "`columns.term.vocabulary[0]` is 36"),
    "blank word": ("[term_36, term_60]", '["", a]', "1 to 128 printable characters"),
    "word with spaces around": ("[term_36, term_60]", '[" a", b]', "without spaces around"),
    "vocabulary for a number": (
        "unit: USD, range: [0, 50000]",
        "unit: USD, range: [0, 50000], vocabulary: [a]",
        "unknown key `columns.funded_amnt.vocabulary`; known here: missing, outside, range, reason, transform, type, unit",
    ),
    "misspelt key in a column": ("vocabulary:", "vocabluary:", "did you mean `vocabulary`?"),
    "number without a range": (", range: [0, 50000]", "", "`columns.funded_amnt.range` is missing"),
    "column without a type": (
        "{type: number, unit: USD, range: [0, 50000]}",
        "{unit: USD}",
        "`columns.funded_amnt`",
    ),
    "unknown type": ("type: category", "type: colour", "`columns.term.type`"),
    "one class": (
        "negative: good",
        "negative: bad",
        "line 5: `target.negative`: 'bad' is the positive class too",
    ),
    "key that is the target": ("key: loan_id", "key: Class", "line 4: `key`: Class is the target too"),
    "key among the columns": ("key: loan_id", "key: term", "term is the key and cannot be a column too"),
    "target among the columns": (
        "column: Class",
        "column: term",
        "term is the target and cannot be a column too",
    ),
    "column given twice": (
        "  income:",
        "  funded_amnt:",
        "line 8: duplicate key `funded_amnt`, first given in line 7",
    ),
    "version of zero": ("version: 1", "version: 0", "`version` is 0"),
    "version as text": ("version: 1", "version: '1'", '`version` is "1"'),
}


@pytest.mark.parametrize("defect", BAD)
def test_bad_contracts_are_refused(defect: str):
    old, new, sentence = BAD[defect]
    with pytest.raises(DocumentError) as caught:
        read(changed(CONTRACT, old, new))
    assert sentence in str(caught.value)


def test_what_may_be_left_out_leaves_the_digest_of_older_contracts():
    assert read(CONTRACT).digest == "09446a26f43d442d5b7539bcf0a70e4c5be142af9b922e3efbc8d8df28ae5235"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("protected: [incom]\n", "`protected`: incom is not a column; did you mean 'income'?"),
        (
            "freshness: {column: income, newest_within: 30d}\n",
            "`freshness`: income is not a column of type date; add one to columns",
        ),
        ("minimum_rows: 0\n", "`minimum_rows`"),
        ("protected: [income, income]\n", "'income' is named twice"),
    ],
)
def test_rules_about_columns_that_are_not_there_are_refused(more: str, sentence: str):
    with pytest.raises(DocumentError) as caught:
        read(CONTRACT + more)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("column", ["income", "term"])
def test_a_column_may_have_a_reason_in_the_banks_own_words(column):
    (line,) = [each for each in CONTRACT.splitlines() if each.strip().startswith(f"{column}:")]
    reasoned = read(changed(CONTRACT, line, line.replace("}", ", reason: Too much was asked for}")))
    assert reasoned.columns[column].reason == "Too much was asked for"
    assert reasoned.digest != read(CONTRACT).digest
    assert Contract.from_canonical(reasoned.canonical) == reasoned
    for bad in ("no", '"two\\nlines"', '" spaces "', "x" * 201, '"\\u202eturned"'):
        with pytest.raises(DocumentError, match="printable characters on one line"):
            read(changed(CONTRACT, line, line.replace("}", f", reason: {bad}}}")))


def test_an_encoding_is_made_once_and_never_for_other_features_or_another_contract() -> None:
    contract = read(CONTRACT)
    spec = contract.feature_spec(["term", "income"])
    assert contract.feature_spec(("term", "income")) is spec
    assert [each.name for each in contract.feature_spec(["income", "term"]).features] == ["income", "term"]
    assert contract.feature_spec(["term", "income"]) == spec
    renamed = contract.model_copy(update={"columns": {"term": contract.columns["income"]}})
    assert renamed.feature_spec(["term"]).columns[0] == "term"
    assert contract == read(CONTRACT)
    assert contract.digest == read(CONTRACT).digest
    with pytest.raises(UsageError):
        contract.feature_spec(["term", "no_such_column"])
    assert contract.feature_spec(["term", "income"]) == spec
