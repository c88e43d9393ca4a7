"""What comes out of a grading, as files: `write_all` writes them beside the table that the teacher asked for.

`tables` for spreadsheets and programs, `nbgrader_csv` for gradebooks; `feedback`, a page for each student; `overview`
counts what a class has understood, `class_page` shows it, with numbers from `statistics`. `markup` is what pages share.
"""

from .write import write_all

__all__ = ["write_all"]
