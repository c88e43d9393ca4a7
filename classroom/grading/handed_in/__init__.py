"""What students handed in: `find` it, `read` it to cells, `take` the answers out. Nothing of it is ever run here.

`places` lists the files, `platforms` and `titles` read their names, `layout` says whose they are, `people` who is who.
`python` is the one reader of a cell's code, `magics` knows what notebooks allow beyond it, `names` what a statement
reads and changes, and `program` what of the notebook an answer needs; `handed_out` says what is asked, and how the
notebook looked at first.
"""
