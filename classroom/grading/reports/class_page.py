"""The teacher's page: a class at a glance.

Without `names` there is no name on it. What it says of answers is made of counts and of the declarations of quizzes, so
that nothing which a student has written is on it, but for her name.
"""

from __future__ import annotations

import statistics as averages
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...quizzes import declarations
from .. import course
from ..records import Report
from .cells import counted, number
from .markup import document, prose, share, text
from .overview import ABSENT, KINDS, Notebook, Overview, Question, overview
from .statistics import ENOUGH, share_interval

MOST_SLIPS, MOST_HARD = 8, 5


def class_page(reports: Sequence[Report], expected: Collection[str] | None = None, names: bool = False) -> str:
    """The page as HTML.  expected: names on the class list, None where there is none;  names: whether it says who."""
    seen = overview(reports, expected)
    questions = [question for notebook in seen.notebooks for question in notebook.questions]
    parts = [_who(seen, names), *map(_glance, seen.notebooks)]
    parts += [_misconceptions(questions), _hardest(questions), _stopped(questions)] if questions else []
    parts += [_words(seen, names), *map(_notebook, seen.notebooks), HOW_IT_IS_COUNTED]
    return document("The class at a glance", STYLE, "\n".join(filter(None, parts)))


# --------------------------------------------------------------------------------------------------------- at a glance


def _who(seen: Overview, names: bool) -> str:
    line = f"{counted(len(seen.students), 'student')} handed in {counted(seen.files, 'file')}."
    if seen.expected is not None:
        absent = len(seen.words.get(ABSENT, ()))
        line += f" Of {len(seen.expected)} on the class list, {absent or 'none'} handed in nothing."
    return f"<p class=lead>{line}</p>{_names(dict.fromkeys(seen.students, '')) if names else ''}"


def _glance(notebook: Notebook) -> str:
    points, out_of = notebook.points, notebook.out_of
    middle = f"Half of them have {number(averages.median(points))} of {out_of} points or more"
    mean = f"{share(sum(points) / (len(points) * out_of))} on average"
    return (
        f"<article class=glance><h3>{_title(notebook.number)}</h3>"
        f"<p>{counted(len(points), 'student')}. {middle}; {mean}.</p>{_histogram(points, out_of)}</article>"
    )


def _histogram(points: Sequence[int | float], out_of: int) -> str:
    """How many students have how many points, in tenths of what there is to have."""
    tenths = [min(9, int(10 * each / out_of)) for each in points]
    counts = [tenths.count(k) for k in range(10)]
    bars = "".join(
        f"<li style='--h:{count / max(counts):.3f}'><span>{count or ''}</span>"
        f"<small>{share(k / 10) if k % 5 == 0 else ''}</small></li>"
        for k, count in enumerate(counts)
    )
    said = ", ".join(f"{count} from {share(k / 10)}" for k, count in enumerate(counts) if count)
    return f"<ol class=histogram role=img aria-label='Students by share of points: {said}'>{bars}</ol>"


@dataclass(frozen=True)
class Slip:
    """A wrong idea: a known misconception, or a wrong option. name, about: HTML;  count: of so many students."""

    quiz: str
    name: str
    about: str
    count: int
    students: int


def _slips(question: Question) -> list[Slip]:
    """The wrong ideas behind the answers to a question, the commonest first."""
    declared = declarations.registered().get(question.quiz)
    found = [
        (question.options[letter], f"<b>{letter}</b> · {prose(option.text)}", prose(option.feedback))
        for letter, option in getattr(declared, "options", {}).items()
        if not option.right
    ]
    found += [
        (question.misconceptions[each.name], f"<b>{prose(each.name)}</b>", prose(each.message))
        for each in getattr(declared, "misconceptions", ())
    ]
    slips = [Slip(question.quiz, name, about, count, question.students) for count, name, about in found if count]
    return sorted(slips, key=lambda slip: -slip.count)


def _misconceptions(questions: Sequence[Question]) -> str:
    slips = [slip for question in questions for slip in _slips(question) if slip.count > 1]
    slips.sort(key=lambda slip: -slip.count / slip.students)
    items = "".join(
        f"<li>{_with_interval(slip.count, slip.students)}<div><p>{slip.name}</p><p>{slip.about}</p>"
        f"<small>{_heading(slip.quiz)}</small></div></li>"
        for slip in slips[:MOST_SLIPS]
    )
    shown = f"<ol class=big>{items}</ol>" if items else "<p>No wrong idea is shared by two students.</p>"
    return f"<h2>Commonest misconceptions</h2>{shown}"


