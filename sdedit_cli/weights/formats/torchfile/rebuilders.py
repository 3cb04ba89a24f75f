"""What the names in a pickle may mean: a table of our own rebuilders, inert placeholders, and refusals.

A pickle is a program whose only instruments are the callables that it names. Here no name is ever looked up in a
module: a name is in `REBUILDERS`, and then our function of that row is what it means; or it belongs to the standard
library or to a known gadget, and the file is refused; or it is a leftover of training (a Lightning callback, an
optimizer, a config object), and objects of it become placeholders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import cast

import torch

from ....errors import UnsafeFileError
from .budget import Budget
from .globals import PYTHON_2, TORCH_DTYPES, may_run_code
from .values import (
    NUMPY_DTYPES,
    ArrayRef,
    BadPickle,
    Global,
    NumpyDtype,
    Placeholder,
    Storage,
    TensorRef,
    as_dict,
    as_sequence,
    integers,
    short,
    tensor_ref,
)

# What is done with a name takes time by its characters and its parts; those of real classes have 20 parts at most.
NAME_LIMIT = 512
PART_LIMIT = 32

Rebuilder = Callable[[Budget, tuple[object, ...]], object]


def resolve_global(module: str, name: str) -> object:
    """What a name in a pickle stands for: a torch dtype, or a Global. Raises UnsafeFileError for what runs code."""
    if len(module) + len(name) > NAME_LIMIT or module.count(".") + name.count(".") > PART_LIMIT:
        raise BadPickle(
            f"a name of more than {NAME_LIMIT} characters or {PART_LIMIT} parts: {short(module)} {short(name)}"
        )
    return _resolved(module, name)


@lru_cache(maxsize=1024)  # a file names few things, each of them often
def _resolved(module: str, name: str) -> object:
    found = Global(PYTHON_2.get(module, module), name)
    if found.dotted in TORCH_DTYPES:
        return TORCH_DTYPES[found.dotted]
    if found.dotted not in REBUILDERS and may_run_code(found):
        raise UnsafeFileError(
            f"asks for {short(found.dotted)}, which could run code; nothing was run. "
            "Get the weights as .safetensors, or from someone you trust"
        )
    return found


def call(budget: Budget, target: object, args: object) -> object:
    """What calling `target` gives: our rebuilder's value, or a placeholder."""
    if not isinstance(args, tuple):
        raise BadPickle(f"a call with {short(args)} for arguments")
    arguments = cast("tuple[object, ...]", args)
    budget.spend(len(arguments))
    if isinstance(target, Placeholder):
        return Placeholder(target.of, arguments)
    if not isinstance(target, Global):
        raise BadPickle(f"a call of {short(target)}, which is no function")
    rebuilder = REBUILDERS.get(target.dotted)
    return rebuilder(budget, arguments) if rebuilder else Placeholder(target, arguments)


def build(target: object, state: object) -> None:
    """Give an object its state, as far as it is of any use."""
    if isinstance(target, Placeholder):
        target.state = state
    elif isinstance(target, NumpyDtype):
        target.text = _with_order(target.text, state)
    elif isinstance(target, ArrayRef):
        _fill_array(target, state)
    elif isinstance(target, Global):
        raise UnsafeFileError(f"tries to change {short(target.dotted)}; nothing was run")
    elif not isinstance(target, (dict, TensorRef)):  # a dict's attributes (_metadata) and a parameter's say nothing
        raise BadPickle(f"state for {short(target)}")


def _tensor(_: Budget, args: tuple[object, ...], problem: str = "") -> object:
    storage, offset, size, stride = _first(args, 4)
    if not isinstance(storage, Storage):
        return Placeholder(Global("torch", "Tensor"), args)
    return tensor_ref(storage, offset, size, stride, storage.dtype, problem)


def _quantised(budget: Budget, args: tuple[object, ...]) -> object:
    return _tensor(budget, args, "is quantised: save it after dequantize()")


def _tensor_v3(_: Budget, args: tuple[object, ...]) -> object:
    storage, offset, size, stride, _grad, _hooks, dtype = _first(args, 7)
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        return Placeholder(Global("torch", "Tensor"), args)
    return tensor_ref(storage, offset, size, stride, dtype)


def _first_argument(_: Budget, args: tuple[object, ...]) -> object:
    return _first(args, 1)[0]


