"""The options of `build`, `release`, `grade` and `challenge`, with their help. (`--help` doesn't wait for PyTorch.)"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from course_utils.cli.options import Parser, command, positive, whole

BUILD = """\
Make the notebooks from their masters, solutions/NN_name.py: the executed solution in solutions/ (executed again only
where its code changed) and the student notebook in notebooks/."""
BUILD_EXAMPLES = """\
examples:
  python -m classroom build
  python -m classroom build 03 05
  python -m classroom build --check
  python -m classroom build --no-solutions --to some/folder"""

RELEASE = """\
Make the folder that a class gets: student notebooks, the library, what it takes to install and start. It holds no
solutions/, tests/, benchmarks/, no grader and no history; DIR must not exist yet, or be empty.

With --seed-per-student every student gets notebooks of their own, in which the options of each question stand in
another order:
  DIR/course/                        for everybody
  DIR/students/STUDENT/notebooks/    for one student, to be put into a copy of DIR/course
  DIR/variants.json                  for the grader; keep it, and hand out nothing but the two above"""
RELEASE_EXAMPLES = """\
examples:
  python -m classroom release --out handout
  python -m classroom release --notebooks 01,03 --no-solutions --out week-3
  python -m classroom release --no-solutions --seed-per-student roster.csv --out exam"""

GRADE = """\
Grade what a class handed in. Only the sources of answer cells are taken from a notebook; they run in a sandbox
(bubblewrap: no network, nothing of yours to read or write, bounded time and memory) and meet inputs that nobody has
seen. Choices of questions are read without running anything.

