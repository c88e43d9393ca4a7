"""What a notebook takes beyond Python, made plain Python by IPython's own rules: magics, shell lines, prompts.

IPython reads a cell anew for each magic in it; here it is read once from left to right, so that no cell takes long.
What would run outside of Python does nothing where answers run, and so becomes nothing: `pass`, an empty list, None.
Lines keep their numbers.
"""

from __future__ import annotations

import ast
import re

# Cell magics that hand the cell to something else than this Python: then it defines nothing.
_FOREIGN = {"!", "bash", "bigquery", "cmd", "cython", "file", "html", "javascript", "js", "latex", "markdown", "perl"}
_FOREIGN |= {"pypy", "python", "python2", "python3", "r", "ruby", "script", "sh", "shell", "sql", "svg", "sx", "system"}
_FOREIGN |= {"writefile"}
_CELL_MAGIC = re.compile(r"%%(!|\w+)(?!\w*\?)")

_CLASSIC = re.compile(r"[ \t]*(>>>|\.\.\.)( |$)")
_NUMBERED = re.compile(r"[ \t]*(In )?\[\d+\]: |[ \t]*\.{3,}: ?")
_FIRST_PROMPT = re.compile(r"[ \t]*(>>>( |$)|(In )?\[\d+\]: )")

_COMMAND = re.compile(r"([ \t]*)((?:[%!?,;/])(?:[^\n]*\\\n)*[^\n]*)")
_ASSIGNED = re.compile(r"[ \t]*([%!](?:[^\n]*\\\n)*[^\n]*)")
_TOKEN = re.compile(
    r'''(?P<text>"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"""|\Z) | \'\'\'[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*(?:\'\'\'|\Z)
      | "[^"\\\n]*(?:\\.[^"\\\n]*)*"? | '[^'\\\n]*(?:\\.[^'\\\n]*)*'? | \#[^\n]* | \\\n)
    | (?P<open>[(\[{]) | (?P<close>[)\]}]) | (?P<end>\n) | [=!<>:+\-*/%&|^@]= | (?P<give>=) | [\w \t]+ | .''',
    re.VERBOSE | re.DOTALL,
)
_INVISIBLE = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\u00ad]")
_BLANK = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def as_python(text: str) -> str:
    """A cell as Python would have it, line for line.

    >>> as_python("!pip install \\\\\\n  torch\\nfiles = !ls\\n%time x = 1")
    'pass\\n\\nfiles = []\\nx = 1'
    """
    lines = text.split("\n")
    start = _body(lines)
    return "\n" * start + _without_commands("\n".join(lines[start:]))


def visible(text: str) -> str:
    """Without characters that a web page slips in and nobody sees: blanks of other widths, and those of none."""
    return _BLANK.sub(" ", _INVISIBLE.sub("", text))


def _body(lines: list[str]) -> int:
    """Take prompts and the indentation of the whole cell off its lines, and say where behind cell magics it begins."""
    start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        _undress(lines, start)
        magic = _CELL_MAGIC.match(lines[start])
        if magic is None:
            return start
        if magic[1].lower() in _FOREIGN:
            lines[start:] = [""] * (len(lines) - start)
        start += 1
    return start


def _undress(lines: list[str], start: int) -> None:
    if _FIRST_PROMPT.match(lines[start]):
        prompt = _CLASSIC if _CLASSIC.match(lines[start]) else _NUMBERED
        lines[start:] = [prompt.sub("", line, count=1) for line in lines[start:]]
    indent = re.match(r"[ \t]*", lines[start])[0]
    if indent:
        lines[start:] = [line.removeprefix(indent) for line in lines[start:]]


def _without_commands(text: str) -> str:
    found, place = [], 0
    while place < len(text):
        command = _COMMAND.match(text, place)
        if command:
            found.append(_kept(command[1] + _translated(command[2]), command[2]))
            place = command.end()
        else:
            statement, place = _statement(text, place)
            found.append(statement)
        if text[place : place + 1] == "\n":
            found.append("\n")
            place += 1
    return "".join(found)


def _statement(text: str, start: int) -> tuple[str, int]:
    """A statement that begins here, its magic replaced, and where its line ends."""
    depth, place, kind, given = 0, start, "", False
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token["end"] and depth <= 0:
            break
        place, kind = token.end(), token.lastgroup if token[0].strip(" \t") else kind
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["give"] and depth == 0 and not given:
            given = True
            command = _ASSIGNED.match(text, place)
            if command:
                value = _translated(command[1], value=True)
                return _kept(f"{text[start:place]} {value}", command[1]), command.end()
    whole = text[start:place]
    if kind != "text" and whole.rstrip().endswith("?"):  # a question to the notebook: f?
        return _kept(re.match(r"[ \t]*", whole)[0] + "pass", whole), place
    return whole, place


def _kept(new: str, old: str) -> str:
    """The new text with as many lines as the old."""
    return new + "\n" * (old.count("\n") - new.count("\n"))


_SETTING = re.compile(r"(?:set_)?env\s+(\w+)(?:=|\s)\s*([^{}$]*)")


def _translated(command: str, value: bool = False) -> str:
    """What a command does to the names of a notebook. value: what it gives, where it is assigned."""
    line = command.replace("\\\n", "")
    sign, words = line[0], line[1:].split()
    nothing = "None" if value else "pass"
    if sign == "!":
        return "[]" if value else "pass"
    if sign == "%" and len(words) > 1 and words[0] == "time":  # runs its line in the notebook
        timed = line[1:].strip().removeprefix("time").strip()
        return timed if _is_python(timed, "eval" if value else "exec") else nothing
    if sign == "%" and words and words[0] in ("env", "set_env") and (pair := _SETTING.fullmatch(line[1:].strip())):
        return f"__import__('os').environ[{pair[1]!r}] = {pair[2]!r}"
    if sign in ",;/" and words and re.fullmatch(r"[^\W\d][\w.]*", words[0]):
        given = [" ".join(words[1:])] if sign == ";" else words[1:]
        call = f"{words[0]}({', '.join(given if sign == '/' else map(repr, given))})"
        return call if _is_python(call, "eval") else nothing
    return nothing


def _is_python(line: str, mode: str) -> bool:
    try:
        ast.parse(line, mode=mode)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
