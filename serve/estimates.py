"""What to expect of a time that varies: a running mean, and how far the next value may lie above it."""

_MEAN_GAIN = 1 / 8
_DEVIATION_GAIN = 1 / 4


class Estimate:
    """Mean and mean deviation of what was observed lately, as of TCP's round-trip times (RFC 6298).

    >>> estimate = Estimate()
    >>> estimate.upper
    0.0
    >>> estimate.observe(2.0)
    >>> estimate.mean, estimate.upper
    (2.0, 6.0)
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self._deviation = 0.0
        self._observed = False

    def observe(self, value: float) -> None:
        """Take in a value."""
        if not self._observed:
            self.mean, self._deviation, self._observed = value, value / 2, True
            return
        self._deviation += _DEVIATION_GAIN * (abs(value - self.mean) - self._deviation)
        self.mean += _MEAN_GAIN * (value - self.mean)

    @property
    def upper(self) -> float:
        """What the next value will hardly exceed; 0 before the first."""
        return self.mean + 4 * self._deviation
