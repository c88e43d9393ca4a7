"""What stands behind `python -m classroom release`: the folder that a class gets, without what it should not have.

`variants` makes a notebook for each student, `folders` names a folder for each, `bundle` puts it all together.
None of it is part of the bundle.
"""
