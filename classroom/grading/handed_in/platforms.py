"""How learning platforms name what they let a teacher download: whose a file is, and what tells the student apart.

| platform | form |
|---|---|
| Moodle, folders on | `Ada Lovelace_12345_assignsubmission_file/03.ipynb`, with a `_` more before Moodle 4 |
| Moodle, folders off | `Ada Lovelace_12345_assignsubmission_file_03.ipynb`; teams: `Group A_7_assignsubmission_file` |
| Canvas | `lovelaceada_1234_56789_03.ipynb`, `lovelaceada_LATE_1234_56789_03-1.ipynb`, `anon_x9f2a_56789_03.ipynb` |
| Blackboard | `Homework_ada_attempt_2026-11-20-10-11-12_03.ipynb`, and a receipt, the same without a name, `.txt` |
| Gradescope | `submission_123456/03.ipynb`, and `submission_metadata.yml`, which says who that is |
| Brightspace | `123-456 - Ada Lovelace - Nov 20, 2026 1011 AM/03.ipynb` |
| nbgrader's exchange | `ada+week-3+2026-11-20 10:11:12.131415 UTC+a1b2/03.ipynb` |

The forms are those of Moodle's `mod/assign/classes/downloader.php`, Canvas's `lib/content_zipper.rb`, the patterns of
nbgrader's `zip_collect` and Otter's reader of Gradescope's metadata.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from .titles import is_anybody

Student = tuple[str, str]  # the name as written, and the platform's number or address, "" where it gives none

METADATA = "submission_metadata.yml"
MOODLES = "_assignsubmission_"
_WHEN = r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d"
ATTEMPT = re.compile(rf"(.+)_attempt_{_WHEN}(?:\.txt|_.*)?", re.DOTALL)
_ATTACHED = r"(?:\d+_.+|text\.html|link\.html)"
_FORMS = [
    re.compile(r"(?P<name>.*)_(?P<number>\d+)_assignsubmission_.*", re.DOTALL),
    re.compile(r"(?P<name>.+)_assignsubmission_.*", re.DOTALL),
    re.compile(rf"(?:LATE_)?(?P<name>anon_[A-Za-z0-9]+)_{_ATTACHED}", re.DOTALL),
    re.compile(rf"(?P<name>[^\W_A-Z][^\WA-Z]*?)(?:_LATE)?_(?P<number>\d+)_{_ATTACHED}", re.DOTALL),
    re.compile(r"(?P<number>\d+)-\d+ - (?P<name>.+?) - \w+\.? \d{1,2}, \d{4} .+", re.DOTALL),
    re.compile(r"(?P<name>[^+]+)\+[^+]+\+\d{4}-\d\d-\d\d .*", re.DOTALL),
]
_BLIND = "Participant"  # what Moodle calls everybody where marking is blind, with the number behind it


def student(top: str) -> Student | None:
    """Whose a file or folder of this name is, None where no platform names them so.

    >>> student("Ada Lovelace_12345_assignsubmission_file"), student("lovelaceada_LATE_1234_56789_03.ipynb")
    (('Ada Lovelace', '12345'), ('lovelaceada', '1234'))
    >>> student("Participant_7_assignsubmission_file_03.ipynb"), student("ada_03.ipynb")
    (('Participant 7', ''), None)
    """
    found = next((match for form in _FORMS if (match := form.fullmatch(top))), None)
    if found is None or (is_anybody(found["name"]) and MOODLES not in top):  # student_01_03_forward_diffusion.ipynb
        return None
    name, number = found["name"], found.groupdict().get("number", "")
    return (f"{name} {number}", "") if name == _BLIND and number else (name, number)


def is_platforms(top: str) -> bool:
    """Whether a file or folder of this name comes from a platform, so that what lies beside it does too."""
    return top == METADATA or bool(ATTEMPT.fullmatch(top)) or student(top) is not None


# --------------------------------------------------------------------------------------------------------- Gradescope


def submitters(metadata: str) -> dict[str, list[Student]]:
    """Folder -> who handed it in, several for a group, from the text of Gradescope's `submission_metadata.yml`.

    >>> submitters("---\\nsubmission_1:\\n  :submitters:\\n  - :name: 'Pat O''Neil'\\n    :email: pat@x.edu\\n")
    {'submission_1': [("Pat O'Neil", 'pat@x.edu')]}
    """
    found: dict[str, list[dict[str, str]]] = {}
    people: list[dict[str, str]] = []
    inside = False
    for line in metadata.splitlines():
        if match := re.fullmatch(r"""["']?(\w+)["']?:\s*""", line):
            people, inside = found.setdefault(match[1], []), False
        elif re.match(r"  ?:?\w+:", line):
            inside = bool(re.match(r"  ?:?submitters:", line))
        elif inside and (match := re.fullmatch(r"\s*(-?)\s*:?(name|sid|email):\s*(.*?)\s*", line)):
            if match[1]:
                people.append({})
            if people:
                people[-1][match[2]] = _scalar(match[3])
    named = {folder: [each for each in people if each.get("name")] for folder, people in found.items()}
    return {
        folder: [(each["name"], each.get("sid") or each.get("email", "")) for each in people]
        for folder, people in named.items()
        if people
    }


def _scalar(text: str) -> str:
    """A value of YAML on one line, of the three ways in which a name is written."""
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text[1:-1]
    return "" if text in ("~", "null") else text


# --------------------------------------------------------------------------------------------------------- Blackboard


def attempts(names: Iterable[str], receipts: Mapping[str, str]) -> dict[str, str]:
    """File's name -> login, for the files of Blackboard's zip; receipts: name -> text of those that are receipts.

    `Homework_1_ada_l_attempt_…` does not say where the title ends. The receipt does, "Name: Ada Lovelace (ada_l)";
    where it is missing, the title is what the names of all have in common.

    >>> when = "2026-11-20-10-11-12"
    >>> attempts([f"HW_1_ada_attempt_{when}_03.ipynb", f"HW_1_bob_attempt_{when}_03.ipynb"], {}).values()
    dict_values(['ada', 'bob'])
    """
    heads = {name: match[1] for name in names if (match := ATTEMPT.fullmatch(name))}
    logins = {}
    for name, text in receipts.items():
        said = re.search(r"(?m)^\s*Name:.*\(([^()\n]+)\)\s*$", text)
        if said and name in heads and heads[name].endswith(f"_{said[1]}"):
            logins[heads[name]] = said[1]
    titles = {head[: -len(login) - 1] for head, login in logins.items()}
    for head in set(heads.values()) - logins.keys():
        if title := next((title for title in titles if head.startswith(f"{title}_")), ""):
            logins[head] = head[len(title) + 1 :]
    pieces = [head.split("_") for head in set(heads.values()) - logins.keys()]
    common = 0
    while len(pieces) > 1 and all(len(each) > common + 1 and each[common] == pieces[0][common] for each in pieces):
        common += 1
    for each in pieces:
        logins["_".join(each)] = "_".join(each[common or -1 :])
    return {name: logins[head] for name, head in heads.items()}
