"""The judge's side of a quiz: compare what came out with what the reference gives. It never touches the answer's code.

`judge` goes through the stages that a teacher would, and stops at the first that fails in any case.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .comparing import Compared, as_numbers
from .declarations import Case, Misconception, Quiz, Unfit
from .errors import factor, show, what_factors_count
from .findings import Finding, alike, at, elsewhere, first_finding, structure
from .raw import Array, Unsupported
from .running import NOT_ATTEMPTED, RETURNED, Result, run, states_before

STAGES = (
    "not attempted",
    "raised",
    "type",
    "structure",
    "shape",
    "dtype",
    "device",
    "nan",
    "detached",
    "value",
    "gradient",
    "in place",
    "passed",
)


@dataclass(frozen=True)
class Verdict:
    """What the judge found: the stage reached, in one line what is wrong, advice, and where it was seen.

    finding, details: what is wrong, and advice: in words that give away nothing of inputs and expected values, nor
    repeat what the answer itself may have written into an exception: fit for a page of feedback;
    numbers, evidence: these, and where it was seen: for the notebook, whose inputs are no secret;
    line: of the answer's own code, where it stopped with an exception, 0 if unknown;
    misconception: name of the known wrong answer that gives the same numbers, "" if none;
    case: index of the first case that shows it, None if it isn't about one.
    """

    quiz: str
    stage: str
    finding: str
    details: tuple[str, ...] = ()
    evidence: str = ""
    misconception: str = ""
    case: int | None = None
    numbers: str = ""
    line: int = 0

    @property
    def passed(self) -> bool:
        return self.stage == "passed"

    @property
    def headline(self) -> str:
        """Finding and numbers, for those who may see both."""
        return ": ".join(filter(None, (self.finding, self.numbers)))


class Expected:
    """What the reference gives on some cases and, once they are asked for, what the known misconceptions give.

    Worth keeping where many answers meet the same cases.  Raises ValueError if the reference fails on one of them.
    """

    def __init__(self, quiz: Quiz, cases: Sequence[Case]) -> None:
        self.quiz, self.cases = quiz, list(cases)
        self.declared = max(1, sum(not case.device for case in cases) - 1)  # behind these comes the first once more
        self.before = [states_before(case) for case in cases]
        results = run(quiz.reference, cases, quiz.probe)
        _check_reference(quiz, cases, results)
        self.right = self.measured(results)
        self.rules = [Compared(quiz, case) for case in cases]

    def measured(self, results: Sequence[Result]) -> list[Result | Finding]:
        """Results with what is compared in place of what came out; or what keeps one from being measured."""
        return [self.measure(index, result) for index, result in enumerate(results)]

    def measure(self, index: int, result: Result) -> Result | Finding:
        """... of one case."""
        case = self.cases[index]
        if self.quiz.measured is None or result.status != RETURNED or case.device:
            return result
        try:
            return replace(result, output=self.quiz.measured(result.output, case))
        except Unfit as reason:
            return Finding("structure", str(reason))
        except Exception:  # nobody knows of what form it is
            return Finding("structure", "what it gave has another form than it should have")

    def findings(self, measured: Sequence[Result | Finding]) -> list[Finding | None]:
        """The first thing that is wrong in each case."""
        return [self.finding(index, each) for index, each in enumerate(measured)]

    def finding(self, index: int, measured: Result | Finding) -> Finding | None:
        """... of one case."""
        if isinstance(measured, Finding):
            return measured
        if self.cases[index].device:
            return elsewhere(measured, self.right[index])
        return first_finding(self.rules[index], measured, self.right[index], self.before[index])

    def alike(self, ours: Sequence[Result | Finding], theirs: Sequence[Result | Finding], stage: str) -> bool:
        """Whether two answers gave the same on every case, as far as it matters at this stage."""
        numbered = [i for i, case in enumerate(self.cases) if not case.device]
        if any(isinstance(each[i], Finding) for each in (ours, theirs) for i in numbered):
            return False
        return all(alike(self.rules[i], ours[i], theirs[i], stage) for i in numbered)

    @functools.cached_property
    def misconceptions(self) -> list[tuple[Misconception, list[Result | Finding]]]:
        """Misconceptions that run on these cases and can be told from the reference by them, with what they give."""
        found = []
        for misconception in self.quiz.misconceptions:
            results = run(misconception.wrong, self.cases, self.quiz.probe)
            ran = all(result.status == RETURNED for case, result in zip(self.cases, results) if not case.device)
            measured = self.measured(results)
            if ran and any(self.findings(measured)):
                found.append((misconception, measured))
        return found


def judge(quiz: Quiz, cases: Sequence[Case], results: Sequence[Result], expected: Expected | None = None) -> Verdict:
    """Compare the results of an answer with those of the quiz's reference on the same cases.

    results: from `run`, one a case, possibly from another process;  expected: `Expected(quiz, cases)` if at hand.
    Raises ValueError if the number of results is not that of the cases.
    """
    if len(results) != len(cases):
        raise ValueError(f"expected {len(cases)} results, one for each case, got {len(results)}")
    if results and all(result.status == NOT_ATTEMPTED for result in results):
        return _not_attempted(quiz, results[0])
    expected = expected or Expected(quiz, cases)
    with np.errstate(all="ignore"):  # whatever an answer's numbers are, they are no news for anybody's stderr
        return _judged(expected, results)


def _judged(expected: Expected, results: Sequence[Result]) -> Verdict:
    quiz, cases, measured = expected.quiz, expected.cases, expected.measured(results)
    found = expected.findings(measured)
    # What shows on another device only comes last: first the numbers.
    failing = [(bool(cases[i].device), STAGES.index(each.stage), i) for i, each in enumerate(found) if each]
    if not failing:
        return Verdict(quiz.id, "passed", "all cases agree with the reference")
    *_, index = min(failing)
    finding = found[index]
    details, evidence, name = finding.details, _evidence(expected, found, index), ""
    if finding.stage in ("value", "gradient", "detached", "shape") and not any(found[: expected.declared]):
        details = (*_KEPT, *details)
    if finding.stage in ("value", "gradient"):
        counted, factors = _factor_that_counts(expected, measured, found)
        details, evidence = details + counted, " ".join(filter(None, [evidence, factors]))
    known = _known_misconception(expected, measured, finding.stage)
    if known:
        details, name = (known.message,), known.name
    return Verdict(quiz.id, finding.stage, finding.what, details, evidence, name, index, finding.numbers, finding.line)


def _evidence(expected: Expected, found: Sequence[Finding | None], index: int) -> str:
    """Where it was seen. Of all cases only those are counted that the quiz declares, before what `draw_cases` adds."""
    case, finding, declared = expected.cases[index], found[index], expected.declared
    if case.device:
        where = f"Seen with inputs on the device {case.device!r}, which has shapes, but no numbers."
    elif index >= declared:
        where = "Seen in a second call with the shapes of case 1 and other numbers."
    else:
        where = f"Seen in case {index + 1} of {declared} ({case.describe()})."
    counts = finding.stage in ("value", "gradient") and index < declared
    count = _how_many(declared, sum(each is not None for each in found[:declared])) if counts else ""
    parts = [finding.evidence, where] if finding.stage == "raised" else [where, finding.evidence]
    return " ".join(filter(None, [*parts, count]))


_KEPT = (
    "The first call with these shapes was right, a later one is not: is something kept from call to call? If not, it "
    "is right for some numbers only.",
)


def _not_attempted(quiz: Quiz, result: Result) -> Verdict:
    if result.trouble is not None:
        detail = "Write your answer in the cell above, run it, then run this one."
        return Verdict(quiz.id, "not attempted", "", (detail,))
    detail = "If you have written it: is there a `return` on its last line?"
    return Verdict(quiz.id, "not attempted", "it returned nothing", (detail,))


def _check_reference(quiz: Quiz, cases: Sequence[Case], right: Sequence[Result]) -> None:
    for case, result in zip(cases, right):
        trouble = result.trouble or result.gradient_trouble
        if trouble or result.status != "returned":
            reason = f"{trouble.kind}: {trouble.message}" if trouble else "it returned nothing"
            raise ValueError(f"quiz {quiz.id}: the reference fails on its own case ({case.describe()}): {reason}")
        pairs: list = []
        structure(result.output, result.output, "", pairs)
        for path, value, _ in pairs:
            if isinstance(value, Unsupported) or (isinstance(value, Array) and value.data is None and not case.device):
                what = (
                    value.kind
                    if isinstance(value, Unsupported)
                    else f"a tensor of shape {value.shape}, too large to compare"
                )
                raise ValueError(f"quiz {quiz.id}: the reference gives what can't be compared: {at(path)}{what}")


def _how_many(cases: int, wrong: int) -> str:
    if cases == 1:
        return ""
    if wrong == cases:
        return "Both cases are wrong." if cases == 2 else f"All {cases} cases are wrong."
    return f"{cases - wrong} of {cases} cases {'is' if cases - wrong == 1 else 'are'} right already."


def _factor_that_counts(
    expected: Expected, measured: Sequence[Result | Finding], found: Sequence[Finding | None]
) -> tuple[tuple[str, ...], str]:
    """Advice if several cases are each off by a factor, and the factors count something; and the factors."""
    wrong = [index for index, finding in enumerate(found) if finding and not expected.cases[index].device]
    factors = []
    for index in wrong:
        if isinstance(measured[index], Finding):
            return (), ""
        got, want = as_numbers(measured[index].output), as_numbers(expected.right[index].output)
        if got is None or want is None or got.shape != want.shape or "c" in (got.dtype.kind, want.dtype.kind):
            return (), ""
        factors.append(factor(np.atleast_1d(got).astype(float), np.atleast_1d(want).astype(float)))
    if len(factors) < 2 or None in factors or "1" in map(show, factors):
        return (), ""
    return what_factors_count([expected.cases[i] for i in wrong], factors)


def _known_misconception(expected: Expected, measured: Sequence[Result | Finding], stage: str) -> Misconception | None:
    """The declared misconception that gives what this answer gave on every case, if there is one."""
    if stage in ("not attempted", "raised", "device"):
        return None
    known = expected.misconceptions
    return next((each for each, theirs in known if expected.alike(measured, theirs, stage)), None)
