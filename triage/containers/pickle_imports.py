"""Which imports a pickle of weights may make, and which are known to do harm.

The allow-list is what decides: it is short because weight files need little (46 real ones
import ten names in all), and whatever is not on it goes to a person. The list of harmful
modules only decides how loudly: it turns "unknown" into "dangerous". Sources: the globals that
``torch.load(weights_only=True)`` accepts, and the modules that published bypasses of pickle
scanners go through.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DTYPES = _words(
    "float16 float32 float64 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz"
    " float8_e8m0fnu float4_e2m1fn_x2 half float double"
    " int8 int16 int32 int64 uint8 uint16 uint32 uint64 short int long bool"
    " complex32 complex64 complex128 quint8 qint8 qint32 quint4x2 quint2x4"
)
_LAYOUTS = _words(
    "strided sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc"
    " per_tensor_affine per_channel_affine per_tensor_symmetric per_channel_symmetric"
    " per_channel_affine_float_qparams contiguous_format channels_last preserve_format"
)

# Bytes for each element of a storage, by the name of its class.
STORAGE_BYTES = {
    "ByteStorage": 1,
    "CharStorage": 1,
    "BoolStorage": 1,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "UntypedStorage": 1,
    "_UntypedStorage": 1,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "ShortStorage": 2,
    "FloatStorage": 4,
    "IntStorage": 4,
    "QInt32Storage": 4,
    "DoubleStorage": 8,
    "LongStorage": 8,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")

# Names that may stand as a value but are never called while loading.
ALLOWED_VALUES = frozenset(
    [(module, name) for module in STORAGE_MODULES for name in STORAGE_BYTES]
    + [("torch", name) for name in (*_DTYPES, *_LAYOUTS, "Tensor")]
    + [
        (module, name)
        for module in ("builtins", "__builtin__")
        for name in ("bool", "dict", "float", "int", "list", "str", "tuple")
    ]
    + [("numpy", "ndarray")]
)

RECONSTRUCT = frozenset(
    [("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")]
)
NUMPY_DTYPE = ("numpy", "dtype")
CODECS_ENCODE = ("_codecs", "encode")
ORDERED_DICT = ("collections", "OrderedDict")
DEFAULT_DICT = ("collections", "defaultdict")
MAPPINGS = frozenset([ORDERED_DICT, DEFAULT_DICT, ("collections", "Counter")])
REBUILD_TENSOR = frozenset(
    ("torch._utils", name)
    for name in (
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v3",
        "_rebuild_qtensor",
        "_rebuild_sparse_tensor",
        "_rebuild_sparse_csr_tensor",
        "_rebuild_nested_tensor",
        "_rebuild_meta_tensor_no_storage",
        "_rebuild_device_tensor_from_numpy",
        "_rebuild_device_tensor_from_cpu_tensor",
    )
)

# Names that may be called. Each only builds a value out of its arguments.
ALLOWED_CALLS = frozenset(
    [*MAPPINGS, *RECONSTRUCT, *REBUILD_TENSOR, NUMPY_DTYPE, CODECS_ENCODE]
    + [("torch._utils", name) for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")]
    + [("torch", "Size"), ("torch", "device"), ("torch.serialization", "_get_layout")]
    + [
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("scalar",)
    ]
    + [("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")]
    + [
        (module, name)
        for module in ("builtins", "__builtin__")
        for name in ("bytearray", "bytes", "complex", "frozenset", "set", "slice")
    ]
)
ALLOWED = ALLOWED_VALUES | ALLOWED_CALLS

# What ``BUILD`` may set the state of: results of these calls.
BUILDABLE = RECONSTRUCT | {NUMPY_DTYPE, ORDERED_DICT}

# Whole modules, with everything below them.
_HARMFUL_MODULES = _words(
    # runs programs or code
    "os posix posixpath nt ntpath subprocess commands popen2 pty runpy code codeop bdb pdb"
    " cProfile profile trace timeit doctest pydoc unittest test idlelib lib2to3 distutils"
    " setuptools pip ensurepip venv _osx_support _aix_support _pyrepl uuid platform sysconfig"
    " antigravity turtle tkinter rlcompleter cmd readline IPython"
    # finds or loads other code
    " sys importlib _frozen_importlib _frozen_importlib_external imp _imp zipimport pkgutil"
    " modulefinder site sitecustomize ctypes _ctypes cffi marshal pickle _pickle cPickle"
    " pickletools dill cloudpickle shelve jsonpickle pandas.io"
    # turns one harmless function into another
    " operator _operator functools _functools inspect gc"
    # reads, writes, deletes, talks
    " io _io shutil tempfile glob fileinput linecache mmap socket _socket ssl select"
    " http httplib urllib urllib2 urllib3 requests aiohttp httpx ftplib smtplib telnetlib poplib"
    " imaplib nntplib xmlrpc socketserver SocketServer BaseHTTPServer webbrowser wsgiref"
    " asyncio multiprocessing _multiprocessing concurrent threading _thread thread signal"
    " logging sqlite3 dbm tarfile zipfile winreg _winreg _winapi msvcrt"
    # the same inside the libraries of the trade
    " torch.hub torch.jit torch.package torch.fx torch.ops torch.distributed torch.multiprocessing"
    " torch.testing torch.onnx torch._inductor torch._dynamo torch._export torch.export"
    " torch.utils.bottleneck torch.utils.collect_env torch.utils.cpp_extension"
    " torch.utils._config_module torch.utils.data torch.utils.model_dump torch.utils.show_pickle"
    " torch.utils.tensorboard torch.utils.hipify"
    " numpy.f2py numpy.testing numpy.distutils numpy.ctypeslib numpy.lib numpy.compat"
    " tensorflow.io"
)
_HARMFUL_NAMES = frozenset(
    [
        ("torch", "load"),
        ("torch", "compile"),
        ("torch.serialization", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("types", "CodeType"),
        ("types", "FunctionType"),
        ("types", "MethodType"),
        ("codecs", "open"),
        ("joblib", "load"),
        ("joblib.numpy_pickle", "load"),
        ("numpy", "load"),
        ("numpy", "save"),
        ("numpy", "fromfile"),
        ("numpy", "memmap"),
    ]
)
_HARMLESS_BUILTINS = _words(
    "Ellipsis NotImplemented bool bytearray bytes complex dict enumerate float frozenset int"
    " list long object print range reversed set slice str tuple unicode xrange zip"
)


def is_harmful(module: str, name: str) -> bool:
    """Tell whether this import is known to run code, load code, or reach files and networks."""
    if module in ("builtins", "__builtin__"):
        return name not in _HARMLESS_BUILTINS and not name.endswith(("Error", "Exception"))
    if (module, name) in _HARMFUL_NAMES:
        return True
    parts = module.split(".")
    if any(".".join(parts[:count]) in _HARMFUL_MODULES for count in range(1, len(parts) + 1)):
        return True
    # "torch" + "os.system": protocol 4 follows the dots through every module on the way.
    path = name.split(".")
    if any(part.startswith("__") for part in path):
        return True
    return len(path) > 1 and any(part in _HARMFUL_MODULES for part in path[:-1])
