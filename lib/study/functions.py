"""What a function computes, as content to hash: a package's by its name, a reader's own by all that it consists of.

The source of a reader's own loss is not enough: two lambdas on one line share it, a file may have been edited since its
import, and closures, defaults, globals and other functions are not in it. So its compiled code counts, with all that
the code uses; under another minor version of Python, which compiles to other code, such a run is another run.
"""

import dis
import functools
import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

from lib.training.bound import Bound, parameters


def of_function(function: Callable, inside: tuple[Callable, ...] = ()) -> list[object]:
    """A function, or one with bound values, as JSON-like content that is equal in every process.

    `inside`: the functions of whose description this is a part; one that calls itself is described once. Raises
    ValueError if it uses a value whose content cannot be compared, such as a tensor.
    """
    inner = function.function if isinstance(function, Bound) else function
    if inner in inside:
        return ["calls", inside.index(inner)]
    inside = (*inside, inner)
    given = {name: _of_value(value, name, inside) for name, value in parameters(function).items()}
    if _is_of_a_package(inner):
        return [f"{inner.__module__}.{inner.__qualname__}", given]
    used = [[name, _of_value(value, name, inside)] for name, value in _used(inner)]
    return [_of_code(inner.__code__), used, given]


def _used(function: FunctionType) -> Iterator[tuple[str, object]]:
    """(name, value) of what a function has from outside: closure, defaults, globals."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents
    yield "a default", function.__defaults__
    given = parameters(function)  # a decorator's function may have more of its own
    yield from ((name, value) for name, value in (function.__kwdefaults__ or {}).items() if name not in given)
    for name in sorted(_names(code, "IMPORT_NAME")):
        if not _is_installed(module := importlib.import_module(name)):
            yield name, module
    names = sorted(_names(code, "LOAD_GLOBAL") & function.__globals__.keys())
    yield from ((name, function.__globals__[name]) for name in names)


def _names(code: CodeType, operation: str = "") -> set[str]:
    """What code, and code inside it, reads by an operation: LOAD_GLOBAL, IMPORT_NAME for modules, or by any."""
    read = dis.get_instructions(code)
    names = {one.argval for one in read if one.opname == operation} if operation else set(code.co_names)
    return names.union(*(_names(one, operation) for one in code.co_consts if isinstance(one, CodeType)))


def _of_code(code: CodeType) -> list[object]:
    """Compiled code without its place: no file, no line, no address."""
    constants = []
    for one in code.co_consts:
        inner = sorted(map(repr, one)) if isinstance(one, frozenset) else one  # the order of a set is another each time
        constants.append(_of_code(one) if isinstance(one, CodeType) else repr(inner))
    return [code.co_code.hex(), list(code.co_names), constants]


def _of_value(value: object, name: str, inside: tuple[Callable, ...]) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_of_value(one, name, inside) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((_of_value(one, name, inside) for one in value), key=repr)
    if isinstance(value, dict):
        return [[_of_value(one, name, inside) for one in item] for item in value.items()]
    if isinstance(value, ModuleType) and _is_installed(value):
        return [value.__name__, None]
    if isinstance(value, ModuleType):  # what computes is what was imported, whatever its file holds by now
        used = sorted(_names(inside[-1].__code__) & vars(value).keys())
        return [value.__name__, [[one, _of_value(getattr(value, one), f"{name}.{one}", inside)] for one in used]]
    if isinstance(value, BuiltinFunctionType) or (isinstance(value, type) and _is_of_a_package(value)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, FunctionType | Bound):
        return of_function(value, inside)
    if isinstance(value, functools.partial):
        return [_of_value(part, name, inside) for part in (value.func, value.args, value.keywords)]
    raise ValueError(f"{inside[0].__qualname__}: it uses {name}={value!r}, a {type(value).__name__}, by whose content "
                     "runs cannot be told apart: use numbers, texts, tuples of these, or functions")  # fmt: skip


def _is_of_a_package(value: FunctionType | type) -> bool:
    """Whether the kit or an installed package has exactly this under its name, so that the name says what it is."""
    module = sys.modules.get(value.__module__)
    found = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value and _is_installed(module)


def _is_installed(module: ModuleType) -> bool:
    """Whether a module is the kit's, an installed package's or the standard library's."""
    top = module.__name__.partition(".")[0]
    file = getattr(module, "__file__", None) or getattr(sys.modules.get(top), "__file__", None) or ""
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return bool(installed) or top in {"lib", *sys.stdlib_module_names}
