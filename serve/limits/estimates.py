"""What to expect of times that vary: running means, and how far the next value may lie above them."""

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
        """Add a value to the running means."""
        if not self._observed:
            self.mean, self._deviation, self._observed = value, value / 2, True
            return
        self._deviation += _DEVIATION_GAIN * (abs(value - self.mean) - self._deviation)
        self.mean += _MEAN_GAIN * (value - self.mean)

    @property
    def upper(self) -> float:
        """Return what the next value will hardly exceed; 0 before the first."""
        return self.mean + 4 * self._deviation


class CallTimes:
    """How long calls take for what they cost: seconds a cost, plus a deviation that does not grow with it.

    Both are averages over calls, in which a short call, most of whose time is noise, weighs little.
    """

    def __init__(self) -> None:
        self._seconds, self._cost, self._deviation = Estimate(), Estimate(), Estimate()

    def observe(self, cost: float, seconds: float) -> None:
        """Add a call of ``cost`` that took ``seconds``."""
        self._deviation.observe(abs(seconds - self.expected(cost)) if self._cost.mean else seconds / 2)
        self._seconds.observe(seconds)
        self._cost.observe(cost)

    def expected(self, cost: float) -> float:
        """Return the expected seconds of a call, 0 before the first."""
        return cost * self._seconds.mean / self._cost.mean if self._cost.mean else 0.0

    def upper(self, cost: float) -> float:
        """Return the seconds that a call will hardly exceed."""
        return self.expected(cost) + 4 * self._deviation.mean
