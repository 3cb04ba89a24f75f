"""Names that pickles mention: torch's dtypes and storages, harmless leftovers of training, and those that run code."""

from __future__ import annotations

import builtins
import sys

import torch

from .values import Global


def _words(text: str, prefix: str = "") -> frozenset[str]:
    return frozenset(prefix + word for word in text.split())


PYTHON_2 = {
    "__builtin__": "builtins",
    "__builtins__": "builtins",
    "copy_reg": "copyreg",
    "exceptions": "builtins",
    "UserDict": "collections",
    "cPickle": "pickle",
    "commands": "subprocess",
    "popen2": "subprocess",
}

_EXCEPTIONS = " ".join(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
# Names that training leftovers hold; objects of them become placeholders.
_PATHS = "Path PurePath PosixPath PurePosixPath WindowsPath PureWindowsPath"
_HARMLESS = frozenset[str]().union(
    _words("int float complex str bool list dict tuple bytes bytearray object slice range", "builtins."),
    _words("set frozenset NoneType Ellipsis NotImplemented", "builtins."),
    _words("xrange long unicode basestring StandardError", "builtins."),  # of Python 2
    _words(_EXCEPTIONS, "builtins."),
    _words("datetime date time timedelta timezone", "datetime."),
    _words(_PATHS, "pathlib."),
    _words(_PATHS, "pathlib._local."),
    _words("Any Union Optional List Dict Tuple", "typing."),
    _words("Counter deque UserDict ChainMap", "collections."),
    _words("torch.serialization._get_layout"),
    _words("decimal.Decimal fractions.Fraction uuid.UUID argparse.Namespace types.SimpleNamespace"),
)

# Third-party modules and functions that run code, load files or fetch them.
_GADGETS = _words("""
    torch.hub torch.load torch.save torch.serialization torch.jit torch._dynamo torch._inductor torch.ops torch.classes
    torch.package torch.fx torch.multiprocessing torch.distributed.rpc torch.utils.cpp_extension torch.utils.model_zoo
    torch.utils.collect_env torch.utils.bottleneck torch.storage._load_from_bytes torch.testing
    numpy.load numpy.testing numpy.f2py numpy.distutils numpy.memmap numpy.fromfile numpy.loadtxt numpy.genfromtxt
    numpy.save numpy.ctypeslib numpy.lib pandas.read_pickle pandas.io
    joblib dill cloudpickle pip setuptools pkg_resources IPython sdedit_cli
""")
_GADGET_DEPTH = max(len(name.split(".")) for name in _GADGETS)
# Attributes through which a harmless-looking object leads to code.
_CODE_WORDS = _words("""
    os sys posix nt subprocess builtins importlib runpy shutil socket ctypes pickle marshal eval exec execfile compile
    system popen getattr setattr delattr open input breakpoint __import__ __builtins__ __globals__ __dict__ __class__
    __subclasses__ __getattribute__ __reduce__ __reduce_ex__ __init__ __call__ __code__ __loader__
""")

STORAGES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8,
    "QUInt2x4Storage": torch.uint8,
    "UntypedStorage": torch.uint8,
}
_DTYPE_NAMES = (
    "float64 double float32 float float16 half bfloat16 int64 long int32 int int16 short int8 uint8 uint16 uint32 "
    "uint64 bool complex64 complex128 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
)
TORCH_DTYPES: dict[str, torch.dtype] = {
    f"torch.{name}": getattr(torch, name) for name in _DTYPE_NAMES.split() if hasattr(torch, name)
}


def may_run_code(found: Global) -> bool:
    """Whether a name is of the standard library (its harmless part aside), a known gadget, or a way to reach either."""
    if found.dotted in _HARMLESS:
        return False
    parts = found.dotted.split(".")
    return (
        parts[0] in sys.stdlib_module_names
        or any(".".join(parts[:count]) in _GADGETS for count in range(1, _GADGET_DEPTH + 1))
        or not _CODE_WORDS.isdisjoint(found.name.split("."))
        or not all(part.isidentifier() or part in ("<locals>", "<lambda>") for part in parts)
    )
