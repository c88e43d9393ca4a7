"""What stands behind `python -m classroom release`: the folder that a class gets, without what it should not have.

`roster` reads the list of students, `variants` makes a notebook for each of them, `bundle` puts the folder together.
None of it is part of the bundle.
"""
