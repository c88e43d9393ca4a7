"""How much training fits into a given time: the learning rate must know the end of a run before it begins."""

from collections.abc import Callable

from .history import History

TRIAL = 3.0  # seconds at most, and 5 % of the time that is to be filled


def steps_within(seconds: float | int, train: Callable[[int], History]) -> int:
    """How many steps of a training take about so many seconds, at least 2, found by trying some.

    seconds: on the clock, above 0 (ValueError otherwise);  train: steps → History; it trains a copy of the model.
    Where a trial is stopped by hand, what it told so far: in a notebook the training that follows ends after one step,
    and says so.

    >>> half_a_second_each = lambda steps: History(steps=[*range(1, steps + 1)], seconds=0.5 * steps)
    >>> steps_within(60, half_a_second_each)
    120
    """
    if not seconds > 0:
        raise ValueError(f"steps_within: expected seconds above 0, got {seconds!r}.")

    history = train(3)  # the first steps are slower
    steps, spent = 0, 0.0
    while not history.interrupted and spent < min(TRIAL, seconds / 20):
        more = max(1, 2 * steps)
        history = train(more)
        steps, spent = steps + more, spent + history.seconds
    if history.interrupted:
        steps, spent = len(history.steps), history.seconds
    return max(2, round(seconds * steps / spent))
