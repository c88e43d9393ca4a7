"""Cases and results as bytes, so that answers can run in another process, where nothing can be trusted.

JSON and raw arrays; nothing is pickled.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from .declarations import Case, Fixture
from .raw import DEEPEST, Array, Unsupported, tensors
from .running import NOT_ATTEMPTED, RAISED, RETURNED, Result, Trouble, run_case

LARGEST_JSON = 300_000  # bytes of JSON that are read from a process which nobody trusts: a fifth of a second
MAGIC = b"quiz1\n"
_DATACLASSES = {kind.__name__: kind for kind in (Case, Result, Trouble, Unsupported)}
_TORCH_TYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    + (torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128)
}
_NUMPY_TYPES = ("float64", "int64", "bool", "complex128")


def to_wire(value: Any) -> bytes:
    """Values, cases and results as bytes: a length, JSON, then the arrays one after another. Nothing is pickled.

    >>> from_wire(to_wire((1, 2.5, None, "x", [float("inf")])))
    (1, 2.5, None, 'x', [inf])
    """
    blobs: list[bytes] = []
    text = json.dumps(_pack(value, blobs), allow_nan=False).encode()
    return MAGIC + struct.pack("<Q", len(text)) + text + b"".join(blobs)


def from_wire(data: bytes) -> Any:
    """The value that `to_wire` packed.  Raises ValueError for anything that is not complete and consistent."""
    head = len(MAGIC) + 8
    if len(data) < head or data[: len(MAGIC)] != MAGIC:
        raise ValueError("expected data from to_wire, got something else")
    (length,) = struct.unpack("<Q", data[len(MAGIC) : head])
    if length > LARGEST_JSON:
        raise ValueError(f"expected at most {LARGEST_JSON:,} bytes of JSON from to_wire, got {length:,}")
    try:
        tree = json.loads(data[head : head + length])
        value, end = _unpack(tree, memoryview(data)[head + length :], 0, 0)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(f"expected complete data from to_wire, got damaged ones ({type(error).__name__})") from None
    if head + length + end != len(data):
        raise ValueError("expected data from to_wire, got damaged ones (wrong length)")
    return value


def request_wire(case: Case, index: int, probe: str | None = None, planted: bool = False) -> bytes:
    """What `answer_wire` takes; probe is the name under which the quiz's probe is registered, if it has one.

    planted: `plant` is to run in the answer's place.
    """
    return to_wire({"case": case, "index": index, "probe": probe, "planted": planted})


def answer_wire(answer: Any, request: bytes) -> bytes:
    """Run an answer on one case where it may do no harm: what `request_wire` made comes in, a result goes out."""
    asked = from_wire(request)
    probe = Fixture(asked["probe"]).build() if asked["probe"] else None
    return to_wire(run_case(plant if asked["planted"] else answer, asked["case"], asked["index"], probe))


def plant(*given: Any, **named: Any) -> list:
    """No answer to anything: it changes the tensors that it is handed, and gives them back.

    The grader has it run among an answer's cases and knows what comes of that: where something else is reported, the
    answer's own code has laid hands on what reports.
    """
    found = [each for each in tensors([*given, *named.values()]) if each.is_floating_point()]
    with torch.no_grad():
        return [each.mul_(3).clone() for each in found]


def as_reported(result: Result) -> bytes:
    """A result without where it stopped, in which two processes may differ: what else they report is the same."""
    return to_wire(replace(result, trouble=None, gradient_trouble=None))


def results_from_wire(pieces: Sequence[bytes], count: int) -> list[Result]:
    """The results of `count` cases that came from a process which nobody trusts.

    Raises ValueError unless they are complete, as many as expected, and of the types that `run` gives.
    """
    results = [from_wire(data) for data in pieces]
    if len(results) != count or not all(map(_well_formed, results)):
        raise ValueError(f"expected the results of {count} cases, got something else")
    return results


def _well_formed(result: Any) -> bool:
    if type(result) is not Result or result.status not in (RETURNED, RAISED, NOT_ATTEMPTED):
        return False
    plain = type(result.printed) is str and type(result.after) is dict
    return plain and _is_trouble(result.trouble) and _is_trouble(result.gradient_trouble) and _is_gradients(result)


def _is_trouble(trouble: Any) -> bool:
    if trouble is None:
        return True
    texts = type(trouble) is Trouble and {type(trouble.kind), type(trouble.message), type(trouble.code)} == {str}
    return texts and type(trouble.line) is int and type(trouble.call) is bool


def _is_gradients(result: Result) -> bool:
    if type(result.gradients) is not dict:
        return False
    inner = [v for value in result.gradients.values() for v in (value.values() if type(value) is dict else [value])]
    return all(value is None or type(value) is Array for value in inner)


def _pack(value: Any, blobs: list[bytes]) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"k": "float", "v": repr(value)}
    if kind is list:
        return [_pack(item, blobs) for item in value]
    if kind is tuple:
        return {"k": "tuple", "v": [_pack(item, blobs) for item in value]}
    if kind is dict:
        return {"k": "dict", "v": [[key, _pack(item, blobs)] for key, item in value.items()]}
    if kind is Fixture:
        return {"k": "Fixture", "name": value.name, "settings": _pack(value.settings, blobs)}
    if kind is torch.Tensor:
        plain = value.detach().cpu().contiguous()
        blobs.append(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        return {"k": "tensor", "dtype": str(plain.dtype).removeprefix("torch."), "shape": list(plain.shape)}
    if kind is Array:
        blobs.append(b"" if value.data is None else np.ascontiguousarray(value.data).tobytes())
        stored = None if value.data is None else value.data.dtype.name
        return {"k": "Array", "dtype": value.dtype, "shape": list(value.shape), "device": value.device, "as": stored}
    if kind in _DATACLASSES.values():
        return {"k": kind.__name__, "v": {f.name: _pack(getattr(value, f.name), blobs) for f in fields(kind)}}
    raise TypeError(f"expected tensors, numbers, text, None, cases or results, got {kind.__name__}")


def _unpack(node: Any, blob: memoryview, at: int, depth: int) -> tuple[Any, int]:
    """The value of a JSON node, and how far into the arrays it has read."""
    if depth > 2 * DEEPEST + 20:
        raise ValueError("too deep")
    if isinstance(node, list):
        items = []
        for item in node:
            value, at = _unpack(item, blob, at, depth + 1)
            items.append(value)
        return items, at
    if not isinstance(node, dict):
        return node, at
    kind = node["k"]
    if kind == "float":
        return float(node["v"]), at
    if kind == "tuple":
        items, at = _unpack(list(node["v"]), blob, at, depth + 1)
        return tuple(items), at
    if kind == "dict":
        keys = [str(key) for key, _ in node["v"]]
        items, at = _unpack([item for _, item in node["v"]], blob, at, depth + 1)
        return dict(zip(keys, items)), at
    if kind == "Fixture":
        settings, at = _unpack(node["settings"], blob, at, depth + 1)
        return Fixture(node["name"], **settings), at
    if kind in ("tensor", "Array"):
        return _unpack_array(node, blob, at)
    values = {}
    for name, item in node["v"].items():
        values[name], at = _unpack(item, blob, at, depth + 1)
    return _DATACLASSES[kind](**values), at


def _unpack_array(node: dict, blob: memoryview, at: int) -> tuple[Any, int]:
    shape = tuple(node["shape"])
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("shape")
    if node["k"] == "tensor":
        dtype = _TORCH_TYPES[node["dtype"]]
        raw, end = _take(blob, at, math.prod(shape) * dtype.itemsize)
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.reshape(shape), end
    data, end = None, at
    if node["as"] is not None:
        if node["as"] not in _NUMPY_TYPES:
            raise ValueError("dtype")
        numpy_type = np.dtype(node["as"])
        raw, end = _take(blob, at, math.prod(shape) * numpy_type.itemsize)
        data = np.frombuffer(raw, dtype=numpy_type).reshape(shape)
    return Array(str(node["dtype"]), shape, str(node["device"]), data), end


def _take(blob: memoryview, at: int, size: int) -> tuple[bytearray, int]:
    if at + size > len(blob):
        raise ValueError("too short")
    return bytearray(blob[at : at + size]), at + size
