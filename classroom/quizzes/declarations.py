"""Quizzes as data: what a code quiz or a concept question is, and the register in which both are found by id.

A declaration says *what* is asked; it never runs an answer. That lets the same declaration be used twice: in the
notebook, and by a grader that keeps the reference away from the code that it grades.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import math
import pkgutil
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

LESSONS = "classroom.lessons"  # the package whose modules declare the quizzes, one a notebook; found by name
LIBRARY = "course_utils"  # the package that students learn from, some of whose functions would answer a quiz
NOTEBOOK_SEED = 0  # the cases a student sees are the same on every run; a grader draws fresh ones


class DeclarationError(ValueError):
    """A quiz was declared in a way that cannot work. For authors: students never meet it."""


class Unfit(ValueError):
    """What an answer gave can't be measured; the message says what was expected and what came."""


class UnknownQuiz(ValueError):
    """No quiz or question has this id."""


@contextlib.contextmanager
def plain_defaults() -> Iterator[None]:
    """float32 and the CPU are the defaults inside, whatever a notebook has set; its own are back afterwards."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    try:
        torch.set_default_dtype(torch.float32)
        if device.type != "cpu":
            torch.set_default_device("cpu")
        yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


# ----------------------------------------------------------------------------------------------------- inputs of a case


class Fixture:
    """An input that can't be sent as data: a network, a generator, any callable, rebuilt by name where it is needed.

    name: of a builder registered with `fixture`;  settings: its keyword arguments, as plain JSON values.

    >>> Fixture("generator", seed=3)
    Fixture('generator', seed=3)
    """

    __slots__ = ("name", "settings")

    def __init__(self, name: str, **settings: Any) -> None:
        for key, value in settings.items():
            if not _is_json(value):
                raise DeclarationError(
                    f"Fixture({name!r}): expected {key}= as a number, text, list or None, got {type(value).__name__}; "
                    "build it inside the fixture"
                )
        self.name = name
        self.settings = {key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixture) and (self.name, self.settings) == (other.name, other.settings)

    __hash__ = None  # its settings may change

    def __repr__(self) -> str:
        return f"Fixture({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.settings.items())])})"

    def build(self) -> Any:
        """The thing itself: the same weights on every call, on every machine, whatever the global seed was."""
        if self.name not in _builders:
            load()
        if self.name not in _builders:
            raise DeclarationError(f"expected a fixture among {', '.join(sorted(_builders))}, got {self.name!r}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(self.settings.get("seed", 0)))
            return _builders[self.name](**self.settings)


def fixture(name: str) -> Callable:
    """Register the function below as the builder of `Fixture(name, …)`. It may depend on its arguments only.

    >>> @fixture("doctest/doubling")
    ... def doubling(factor=2):
    ...     return lambda x: factor * x
    >>> Fixture("doctest/doubling", factor=3).build()(5)
    15
    """

    def register(builder: Callable) -> Callable:
        known = _builders.get(name)
        if known is not None and known.__module__ != builder.__module__:
            raise DeclarationError(f"fixture {name!r} is already built by {known.__module__}; choose another name")
        _builders[name] = builder
        return builder

    return register


@dataclass(frozen=True)
class Case:
    """One call of the student's function.

    args: name -> value, in the order of the function's parameters; tensors, numbers, text, None, tuples, lists and
    dicts of them, and `Fixture`.
    gradients: names of float tensors, or of fixtures that are modules, for which gradients are compared as well.
    label: how a message names this case; without one, its shapes do.
    device: "meta" where only shapes, types and devices are looked at, of tensors that are not the CPU's.
    """

    args: Mapping[str, Any]
    gradients: Sequence[str] = ()
    label: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        for name, value in self.args.items():
            _check_value(name, value)
        for name in self.gradients:
            value = self.args.get(name)
            floats = isinstance(value, torch.Tensor) and value.is_floating_point()
            if not floats and not isinstance(value, Fixture):
                raise DeclarationError(f"gradients: expected names of float tensors or fixtures in args, got {name!r}")

    def describe(self) -> str:
        """The label, or the inputs in a few words."""
        if self.label:
            return self.label
        types = {str(leaf.dtype) for leaf in leaves(tuple(self.args.values())) if isinstance(leaf, torch.Tensor)}
        words = ", ".join(f"{name} {_in_words(value, len(types) > 1)}" for name, value in self.args.items())
        return f"{words} in {types.pop().removeprefix('torch.')}" if len(types) == 1 else words


# -------------------------------------------------------------------------------------------------------------- quizzes


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be off, exactly: `relative` × |expected| + `absolute` × (largest |expected| of that output).

    Scaling the absolute part with the output keeps small outputs (a variance of 1e-6) from passing unseen.
    """

    relative: float
    absolute: float


