"""From submissions to scores: `python -m course_utils grade`. INSTRUCTORS.md says how it is used and what it promises.

`submissions` finds files; `reading` and `answers` take the sources of answer cells out of them; `plan` and `sources`
say what students' code may see; `sandbox`, with `inside` and `confinement`, runs it; `scoring` compares outside;
`batch` does so for many; `feedback` writes it down.
"""
