"""How long calls take, learned from those that were."""

from serve.limits.estimates import CallTimes


def test_short_calls_that_are_late_say_little_of_long_ones():
    """One frame that took a tenth of a second, for a noise, does not make 300 frames take thirty."""
    times = CallTimes()
    for _ in range(20):
        times.observe(100.0, 0.1)
    for _ in range(20):
        times.observe(100.0, 0.1)
        times.observe(1.0, 0.1)
    assert times.expected(300.0) < 1
    assert times.upper(300.0) < 2
    assert times.upper(1.0) > 0.1
