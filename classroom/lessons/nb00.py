"""The quizzes of notebook 00, "Start here": three small ones, to learn how quizzes work."""

import torch

from course_utils.arrays import to_unit

from ..quizzes.declarations import Case, Misconception, Option, concept, quiz


def unit_cases(rng):
    """Images with black, grey and white in them, one and several, grey and colour, non-square, in both precisions."""
    corners = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 0.25]).reshape(1, 1, 2, 3)
    draw = torch.rand(3, 3, 4, 5, generator=rng) * 2 - 1
    fine = torch.rand(2, 1, 5, 3, generator=rng, dtype=torch.float64) * 2 - 1
    return [
        Case({"x": corners}, gradients=["x"], label="one image with pixels −1, −½, 0, ½, 1, ¼"),
        Case({"x": draw}, gradients=["x"], label="three colour images"),
        Case({"x": fine}, gradients=["x"], label="two images in double precision"),
    ]


quiz(
    "start/to-unit",
    points=1,
    minutes=2,
    title="From [−1, 1] to [0, 1]",
    reference=to_unit,
    cases=unit_cases,
    misconceptions=[
        Misconception(
            "halved first, then shifted by one",
            lambda x: x / 2 + 1,
            "White (1) becomes 1.5 and black (−1) becomes 0.5: shift first, then halve, or shift by a half.",
        ),
        Misconception(
            "precedence: only the 1 was halved",
            lambda x: x + 1 / 2,
            "That is x + 0.5, and so is `x + 1 / 2`, for Python divides before it adds. Put brackets around the sum: "
            "all of it must be halved.",
        ),
        Misconception(
            "shifted but not halved",
            lambda x: x + 1,
            "The range is now [0, 2]. Two units of width must become one.",
        ),
        Misconception(
            "grey levels from 0 to 255",
            lambda x: (x + 1) * 127.5,
            "These are grey levels. Probabilities end at 1.",
        ),
        Misconception(
            "negative values cut off",
            lambda x: x.clamp(0, 1),
            "Everything darker than middle grey became black. The whole range should be moved, nothing cut off.",
        ),
    ],
    hints=[
        "Where must −1 go, and where 1? Two points determine a straight line.",
        "Add something, then multiply by something. After adding, black should be 0.",
        "`x + 1` lies in [0, 2]. One operation is missing, and the sum needs brackets.",
        "`return (x + 1) / 2`",
    ],
    passed="A straight line through two points. From here on it is `course_utils.arrays.to_unit`.",
    explanation=(
        "A straight line through (−1, 0) and (1, 1). The course keeps images in $[-1, 1]$, because noise is centred on "
        "zero, and moves them to $[0, 1]$ only where a pixel is read as a probability. From here on it is "
        "`course_utils.arrays.to_unit`."
    ),
)

concept(
    "start/perfect-but",
    title="Perfect, and yet",
    question="""
    Every image that the exact sampler makes is flawless. What keeps it from being a good generative model?
    """,
    options={
        "a": Option(
            "It takes too few steps; with more of them its images would be new ones.",
            "Try it: raise `T`. The copies stay copies. At every noise level the best guess is a mixture of training "
            "images, and as the noise goes to zero one image takes all the weight.",
        ),
        "b": Option(
            "It has nothing new to give: it knows those images and no others.",
            "Right: its distribution is the training set itself, each image with equal probability. What we want is "
            "the distribution that the training set was *drawn from*.",
            right=True,
        ),
        "c": Option(
            "It leaves things out: some classes are never drawn, others too often.",
            "It covers all of them: each training image is drawn with equal probability. Coverage of the data it has "
            "seen is perfect; the rest of the world is missing.",
        ),
        "d": Option(
            "It takes no orders: without labels nobody can ask it for a class.",
            "The explorer above asked for classes: restrict the average to the images of one class. Labels help, but "
            "they are not what is missing.",
        ),
    },
)

concept(
    "start/who-guesses-better",
    title="Who guesses better?",
    question="""
    Now give a noisy *test* image, seen by neither, to the exact denoiser of all training images and to the trained
    network. Whose guess of the clean image has the smaller error?
    """,
    options={
        "a": Option(
            "The exact one's, at every level, since Bayes' rule can't be beaten.",
            "It can't be beaten on what it assumes: that the clean image is one of the training images. A test image "
            "is none of them.",
        ),
        "b": Option(
            "The exact one's while noise is weak, and in deep noise nobody's.",
            "With weak noise the exact denoiser answers with the nearest training image, though the right one is "
            "nearly in plain sight.",
        ),
        "c": Option(
            "The network's, unless the noise is so deep that little is seen.",
            "Right: with little noise it can simply clean up what it sees, be it new or not. In deep noise both "
            "can only offer an average of much that could be behind it, and the exact average is hard to beat.",
            right=True,
        ),
        "d": Option(
            "Neither's: both were made to give the same guess, and they do.",
            "The network was *trained* towards the same guess, but only at noisy training images. What it does "
            "elsewhere is its own.",
        ),
    },
)
