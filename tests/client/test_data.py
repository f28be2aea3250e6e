"""What a site's file must be, and the one sentence that says so when it is not."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.data import DataError, Table, read_source, table_from
from protos.contract import Contract
from protos.site_data import DataSource
from strategies.errors import Refused
from tests.client.loans_for_tests import CONTRACT, TODAY, loans


def source(path: Path, columns: dict[str, str] | None = None) -> DataSource:
    return DataSource(contract="loans@1", contract_file=path / "loans.yaml", file=path, columns=columns or {})


def load_table(source: DataSource, contract: Contract) -> Table:
    return read_source(source, contract, today=TODAY, spool=None).accepted()


def changed(name: str, values: object) -> pa.Table:
    data = loans(6)
    return data.set_column(
        data.column_names.index(name), name, values if isinstance(values, pa.Array) else pa.array(values)
    )


def taken(data: pa.Table, renamed: dict[str, str] | None = None) -> Table:
    return table_from(data, CONTRACT, renamed=renamed or {}, named="loans.parquet")


def sentence(data: pa.Table, renamed: dict[str, str] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        taken(data, renamed)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_file_becomes_the_contracts_columns_target_and_keys(tmp_path):
    path = tmp_path / "loans.parquet"
    pq.write_table(loans(50), path)
    found = load_table(source(path), CONTRACT)
    assert list(found.columns) == ["amount", "income", "term"]
    assert found.columns["amount"].dtype == np.float64
    assert np.isnan(found.columns["income"][0])
    assert set(found.columns["term"]) == {"short", "long"}
    assert found.target.dtype == np.float64
    assert found.target.tolist() == [float(word == "bad") for word in loans(50)["status"].to_pylist()]
    assert found.keys == [str(key) for key in range(50)]


def test_a_sites_own_column_names_are_translated(tmp_path):
    path = tmp_path / "loans.parquet"
    pq.write_table(loans().rename_columns(["nr", "amount", "earnings", "term", "outcome"]), path)
    found = load_table(source(path, {"income": "earnings", "loan_id": "nr", "status": "outcome"}), CONTRACT)
    np.testing.assert_array_equal(found.columns["income"], loans()["income"].to_numpy())


def test_columns_that_the_contract_does_not_name_are_left_alone():
    assert "race" not in taken(loans().append_column("race", pa.array(["x"] * 200))).columns


def test_rows_keep_their_columns_target_and_key_together():
    whole = taken(loans(20))
    chosen = np.arange(20) % 3 == 0
    part = whole.rows(chosen)
    assert part.keys == [str(key) for key in range(0, 20, 3)]
    np.testing.assert_array_equal(part.target, whole.target[chosen])
    np.testing.assert_array_equal(part.columns["amount"], whole.columns["amount"][chosen])


def test_a_missing_column_is_named_with_the_nearest():
    text = sentence(loans().rename_columns(["loan_id", "Amout", "income", "term", "status"]))
    assert text == "column 'amount' of loans.parquet is missing; the nearest is 'Amout'"


def test_a_missing_column_under_a_sites_own_name_says_both_names():
    text = sentence(loans(), {"income": "incomes"})
    assert (
        text
        == "column 'incomes' (`income` in the contract) of loans.parquet is missing; the nearest is 'income'"
    )


def test_a_translation_of_a_column_that_the_contract_lacks_is_refused():
    text = sentence(loans(), {"incone": "income"})
    assert text == (
        "`columns` for loans.parquet renames 'incone', which is not a column of contract loans@1; the nearest is 'income'"
    )


def test_what_is_never_a_feature_is_none_under_a_second_name():
    assert sentence(loans(), {"income": "status"}) == (
        "`columns` for loans.parquet takes 'status' for 'income' and for 'status', which is never a feature in loans@1; map 'income' to another column"
    )


def test_a_column_that_is_there_twice_is_refused():
    assert "is there 2 times; keep one" in sentence(loans().append_column("term", loans()["term"]))


def test_zero_rows_are_refused():
    assert (
        sentence(loans().slice(0, 0))
        == "loans.parquet has no rows; it must hold at least one row of each class"
    )


@pytest.mark.parametrize("word", ["good", "bad"])
def test_a_target_with_one_class_is_refused(word):
    text = sentence(changed("status", [word] * 6))
    assert (
        text
        == "column 'status' of loans.parquet has one class in all rows; training needs rows of both classes"
    )


def test_a_third_class_is_refused_with_the_two_that_are_known():
    text = sentence(changed("status", ["bad", "good", "Bad", "good", "good", "good"]))
    assert text == (
        "column 'status' of loans.parquet has 1 rows of another class; the contract's classes are 'bad' and 'good'"
    )


def test_a_row_without_a_class_is_refused():
    text = sentence(changed("status", ["bad", "good", None, "", "good", "good"]))
    assert text == "column 'status' of loans.parquet has 2 missing values; every row needs its class"


def test_text_in_a_number_column_is_refused():
    text = sentence(changed("amount", ["1", "2", "3", "4", "n/a", "6"]))
    assert text == "column 'amount' of loans.parquet holds string; the contract says number, store it as one"


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_missing_number_is_refused_where_the_contract_refuses_it(gap):
    text = sentence(changed("amount", pa.array([1.0, gap, 3.0, 4.0, 5.0, 6.0])))
    assert text == "column 'amount' of loans.parquet has 1 missing values; the contract refuses them"


def test_an_infinite_number_is_refused():
    assert "has 1 infinite values" in sentence(changed("income", [1.0, float("inf"), 3.0, 4.0, 5.0, 6.0]))


@pytest.mark.parametrize("kind", [pa.int32(), pa.float32(), pa.decimal128(12, 2), pa.bool_(), pa.uint8()])
def test_every_kind_of_number_is_taken(kind):
    values = pa.array([True, False, True, None, False, True]).cast(pa.int8())
    found = taken(changed("income", values.cast(kind)))
    np.testing.assert_array_equal(found.columns["income"], [1, 0, 1, np.nan, 0, 1])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_every_kind_of_text_is_taken_and_other_words_are_none(kind):
    words = pa.array(["short", "long", None, "", "odd", "short"]).cast(kind)
    assert list(taken(changed("term", words)).columns["term"]) == ["short", "long", None, None, None, "short"]


def test_a_category_coded_in_words_that_the_contract_does_not_know_is_refused():
    text = sentence(changed("term", [36, 60, 36, 60, 36, 60]))
    assert text == (
        "column 'term' of loans.parquet holds no word of the contract's vocabulary, short, long; use the contract's words"
    )


def test_a_category_without_any_value_is_missing_everywhere():
    assert list(taken(changed("term", pa.array([None] * 6, pa.string()))).columns["term"]) == [None] * 6


@pytest.mark.parametrize("name", ["term", "loan_id", "status"])
def test_fractions_as_words_are_refused(name):
    assert "holds double" in sentence(changed(name, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))


def test_a_row_without_a_key_is_refused():
    text = sentence(changed("loan_id", [1, 2, None, 4, 5, 6]))
    assert text == "column 'loan_id' of loans.parquet has 1 missing values; every row needs its key"


def test_text_keys_and_number_keys_are_the_same_keys():
    assert (
        taken(changed("loan_id", ["1", "2", "3", "4", "5", "6"])).keys
        == taken(changed("loan_id", [1, 2, 3, 4, 5, 6])).keys
    )


def failure(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_table(source(path), CONTRACT)
    assert isinstance(caught.value, Refused)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "loans.parquet does not exist" in failure(tmp_path / "loans.parquet")


def test_a_folder_is_not_read_as_a_file(tmp_path):
    assert "cannot be read (Is a directory)" in failure(tmp_path)


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    path = tmp_path / "loans.parquet"
    path.write_text("loan_id,amount\n1,2\n")
    assert "is not a readable Parquet file" in failure(path)


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "loans.parquet"
    pq.write_table(loans(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert "is not a readable Parquet file" in failure(path)


def test_a_file_damaged_inside_is_refused(tmp_path):
    path = tmp_path / "loans.parquet"
    pq.write_table(loans(5000), path, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[200:20_000] = b"\xff" * 19_800
    path.write_bytes(bytes(data))
    assert "is not a readable Parquet file" in failure(path)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "loans.parquet"
    words = pa.array([b"short", b"long", b"\xff\xfe", b"long", b"long", b"long"]).view(pa.string())
    pq.write_table(changed("term", words), path)
    assert "is not a readable Parquet file" in failure(path)