@dataclass(frozen=True)
class Misconception:
    """A wrong answer that people really give.

    name: in a few words ("log σ read as log variance");  wrong: a function that makes this mistake, called like the
    reference;  message: what a teacher would say to someone whose numbers come out the same.
    """

    name: str
    wrong: Callable
    message: str


@dataclass(frozen=True)
class Quiz:
    """A code quiz. Made by `quiz(...)`, which see for the fields."""

    id: str
    points: int
    title: str
    reference: Callable
    cases: Callable[[torch.Generator], Sequence[Case]]
    equation: str = ""
    tolerance: Tolerance | float | None = None
    misconceptions: Sequence[Misconception] = ()
    hints: Sequence[str] = ()
    passed: str = ""
    explanation: str = ""
    minutes: int | float = 5
    bug_hunt: bool = False
    probe: Callable | None = None
    measured: Callable | None = None
    any_device: bool = True
    library: Sequence[Any] = ()
    answered_by: Sequence[str] = ()
    module: str = ""

    @property
    def kind(self) -> str:
        """What sort of task it is, as its heading says: "code" or "bug hunt"."""
        return "bug hunt" if self.bug_hunt else "code"

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Dotted names of what would answer by being called: `library`, and the reference where it is the library's."""
        own = [self.reference] if is_librarys(self.reference) else []
        return tuple(dict.fromkeys(map(dotted_name, (*own, *self.library))))

    @property
    def out_of_reach(self) -> tuple[Any, ...]:
        """What would answer, in a kernel that has it all: the references too, which other checks may hand out."""
        return (*self.forbidden, self.reference, *(get(id).reference for id in self.answered_by))

    def draw_cases(self, seed: int = NOTEBOOK_SEED) -> list[Case]:
        """Inputs for this seed; the notebook's own seed by default.

        Behind those declared comes the first once more with other numbers, for answers that keep something from one
        call to the next, and, where there are tensors, the first on another device.
        """
        with plain_defaults():
            rng = torch.Generator().manual_seed(seed)
            cases, anew = list(self.cases(rng)), list(self.cases(rng))
        if not cases or not all(isinstance(case, Case) for case in cases):
            raise DeclarationError(f"quiz {self.id}: cases(rng) must return a list of at least one Case")
        tensors = any(isinstance(leaf, torch.Tensor) for leaf in leaves(tuple(cases[0].args.values())))
        elsewhere = [replace(cases[0], gradients=(), device="meta")] if self.any_device and tensors else []
        return [*cases, anew[0], *elsewhere]


@dataclass(frozen=True)
class Option:
    """One option of a concept question: its text, and what is said to someone who chose it."""

    text: str
    feedback: str
    right: bool = False


@dataclass(frozen=True)
class Concept:
    """A multiple-choice question. Made by `concept(...)`, which see for the fields."""

    id: str
    points: int
    title: str
    question: str
    options: Mapping[str, Option]
    explanation: str = ""
    minutes: int | float = 2
    equation: str = ""
    module: str = ""

    @property
    def kind(self) -> str:
        """What sort of task it is, as its heading says."""
        return "concept"

    @property
    def answer(self) -> str:
        """The letter of the right option."""
        return next(letter for letter, option in self.options.items() if option.right)