SUBMISSIONS is a folder or a .zip, as nbgrader, Moodle, Canvas, Gradescope, Blackboard, GitHub and Google Classroom
leave it; or STUDENT/*.ipynb, or STUDENT.ipynb files side by side. At the end it is said who has several files for one
notebook, what was not read, and whose names could be one person's.

Written are GRADES.csv, a line per question, and beside it
  GRADES-totals.csv    a line per student
  GRADES-class.html    the class at a glance: hardest questions, commonest misconceptions, who needs a word
  GRADES-nbgrader.csv  the columns of nbgrader's own export
  GRADES.json          everything, for programs
  GRADES-feedback/     a page for each student, with nothing hidden on it
  GRADES.graded.jsonl  what is graded already: after an interruption, or when a late file comes in, the same command
                       goes on from there; GRADES.seed keeps the seed of the inputs"""
GRADE_EXAMPLES = """\
examples:
  python -m classroom grade submitted --out grades.csv
  python -m classroom grade moodle.zip --out week3/grades.csv --workers 8
  python -m classroom grade submitted --out grades.csv --scores canvas.csv "Week 3"
  python -m classroom grade submitted --out grades.csv --scheduler tcp://head-node:8786"""

CHALLENGE = """\
Who makes the best images with 1, 2 and 4 evaluations of a network? Judge what a class handed in, and print a board.

A submission is a folder DIR/NAME/ (or DIR itself is one) with
  model.safetensors  a diffusion model of this course, as `save` and `python -m course_utils train ddpm` write it
  sampler.py         a function sample(denoise, schedule, noise, y, evaluations) that returns images like noise[0]

denoise(x_t, t, y) is the network as a denoiser; a call, for all images at once, is one evaluation. noise is
(evaluations, b, c, h, w): noise[0] to begin with, the others for samplers that add some on the way. Each image must be
made of its own noise and label alone. The sampler runs in the sandbox, where neither weights nor images nor the judge
are; the network is called out here, where nobody can call it without being counted."""
CHALLENGE_EXAMPLES = """\
a sampler.py to begin with:
  from course_utils.sampling import ddim, last

  def sample(denoise, schedule, noise, y, evaluations):
      return last(ddim(denoise, schedule, noise[0], evaluations, y=y))

examples:
  python -m classroom challenge submitted
  python -m classroom challenge submitted/ada --samples 500
  python -m classroom challenge submitted --csv board.csv --judge checkpoints/our-judge"""


def add_build(commands: argparse._SubParsersAction) -> Parser:
    """The command `build`."""
    parser = command(commands, "build", "make the notebooks from solutions/NN_name.py", BUILD, BUILD_EXAMPLES)
    add = parser.add_argument
    add("numbers", nargs="*", metavar="NN", help="notebook numbers; all when none is given")
    add("--check", action="store_true", help="write nothing; exit 1 if a notebook has drifted")
    add("--no-solutions", action="store_true", help="leave the folded solutions out (a graded class)")
    add("--to", type=Path, metavar="FOLDER", help="student notebooks go there; nothing is executed")
    add("--no-execute", action="store_true", help="leave solved notebooks alone whose code changed")
    add("--fresh", action="store_true", help="execute solved notebooks even if their code is the same")
    add("--measure", action="store_true", help="write down how long executing took, and how much memory")
    add("--effort", choices=("smoke", "cpu", "gpu"), default="cpu", help="for executing (cpu)")
    add("--data", default="fashion-mnist", help="data set for executing (fashion-mnist)")
    return parser


def add_release(commands: argparse._SubParsersAction) -> Parser:
    """The command `release`."""
    parser = command(commands, "release", "make the folder that a class gets", RELEASE, RELEASE_EXAMPLES)
    add = parser.add_argument
    add("--notebooks", metavar="NN,NN", help="their numbers, with commas between them (all)")
    add("--no-solutions", action="store_true", help="leave the folded solutions out (a graded class)")
    add("--seed-per-student", type=Path, metavar="ROSTER.csv", help="notebooks for each student of a class list, as "
        "Moodle, Canvas, Gradescope, Blackboard, GitHub or Google Classroom export it, or with a column 'student' "
        "of the names under which they hand in")  # fmt: skip
    add("--column", metavar="TITLE", help="with --seed-per-student: the column of these names, where it is another one "
        "than is taken by itself; several with + between them")  # fmt: skip
    add("--seed", type=whole(0), metavar="S", help="with --seed-per-student: another seed, other orders (0)")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to make")
    return parser


def add_grade(commands: argparse._SubParsersAction) -> Parser:
    """The command `grade`."""
    parser = command(commands, "grade", "grade what a class handed in", GRADE, GRADE_EXAMPLES)
    add = parser.add_argument
    add("submissions", type=Path, metavar="SUBMISSIONS", help="a folder or a .zip of notebooks")
    add("--out", type=Path, default=Path("grades.csv"), metavar="GRADES.csv", help="where to (grades.csv)")
    add("--seed", type=whole(0), metavar="S", help="of the inputs (one that nobody can guess; kept in GRADES.seed)")
    add("--seconds", type=positive, default=20.0, metavar="T", help="time for each answer (20)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=whole(1), default=os.cpu_count() or 1, metavar="N",
                       help="processes (all cores)")  # fmt: skip
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster whose workers have this course and "
                       "bubblewrap installed, tcp://host:port")  # fmt: skip
    add("--variants", type=Path, metavar="FILE", help="variants.json of `release --seed-per-student`: who was shown "
        "the options of questions in which order")  # fmt: skip
    add("--scores", nargs="+", action="append", default=[], metavar=("FILE", "COLUMN"), help="a gradebook or class "
        "list as Canvas, Moodle, Blackboard or Gradescope exported it: GRADES-for-FILE is to be imported there. "
        "COLUMN: where the points of all notebooks go (columns that name a notebook, or the only one)")  # fmt: skip
    add("--names", action="store_true", help="say on the page about the class who needs a word; otherwise no name is "
        "on it")  # fmt: skip
    add("--roster", type=Path, metavar="ROSTER.csv", help="a class list, as `release` reads them: who has handed in "
        "nothing is said at the end")  # fmt: skip
    add("--column", metavar="TITLE", help="with --roster: the column of names, as for `release`")
    add("--unsafe", action="store_true", help="run answers without a sandbox: for notebooks of your own only")
    return parser


def add_challenge(commands: argparse._SubParsersAction) -> Parser:
    """The command `challenge`."""
    short = "judge samplers with few evaluations, and print a board"
    parser = command(commands, "challenge", short, CHALLENGE, CHALLENGE_EXAMPLES)
    add = parser.add_argument
    add("submissions", type=Path, metavar="DIR", help="a folder of submissions, or one submission")
    add("--csv", type=Path, metavar="FILE", help="write the board there too")
    add("--seed", type=whole(0), metavar="S", help="of noise and labels, a long one that nobody can guess (a new one "
        "each time, which is said)")  # fmt: skip
    add("--judge", type=Path, metavar="CLASSIFIER", help="a classifier of your own that nobody has seen, as `python -m "
        "course_utils train classifier` leaves it: its folder or file (the one that no release holds)")  # fmt: skip
    add("--data", default="fashion-mnist", metavar="SET", help="what the models were trained on (fashion-mnist)")
    add("--samples", type=whole(100), default=2000, metavar="N", help="images in each round (2000)")
    add("--seconds", type=positive, default=120.0, metavar="T", help="time for the network in each round (120)")
    add("--reference", action="store_true", help="keep these rows, by their names, as rows to beat from now on")
    add("--unsafe", action="store_true", help="run samplers without a sandbox: for your own only")
    return parser
