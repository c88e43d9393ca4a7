"""From submissions to scores: `python -m classroom grade`. INSTRUCTORS.md says how it is used and what it promises.

`handed_in` finds files and takes the sources of answer cells out of them; `plan`, with `sources`, says what is asked
and what students' code may see; `sandbox` runs it; `scoring` compares outside; `batch` does so for many; `reports`
writes it down, and `scores` for learning platforms.
"""
