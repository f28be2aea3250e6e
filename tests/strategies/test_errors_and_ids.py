import pytest

from strategies.errors import CovenantError, Refused, Unreachable, UsageError
from strategies.ids import digest, run_id, site_name


@pytest.mark.parametrize(
    ("kind", "code"), [(CovenantError, 1), (UsageError, 2), (Refused, 3), (Unreachable, 4)]
)
def test_each_kind_of_error_has_the_documented_exit_code(kind: type[CovenantError], code: int) -> None:
    assert kind.exit_code == code
    assert issubclass(kind, CovenantError)


@pytest.mark.parametrize("text", ["a", "west", "north-2", "a" * 63])
def test_a_site_name_is_a_lower_case_label(text: str) -> None:
    assert site_name(text) == text


@pytest.mark.parametrize(
    "text", ["", "West", "2west", "-west", "a" * 64, "west\n", "we st", "wést", "a/b", "a_b"]
)
def test_anything_else_is_no_site_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not a site name; use"):
        site_name(text)


def test_a_run_id_has_sixteen_hexadecimal_digits() -> None:
    assert run_id("run-0123456789abcdef") == "run-0123456789abcdef"


@pytest.mark.parametrize(
    "text", ["run-0123456789abcde", "run-0123456789abcdeff", "run-0123456789ABCDEF", "0123456789abcdef", ""]
)
def test_anything_else_is_no_run_id(text: str) -> None:
    with pytest.raises(UsageError, match="is not a run id"):
        run_id(text)


def test_a_digest_has_64_lower_case_hexadecimal_digits() -> None:
    assert digest("0a" * 32) == "0a" * 32


@pytest.mark.parametrize("text", ["0a" * 31, "0A" * 32, "0a" * 32 + "\n", "sha256:" + "0a" * 32])
def test_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(UsageError, match="is not a SHA-256 digest"):
        digest(text)
