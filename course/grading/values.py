"""What may cross between the checks and a student's process: data, never an object with a will of its own.

Numbers, text, containers, arrays, tensors, dataclasses of course.core, and functions, which stay where they
are and are called there. No pickle: an object whose `__eq__` always agrees remains on the side that made
it.
"""

import base64
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from math import prod
from typing import Any

MAX_ITEMS = 100_000  # of an iterator, which travels as a list
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64")


def encode(value: Any, hand_over: Callable[[Callable[..., Any]], dict[str, int]]) -> Any:
    """JSON for a value; `hand_over` says it for a function. Raises TypeError for what cannot travel."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return {"int": int(value)}
    if isinstance(value, float):
        return {"float": repr(float(value))}
    if isinstance(value, list | tuple | Iterator):
        tag = "tuple" if isinstance(value, tuple) else "list"
        return {tag: [encode(item, hand_over) for item in islice(value, MAX_ITEMS)]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, hand_over), encode(v, hand_over)] for k, v in value.items()]}
    return _encode_object(value, hand_over)


def _encode_object(value: Any, hand_over: Callable[[Callable[..., Any]], dict[str, int]]) -> Any:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch and isinstance(value, torch.Tensor):
        return {"tensor": _encode_array(value.detach().cpu().numpy())}
    if numpy and isinstance(value, numpy.ndarray):
        return {"array": _encode_array(value)}
    if numpy and isinstance(value, numpy.generic):
        return encode(value.item(), hand_over)
    module, name = type(value).__module__, type(value).__name__
    if is_dataclass(type(value)) and module.startswith("course.core."):
        names = [field.name for field in fields(value) if field.init]
        content = {name: encode(getattr(value, name), hand_over) for name in names}
        return {"dataclass": {"module": module, "name": name, "fields": content}}
    if callable(value) and not isinstance(value, type):
        return hand_over(value)
    raise TypeError(f"a {name} cannot be handed over: numbers, text, containers, tensors, functions can")


def _encode_array(array: Any) -> dict[str, Any]:
    if array.dtype.name not in DTYPES:
        raise TypeError(f"an array of {array.dtype} cannot be handed over: arrays of {DTYPES} can")
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def decode(value: Any, take: Callable[[str, int], Any]) -> Any:
    """The value of a message; `take` finds a function by tag and number. Malformed ones raise."""
    if value is None or isinstance(value, bool | str):
        return value
    [(tag, content)] = value.items()
    if tag == "int":
        return int(content)
    if tag == "float":
        return float(content)
    if tag == "list":
        return [decode(item, take) for item in content]
    if tag == "tuple":
        return tuple(decode(item, take) for item in content)
    if tag == "dict":
        return {decode(key, take): decode(item, take) for key, item in content}
    if tag == "array":
        return _decode_array(content)
    if tag == "tensor":
        return importlib.import_module("torch").from_numpy(_decode_array(content))
    if tag == "dataclass":
        content = dict(content)
        made = _dataclass(content["module"], content["name"])
        return made(**{name: decode(item, take) for name, item in content["fields"].items()})
    return take(tag, int(content))


def _decode_array(content: Mapping[str, Any]) -> Any:
    dtype, shape, data = content["dtype"], content["shape"], base64.b64decode(content["data"], validate=True)
    if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of {dtype!r} and {shape!r}")
    numpy = importlib.import_module("numpy")
    if prod(shape) * numpy.dtype(dtype).itemsize != len(data):
        raise ValueError("an array whose size is not that of its data")
    return numpy.frombuffer(data, dtype).reshape(shape).copy()


def _dataclass(module: str, name: str) -> Any:
    if not module.startswith("course.core."):
        raise ValueError(f"{module} is not in course.core")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and is_dataclass(found) and found.__module__ == module):
        raise ValueError(f"{name} is no dataclass of {module}")
    return found
