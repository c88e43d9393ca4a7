"""What a quiz forbids is all that answers it: no public function of the library does so by another road."""

from __future__ import annotations

from dataclasses import replace

import jaxtyping
import pytest
import searching

from classroom.quizzes import Quiz, declarations

QUIZZES = {id: found for id, found in declarations.registered().items() if isinstance(found, Quiz) and not found.probe}


@pytest.fixture(autouse=True)
def unchecked():
    """The library as students have it: each of ten thousand wrong calls would else be explained at length."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.parametrize("id", QUIZZES)
def test_no_other_function_of_the_library_answers_it(id):
    assert list(map(str, searching.roads(QUIZZES[id]))) == []


@pytest.mark.parametrize(
    ("id", "by"),
    [
        pytest.param("forward/add-noise", "course_utils.diffusion.Schedule.add_noise", marks=pytest.mark.slow),
        ("vae/kl", "course_utils.models.vae.kl_to_standard_normal"),
    ],
)
def test_what_is_not_forbidden_is_found(id, by):
    def reference(*given, **named):  # another function, so that the library's own isn't forbidden
        return QUIZZES[id].reference(*given, **named)

    open_to_all = replace(QUIZZES[id], reference=reference, library=())
    assert by in {road.function for road in searching.roads(open_to_all)}
