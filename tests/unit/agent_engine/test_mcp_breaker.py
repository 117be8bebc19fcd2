"""The circuit breaker: when it opens, and how it is tried again."""

from weir.agent_engine.mcp.breaker import Breaker


def test_it_opens_after_three_failures_in_a_minute_and_is_probed_once_after_two():
    now = 0.0
    breaker = Breaker(lambda: now)
    for at in (0.0, 50.0, 100.0):
        now = at
        breaker.failed()
        assert breaker.state == "closed"
    now = 105.0
    breaker.failed()
    assert (breaker.state, breaker.admits()) == ("open", False)
    now = 225.0
    assert breaker.state == "half_open"
    assert [breaker.admits(), breaker.admits()] == [True, False]
    breaker.failed()
    assert (breaker.state, breaker.admits()) == ("open", False)
    now = 345.0
    assert breaker.admits()
    breaker.succeeded()
    assert (breaker.state, breaker.failure_count, breaker.admits()) == ("closed", 0, True)
