"""The last moment of a key, a root or a statement: one form, and no moment that has none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from protos.moments import Moment, end_of_day
from strategies.errors import UsageError

MOMENT = TypeAdapter(Moment)


def test_a_moment_is_in_utc_whatever_its_zone() -> None:
    assert MOMENT.validate_json('"2027-06-30T14:00:00+14:00"') == datetime(2027, 6, 30, tzinfo=UTC)
    assert MOMENT.dump_json(MOMENT.validate_json('"2027-06-30T14:00:00+14:00"')) == b'"2027-06-30T00:00:00Z"'


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_that_has_no_date_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="no date in UTC"):
        MOMENT.validate_json(f'"{text}"')


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_json('"2027-06-30T00:00:00"')


@pytest.mark.parametrize("text", ["20270630", "2027-6-30", "2027-02-30", "tomorrow", ""])
def test_a_day_has_one_form(text: str) -> None:
    assert end_of_day("2027-06-30") == datetime(2027, 6, 30, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(UsageError, match="YYYY-MM-DD"):
        end_of_day(text)