def quiz(
    id: str,
    *,
    points: int,
    title: str,
    reference: Any,
    cases: Callable[[torch.Generator], Sequence[Case]],
    equation: str = "",
    tolerance: Tolerance | float | None = None,
    misconceptions: Sequence[Misconception] = (),
    hints: Sequence[str] = (),
    passed: str = "",
    explanation: str = "",
    minutes: int | float = 5,
    bug_hunt: bool = False,
    probe: Callable | None = None,
    measured: Callable | None = None,
    any_device: bool = True,
    library: Sequence[Any] = (),
    answered_by: Sequence[str] = (),
    module: str = "",
) -> Quiz:
    """Declare and register a code quiz: all that there is to say about it stands here, and nowhere else.

    id: "vae/kl";  points: a whole number above 0;  title: what to write, in a few words, for the notebook's heading;
    reference: a right answer, usually the library's own function, called exactly as the student's will be;
    cases: `cases(rng)` draws the inputs with the `torch.Generator` that it is given: non-square, several batch sizes;
    equation: the number in the notebook, "2.4";  tolerance: None (chosen by dtype), a relative error, or a `Tolerance`;
    misconceptions: known wrong answers;  hints: one at a time, from a nudge to almost the line;
    passed: what has been learned, in a sentence or two, for the card of whoever passes;
    explanation: markdown under the folded solution;  bug_hunt: running code was handed out;
    probe: `probe(answer, **args)` where calling the answer is not enough (a class whose objects must be made and used,
    or what is drawn at random and must be drawn often). Its result is compared instead; it holds what came out, as it
    came out, and no judgement: it runs beside the answer, where nothing can be trusted.
    measured: `measured(raw, case)` makes of a result, as raw data (`raw.to_raw`), what is compared. It runs where
    the judge does. It may raise `Unfit` with a sentence about what doesn't even have the right form.
    any_device: False where the reference can't run on PyTorch's device "meta", for it must look at its numbers.
    library: functions, methods, properties or classes of the library that would answer by being called: a grader puts
    them out of reach while an answer runs. (The reference itself is out of reach without being listed here.)
    answered_by: ids of other quizzes of the notebook whose functions would answer this one, if called in another way.

    Raises DeclarationError with what to change.
    """
    fields = {key: value for key, value in locals().items() if key != "module"}
    _check_common(id, points, title, minutes)
    for name in ("reference", "cases"):
        if not callable(fields[name]):
            raise DeclarationError(f"quiz {id}: expected {name}= as a function, got {type(fields[name]).__name__}")
    if isinstance(hints, str) or not all(isinstance(text, str) and text.strip() for text in hints):
        raise DeclarationError(f"quiz {id}: expected hints= as a list of sentences")
    if len({m.name for m in misconceptions}) < len(misconceptions):
        raise DeclarationError(f"quiz {id}: two misconceptions have the same name")
    for found in library:
        if not is_librarys(found):
            raise DeclarationError(f"quiz {id}: expected library= as functions of {LIBRARY}, got {found!r}")
    if isinstance(answered_by, str) or id in answered_by:
        raise DeclarationError(f"quiz {id}: expected answered_by= as a list of other quizzes' ids, got {answered_by!r}")
    for name in ("hints", "misconceptions", "library", "answered_by"):
        fields[name] = tuple(fields[name])
    declared = Quiz(**fields, module=module or _declaring_module())
    if probe is not None:
        _builders[probe_name(id)] = lambda: probe
    return _register(declared)


def concept(
    id: str,
    *,
    title: str,
    question: str,
    options: Mapping[str, Option],
    points: int = 1,
    explanation: str = "",
    minutes: int | float = 2,
    equation: str = "",
    module: str = "",
) -> Concept:
    """Declare and register a concept question.

    question and option texts: markdown, LaTeX between dollar signs;  options: letter -> Option, from "a" on, exactly
    one of them right, each with feedback that answers the thought behind it.

    Raises DeclarationError with what to change.
    """
    _check_common(id, points, title, minutes)
    if list(options) != list("abcdef"[: len(options)]) or len(options) < 2:
        raise DeclarationError(f"question {id}: expected 2 to 6 options named a, b, c … in order, got {list(options)}")
    right = [letter for letter, option in options.items() if option.right]
    if len(right) != 1:
        raise DeclarationError(f"question {id}: expected exactly one right option, got {len(right)}")
    for letter, option in options.items():
        if not option.text.strip() or not option.feedback.strip():
            raise DeclarationError(f"question {id}: option {letter} needs a text and feedback")
    if not question.strip():
        raise DeclarationError(f"question {id}: the question is empty")
    module = module or _declaring_module()
    fields = {"id": id, "points": points, "title": title, "question": question, "options": dict(options)}
    return _register(Concept(**fields, explanation=explanation, minutes=minutes, equation=equation, module=module))


def question_markdown(concept: Concept) -> str:
    """Question and options as markdown, one list item an option: reads on paper, LaTeX untouched, no answers.

    >>> options = {"a": Option("$2$", "Yes.", right=True), "b": Option("3", "Count again.")}
    >>> print(question_markdown(Concept("demo/sum", 1, "A sum", "What is $1+1$?", options)))
    What is $1+1$?
    <BLANKLINE>
    * **a** · $2$
    * **b** · 3
    """
    lines = [f"* **{letter}** · {' '.join(option.text.split())}" for letter, option in concept.options.items()]
    return textwrap.dedent(concept.question).strip() + "\n\n" + "\n".join(lines)


# -------------------------------------------------------------------------------------------------------- the library's


def dotted_name(found: Any) -> str:
    """Where a function, method, property or class is defined: its module and its name in there.

    >>> dotted_name(Quiz.draw_cases), dotted_name(Quiz.kind)
    ('classroom.quizzes.declarations.Quiz.draw_cases', 'classroom.quizzes.declarations.Quiz.kind')
    """
    found = found.fget if isinstance(found, property) else found
    return f"{found.__module__}.{found.__qualname__}"


