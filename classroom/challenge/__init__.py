"""A challenge for a class: who makes the best images with 1, 2 and 4 evaluations? `python -m classroom challenge`.

INSTRUCTORS.md says how it is used and what it promises. `entries` reads what was handed in, `rounds` plays it: the
network stays out here and counts its evaluations, the sampler runs in the sandbox (`samplers`). `judge` measures the
images, and `board` writes it all down. None of it is in what `release` hands out.
"""