def _hardest(questions: Sequence[Question]) -> str:
    hard = [question for question in questions if question.kinds["right"] < question.students]
    hard.sort(key=lambda question: question.kinds["right"] / question.students)
    items = "".join(
        f"<li>{_with_interval(question.kinds['right'], question.students)}"
        f"<div><p><b>{_heading(question.quiz)}</b></p>{_bar(question)}</div></li>"
        for question in hard[:MOST_HARD]
    )
    shown = f"{LEGEND}<ol class=big>{items}</ol>" if items else "<p>All questions were answered right by all.</p>"
    return f"<h2>Hardest questions</h2>{shown}"


def _stopped(questions: Sequence[Question]) -> str:
    stopped = [question for question in questions if question.kinds["stopped"]]
    stopped.sort(key=lambda question: -question.kinds["stopped"])
    said = {"timeout": "too slow", "crashed": "crashed"}
    items = "".join(
        f"<li>{', '.join(f'{count} {said[how]}' for how, count in question.stopped.items())}"
        f" · {_heading(question.quiz)}</li>"
        for question in stopped
    )
    return f"<h2>Time-outs and crashes</h2><ul>{items}</ul>" if items else ""


def _words(seen: Overview, names: bool) -> str:
    if not seen.words:
        return "<h2>Who needs a word</h2><p>Nobody, by the rules of this page.</p>"
    items = "".join(
        f"<li>{counted(len(students), 'student')}: {rule}{_names(students) if names else ''}</li>"
        for rule, students in seen.words.items()
    )
    hint = "" if names else "<p class=soft>Give the command again with <code>--names</code> to see who.</p>"
    return f"<h2>Who needs a word</h2>{hint}<ul class=words>{items}</ul>"


def _names(students: dict[str, str]) -> str:
    lines = "".join(f"<li>{text(name)} <small>{text(about)}</small></li>" for name, about in students.items())
    return f"<details><summary>who they are</summary><ul>{lines}</ul></details>"


# ------------------------------------------------------------------------------------------------ question by question


def _notebook(notebook: Notebook) -> str:
    parts = [f"<h2>{_title(notebook.number)}</h2>{LEGEND}"]
    if len(notebook.points) < ENOUGH:
        here = f"here are {len(notebook.points)}"
        parts.append(f"<p class=soft>Discrimination is told for {ENOUGH} students or more; {here}.</p>")
    return "\n".join([*parts, *map(_question, notebook.questions)])


def _question(question: Question) -> str:
    right = f"right: {_with_interval(question.kinds['right'], question.students)}"
    facts = " · ".join(filter(None, [right, _discrimination(question)]))
    wrong = [f"<li>{_times(slip.count)}<div>{slip.name}</div></li>" for slip in _slips(question)]
    wrong += [f"<li class=soft>{_times(count)}<div>{what}</div></li>" for what, count in _others(question)]
    return (
        f"<article class=question><h3>{_heading(question.quiz)}</h3>{_bar(question)}"
        f"<p>{facts}</p><ul class=slips>{''.join(wrong)}</ul></article>"
    )


def _others(question: Question) -> list[tuple[str, int]]:
    """What is no known misconception, in words, with how often it was seen."""
    values = sum(question.stages[stage] for stage in ("value", "gradient", "nan", "detached", "in place"))
    forms = sum(question.stages[stage] for stage in ("type", "structure", "shape", "dtype", "device"))
    found = {
        "other wrong values": values,
        "another type, shape or device": forms,
        "raised an exception": question.stages["raised"],
        "a letter that is no option": question.stages[""],
        "a cell that does not run, or does not define what was asked for": question.kinds["did not run"],
        "took too long": question.stopped["timeout"],
        "crashed": question.stopped["crashed"],
        "not answered": question.kinds["not answered"],
    }
    return [(what, count) for what, count in found.items() if count]


def _discrimination(question: Question) -> str:
    found = question.discrimination
    if found is None:
        return ""
    warning = "<b class=warn>those who know more get it wrong: look at this question</b>" if found.r < 0 else ""
    interval = f"<small>({_signed(found.low)} to {_signed(found.high)})</small>"
    return f"discrimination {_signed(found.r)} {interval} {warning}"


