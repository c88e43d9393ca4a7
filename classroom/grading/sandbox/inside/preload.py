"""What the warm process does before there is any answer: import the library, run the notebooks' preludes.

The library comes as compiled code and is imported from memory, so that there is no source to be read anywhere.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import marshal
import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from .protocol import in_one_line

Notebooks = Mapping[str, types.ModuleType]


def preload(settings: Mapping[str, Any]) -> Notebooks:
    """Import the library, run the preludes. Gives a module for each of them, by number of the notebook."""
    sys.path[:] = settings["path"]
    if settings["modules"]:
        import torch

        torch.set_num_threads(1)  # before anything is computed: threads do not survive a fork
    import_from_memory(settings)
    if settings["modules"]:
        compile_nothing()
        warm_up()
    notebooks = {}
    for number, code in settings["preludes"].items():
        notebooks[number] = sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            exec(marshal.loads(code), vars(notebooks[number]))
        except Exception as error:
            line = error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else "?"
            raise RuntimeError(f"line {line} of the prelude of notebook {number}: {in_one_line(error)}") from None
    return notebooks


def import_from_memory(settings: Mapping[str, Any]) -> None:
    """Import all modules of the course that there are; afterwards they are nowhere but where they were imported to."""
    finder = _FromMemory(settings["modules"], settings["library"])
    sys.meta_path.insert(0, finder)
    for name in list(finder.codes):
        importlib.import_module(name)
    finder.codes.clear()


def warm_up() -> None:
    """Call a function as a quiz does: what happens on first use only is then done before any fork."""
    import torch

    from classroom.quizzes import declarations, wire

    case = declarations.Case({"x": torch.zeros(2)})
    wire.answer_wire(lambda x: x, wire.request_wire(case, 0))
    torch.zeros(2, device="meta") + 1


def compile_nothing() -> None:
    """In here are no compiler and no time for one: what an answer wants compiled is run as it stands."""
    import torch

    torch.compile = _as_it_is
    torch.nn.Module.compile = lambda self, *args, **options: None
    torch.jit.script, torch.jit.trace = map(_if_it_can, (torch.jit.script, torch.jit.trace))
    # Optimizers, and what PyTorch computes without numbers, ask its compiler to leave them alone: two seconds of
    # imports in every question. Who really wants something of it still gets it.
    stand_in = types.ModuleType("torch._dynamo")
    stand_in.__path__ = [os.path.join(os.path.dirname(torch.__file__), "_dynamo")]
    stand_in.disable, stand_in.graph_break = _as_it_is, lambda *words: None
    stand_in.__getattr__ = _of_the_real_one
    sys.modules["torch._dynamo"] = torch._dynamo = stand_in


def _of_the_real_one(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    del sys.modules["torch._dynamo"], sys.modules["torch"]._dynamo
    return getattr(importlib.import_module("torch._dynamo"), name)


def _as_it_is(model: Any = None, *more: Any, **options: Any) -> Any:
    """`torch.compile`, which is a function, a decorator, and with options a maker of decorators."""
    return (lambda model: model) if model is None else model


def _if_it_can(compiler: Callable) -> Callable:
    @functools.wraps(compiler)
    def compiled(model: Any, *args: Any, **options: Any) -> Any:
        try:
            return compiler(model, *args, **options)
        except Exception:
            return model

    return compiled


class _FromMemory(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from compiled code: they have no files and give no source."""

    def __init__(self, codes: Mapping[str, bytes], library: str) -> None:
        self.codes = dict(codes)
        self.library = library
        self.packages = {name.rpartition(".")[0] for name in codes}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self.codes:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, is_package=name in self.packages)
        place = f"{self.library}/{name.replace('.', '/')}"
        spec.origin = f"{place}/__init__.py" if name in self.packages else f"{place}.py"
        spec.has_location = True
        if name in self.packages:
            spec.submodule_search_locations = [place]
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        exec(marshal.loads(self.codes.pop(module.__name__)), vars(module))
