"""When something is read again, and how patiently after a failure."""

from datetime import UTC, datetime, timedelta

import pytest

from weir.context_lake.refreshes.acceleration import Acceleration, columns_in, condition_of
from weir.context_lake.refreshes.durations import seconds_of
from weir.context_lake.refreshes.schedules import next_time, retry_seconds

SINCE = datetime(2026, 4, 1, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172_800), ("1w", 604_800),
     ("", None), ("5", None), ("1h ", None), ("-1s", None), ("999999999w", None)],
)  # fmt: skip
def test_duration_is_read_or_refused(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_next_time_is_an_interval_after_the_last_success_or_what_cron_says() -> None:
    assert next_time(Acceleration(refresh_check_interval="15m"), SINCE) == SINCE + timedelta(minutes=15)
    assert next_time(Acceleration(refresh_cron="0 6 * * *"), SINCE) == datetime(2026, 4, 2, 6, tzinfo=UTC)
    assert next_time(Acceleration(), SINCE) is None
    assert next_time(None, SINCE) is None


def test_jitter_comes_after_the_interval_and_within_its_bound() -> None:
    tenth = Acceleration(refresh_check_interval="100s", refresh_jitter_enabled=True)
    bound = Acceleration(refresh_check_interval="100s", refresh_jitter_enabled=True, refresh_jitter_max="50s")
    for acceleration, most in ((tenth, 10), (bound, 50)):
        assert next_time(acceleration, SINCE, lambda: 0.0) == SINCE + timedelta(seconds=100)
        assert next_time(acceleration, SINCE, lambda: 1.0) == SINCE + timedelta(seconds=100 + most)


def test_retries_come_ever_later_until_they_are_given_up() -> None:
    assert [retry_seconds(None, n) for n in range(1, 8)] == [1, 1, 2, 3, 5, 8, 13]
    assert retry_seconds(None, 1000) == 300
    assert retry_seconds(Acceleration(refresh_retry_enabled=False), 1) is None
    three = Acceleration(refresh_retry_max_attempts=3)
    assert [retry_seconds(three, n) is None for n in (1, 3, 4)] == [False, False, True]


def test_columns_and_conditions_are_taken_out_of_their_texts() -> None:
    assert columns_in("id") == ["id"]
    assert columns_in("(a, b )") == ["a", "b"]
    assert condition_of("DELETE FROM t\nWHERE x < 3 ;") == "x < 3"
