"""How much training fits into a given time: the learning rate must know the end of a run before it begins."""

from collections.abc import Callable

from .history import History

TRIAL = 3.0  # seconds at most, and 5 % of the time that is to be filled


def steps_within(seconds: float | int, train: Callable[[int], History]) -> int:
    """How many steps of a training take about so many seconds, at least 1, found by trying some.

    seconds: on the clock, above 0 (ValueError otherwise);  train: steps → History; it trains a copy of the model.
    Raises KeyboardInterrupt where a trial is stopped by hand.

    >>> half_a_second_each = lambda steps: History(steps=[*range(1, steps + 1)], seconds=0.5 * steps)
    >>> steps_within(60, half_a_second_each)
    120
    """
    if not seconds > 0:
        raise ValueError(f"steps_within: expected seconds above 0, got {seconds!r}.")

    def seconds_for(steps: int) -> float:
        history = train(steps)
        if history.interrupted:
            raise KeyboardInterrupt
        return history.seconds

    seconds_for(3)  # the first steps are slower
    steps, spent = 0, 0.0
    while spent < min(TRIAL, seconds / 20):
        more = max(1, 2 * steps)
        steps, spent = steps + more, spent + seconds_for(more)
    return max(1, round(seconds * steps / spent))