def _device_array(_: Budget, args: tuple[object, ...]) -> object:
    """A tensor of a device such as a TPU, kept as a numpy array: bfloat16 as float32."""
    array, dtype = _first(args, 2)
    if not isinstance(array, ArrayRef) or not isinstance(dtype, torch.dtype):
        return Placeholder(Global("torch", "Tensor"), args)
    if NUMPY_DTYPES.get(array.number, dtype).itemsize < dtype.itemsize:
        raise BadPickle(f"an array of {short(array.number)} for a tensor of {dtype}")
    return replace(array, stands_for=dtype)


def _from_type(budget: Budget, args: tuple[object, ...]) -> object:
    function, _kind, arguments = _first(args, 3)
    # One level only: a chain of these would be a recursion that the file controls.
    if isinstance(function, Global) and function.dotted in _TENSOR_NAMES:
        return call(budget, function, arguments)
    return Placeholder(Global("torch", "Tensor"), args)


def _reconstructed(_: Budget, args: tuple[object, ...]) -> object:
    """Objects of protocol 0 and 1: class, base, base's state."""
    of = _first(args, 1)[0]
    return Placeholder(of if isinstance(of, Global) else Global("builtins", "object"))


def _dict(_: Budget, args: tuple[object, ...]) -> object:
    if any(as_sequence(arg) or as_dict(arg) for arg in args):
        return Placeholder(Global("collections", "OrderedDict"), args)
    return {}


def _encode(budget: Budget, args: tuple[object, ...]) -> object:
    text, encoding = _first(args, 2)
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise BadPickle("bytes in another encoding than latin1")
    budget.copies(len(text))
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise BadPickle("bytes that are not latin1") from None


def _numpy_dtype(_: Budget, args: tuple[object, ...]) -> object:
    text = _first(args, 1)[0]
    return NumpyDtype(text[:8] if isinstance(text, str) else "O")


def _numpy_scalar(_: Budget, args: tuple[object, ...]) -> object:
    dtype, data = (*args[:2], None, None)[:2]
    if not isinstance(dtype, NumpyDtype) or not isinstance(data, bytes):
        return Placeholder(Global("numpy", "generic"), args)
    return ArrayRef(dtype.text, (), False, data, scalar=True)


def _numpy_array(_budget: Budget, _args: tuple[object, ...]) -> object:
    return ArrayRef()


def _numpy_buffer(_: Budget, args: tuple[object, ...]) -> object:
    data, dtype, shape, order = _first(args, 4)
    array = ArrayRef()
    _fill_array(array, (1, shape, dtype, order == "F", data))
    return array


def _with_order(text: str, state: object) -> str:
    order = (*(as_sequence(state) or ())[:2], None, None)[1]
    return f"{order}{text.lstrip('<>|=')}" if order in ("<", ">", "|", "=") else text


def _fill_array(array: ArrayRef, state: object) -> None:
    fields = as_sequence(state) or ()
    if len(fields) != 5 or not isinstance(fields[2], NumpyDtype) or not isinstance(fields[4], bytes):
        return  # an array of objects: of no use here, and left empty
    array.shape, array.code = integers(fields[1]), fields[2].text
    array.fortran, array.data = bool(fields[3]), fields[4]


def _first(args: tuple[object, ...], count: int) -> tuple[object, ...]:
    if len(args) < count:
        raise BadPickle(f"a call with {len(args)} arguments instead of {count}")
    return args[:count]


_TENSOR_NAMES: Mapping[str, Rebuilder] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _first_argument,
    "torch._utils._rebuild_parameter_with_state": _first_argument,
}
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")

REBUILDERS: Mapping[str, Rebuilder] = {
    **_TENSOR_NAMES,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_from_type_v2": _from_type,
    # The tensor has the dtype that is said beside it.
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first_argument,
    "torch._utils._rebuild_device_tensor_from_numpy": _device_array,
    "torch._utils._rebuild_xla_tensor": _device_array,
    "torch.Size": _first_argument,  # a tuple; it is checked where it becomes the shape of something
    "copyreg._reconstructor": _reconstructed,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _dict,
    "torch._utils._rebuild_qtensor": _quantised,
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_dtype,
    **{f"{module}.scalar": _numpy_scalar for module in _ARRAY_MODULES},
    **{f"{module}._reconstruct": _numpy_array for module in _ARRAY_MODULES},
    "numpy.core.numeric._frombuffer": _numpy_buffer,
    "numpy._core.numeric._frombuffer": _numpy_buffer,
}