def is_librarys(found: Any) -> bool:
    """Whether something is a function, method, property or class that the library defines by a name."""
    try:
        name = dotted_name(found)
    except AttributeError:
        return False
    return name.startswith(f"{LIBRARY}.") and "<" not in name


# ------------------------------------------------------------------------------------------------------------- register

_register_of_quizzes: dict[str, Quiz | Concept] = {}
_builders: dict[str, Callable] = {}


def get(id: Any) -> Quiz | Concept:
    """The quiz or question with this id.  Raises UnknownQuiz, with the nearest ids, if there is none."""
    if type(id) is not str:
        raise UnknownQuiz(f"expected the id of a quiz in quotes, got {type(id).__name__}")
    if id not in _register_of_quizzes:
        load()
    if id not in _register_of_quizzes:
        near = difflib.get_close_matches(id, _register_of_quizzes, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "none has a similar name"
        raise UnknownQuiz(f"no quiz is called {id[:60]!r}; {hint}")
    return _register_of_quizzes[id]


def load() -> None:
    """Import every notebook's declarations (`lessons/nbNN.py`), so that all of them are registered."""
    package = importlib.import_module(LESSONS)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{LESSONS}.{module.name}")


def declared_in(module: str) -> dict[str, Quiz | Concept]:
    """id -> declaration of everything that `module` declared, in its order."""
    return {id: found for id, found in _register_of_quizzes.items() if found.module == module}


def registered() -> dict[str, Quiz | Concept]:
    """id -> declaration of everything in the notebooks' declarations, in order."""
    load()
    return {id: found for id, found in _register_of_quizzes.items() if found.module.startswith(f"{LESSONS}.")}


def probe_name(id: str) -> str:
    """Under which name the probe of a quiz is registered among the fixtures."""
    return f"probe of {id}"


def _register(declared: Any) -> Any:
    known = _register_of_quizzes.get(declared.id)
    if known is not None and known.module != declared.module:
        raise DeclarationError(f"quiz {declared.id!r} is already declared in {known.module}; choose another id")
    _register_of_quizzes[declared.id] = declared
    return declared


def _declaring_module() -> str:
    """Name of the module whose top level is being executed: the file in which `quiz(...)` stands."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return frame.f_globals.get("__name__", "")
        frame = frame.f_back
    return ""


# --------------------------------------------------------------------------------------------------------------- checks


def _check_common(id: str, points: int, title: str, minutes: int | float) -> None:
    if not re.fullmatch(r"[a-z0-9]+(?:[-_/][a-z0-9]+)*", id) or "/" not in id:
        raise DeclarationError(f"expected an id such as 'vae/kl' (small letters, digits, - _ and one /), got {id!r}")
    if type(points) is not int or points < 1:
        raise DeclarationError(f"quiz {id}: expected points as a whole number above 0, got {points!r}")
    if not title.strip():
        raise DeclarationError(f"quiz {id}: the title is empty")
    if not (math.isfinite(minutes) and minutes > 0):
        raise DeclarationError(f"quiz {id}: expected minutes above 0, got {minutes!r}")


def _check_value(name: str, value: Any) -> None:
    for leaf in leaves(value):
        if not (leaf is None or type(leaf) in (torch.Tensor, bool, int, float, str, Fixture)):
            raise DeclarationError(
                f"case: expected {name} to hold tensors, numbers, text, None or a Fixture, got {type(leaf).__name__}"
            )


def leaves(value: Any) -> Iterator[Any]:
    """Everything in an argument that is no tuple, list or dict of more.  DeclarationError if a key is no text."""
    if type(value) in (tuple, list):
        for item in value:
            yield from leaves(item)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise DeclarationError(f"case: expected text as keys of a dict, got {key!r}")
            yield from leaves(item)
    else:
        yield value


def _is_json(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return value is None or type(value) in (bool, int, float, str)


def _in_words(value: Any, with_dtype: bool) -> str:
    if isinstance(value, torch.Tensor):
        dtype = f" {str(value.dtype).removeprefix('torch.')}" if with_dtype else ""
        return (f"= {value.item():.6g}" if value.ndim == 0 else str(tuple(value.shape))) + dtype
    if isinstance(value, Fixture):
        return f"= {value.name}"
    text = repr(value)
    return f"= {text}" if len(text) < 40 else f"= {text[:36]} …"


@fixture("generator")
def _generator(seed: int = 0) -> torch.Generator:
    """A CPU generator with this seed, for functions that draw."""
    return torch.Generator().manual_seed(seed)
