"""From one hand-written master to the notebooks: the executed solution and the student's.

    python -m classroom build            # all notebooks, executing only what changed
    python -m classroom build --check    # has anything drifted?

`masters` reads and checks a master, `directives` fills in what a master leaves to the build, `render` makes the two
notebooks out of it, `execution` runs one and tidies its outputs, `building` ties them together and compares.
"""