def _bar(question: Question) -> str:
    kinds = [(kind, question.kinds[kind]) for kind in KINDS if question.kinds[kind]]
    said = ", ".join(f"{count} {kind}" for kind, count in kinds)
    parts = "".join(f"<span class={_css(kind)} style='flex-grow:{count}'>{count}</span>" for kind, count in kinds)
    return f"<div class=bar role=img aria-label='{said}'>{parts}</div>"


# ------------------------------------------------------------------------------------------------------------ in words


def _heading(quiz: str) -> str:
    return text(course.headings().get(quiz, quiz))


def _title(number: str) -> str:
    return f"Notebook {text(course.notebook_titles().get(number, number))}"


def _with_interval(count: int, total: int) -> str:
    low, high = share_interval(count, total)
    interval = f"<small>({100 * low:.0f} to {share(high)})</small>"
    return f"<span><span class=number>{count} of {total}</span> {interval}</span>"


def _times(count: int) -> str:
    return f"<span class=number>{count} ×</span>"


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _css(kind: str) -> str:
    return kind.replace(" ", "-")


LEGEND = f"<ul class=legend>{''.join(f'<li class={_css(kind)}>{kind}</li>' for kind in KINDS)}</ul>"
HOW_IT_IS_COUNTED = f"""
<h2>How this is counted</h2>
<ul class=soft>
<li>Of a student's several files for one notebook the best counts. Shares are of those who handed in the notebook in a
file that could be read and graded; what is not answered counts as not right.</li>
<li>A misconception is found by its results: the answer gave what the known wrong answer of that name gives, on every
input. Wrong answers that match none of them are "other wrong values". Options are lettered as in the course's own
notebooks, in whatever order they were shown.</li>
<li>In brackets: 95 % intervals, for shares Wilson's. Another class like this one could well have given any number in
there.</li>
<li>Discrimination is the corrected item-total correlation: that of a question's points with the points for all other
questions of the notebook, its interval by Fisher's transformation. From 0.3 on, a question tells strong students from
weak ones well; near 0 it doesn't; below 0 it has them the wrong way round, and may itself be unclear or wrong. It is
left out for fewer than {ENOUGH} students, and where all did the same.</li>
</ul>"""

STYLE = """\
.right { --kind: var(--right) } .wrong { --kind: var(--wrong) } .did-not-run { --kind: var(--broken) }
.stopped { --kind: var(--stopped) } .not-answered { --kind: var(--open) }
.glance { background: var(--box); border-radius: 8px; padding: .8rem 1rem; margin: .75rem 0 }
.histogram { display: flex; gap: 2px; list-style: none; padding: 0; margin: 0; max-width: 30rem }
.histogram li { flex: 1; height: 7rem; display: flex; flex-direction: column; justify-content: flex-end;
  text-align: center }
.histogram li::after { content: ""; order: 1; height: calc(4.4rem * var(--h)); background: var(--right);
  border-radius: 2px 2px 0 0; border-bottom: 1px solid var(--line) }
.histogram span { font-size: .8rem; line-height: 1.2 }
.histogram small { order: 2; height: 1.3rem; font-size: .75rem; text-align: left }
.big { list-style: none; padding: 0 }
.big li { display: grid; grid-template-columns: 5.5rem 1fr; gap: 0 .75rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line) }
.big p { margin: 0 0 .15rem } .big li > span small { display: block; line-height: 1.2 }
.words > li { margin: .3rem 0 } details { margin: .1rem 0 .4rem } summary { cursor: pointer; color: var(--soft) }
.question { padding: .75rem 0; border-bottom: 1px solid var(--line) } .question p { margin: .15rem 0 }
.bar { display: flex; gap: 2px; height: 1.35rem; margin: .3rem 0; border-radius: 4px; overflow: hidden }
.bar span { flex: 1 0 1.3rem; text-align: center; font: 600 .8rem/1.35rem system-ui, sans-serif;
  color: var(--page); background: var(--kind) }
.bar .not-answered { color: var(--text) }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; padding: 0 }
.legend li::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  border-radius: 2px; background: var(--kind) }
.slips { list-style: none; padding: 0; margin: .25rem 0 0 }
.slips li { display: grid; grid-template-columns: 3rem 1fr }
.warn { color: var(--stopped) }
"""
