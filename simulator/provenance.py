"""What a stored result was computed by: the code, and what the arithmetic of this machine is made of.

Whoever keeps a result for later keeps it under a key that holds everything it depends on. Of that, settings and data are
the caller's; the code and the libraries below it are the same question everywhere and are answered here.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import sys
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

OURS = ("simulator", "agents", "environments", "experiments")
"""The packages of this project, as far as whose modules imports are followed."""


@lru_cache(maxsize=256)
def code_sha256(*roots: str) -> str:
    """SHA-256 of the sources of some modules and of everything of this project that they import, directly or not.

    Imports within functions count; other projects' packages do not, unless a root lies in one: then its own package is followed too.

    Args:
        roots: modules ("package.module") or paths of files ("plugin.py"). What cannot be found counts by its name.
    """
    digest = hashlib.sha256()
    for name, content in sorted(_sources(roots).items()):
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def arithmetic() -> dict[str, str]:
    """What the last bits of a fit depend on besides its code: versions of numpy and scipy, the kernels of BLAS, the kind of machine."""
    import numpy as np  # noqa: F401, PLC0415 - its BLAS must be loaded to be found
    import scipy.linalg  # noqa: F401, PLC0415 - likewise
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # noqa: PLC0415 - looks through all loaded libraries

    loaded = [one for one in threadpool_info() if one.get("user_api") == "blas"]
    ours = [one for one in loaded if any(name in str(one.get("filepath")) for name in ("numpy", "scipy"))]  # others come and go
    kernels = {f"{one.get('internal_api')} {one.get('architecture')}" for one in ours or loaded}
    return {
        "numpy": metadata.version("numpy"),
        "scipy": metadata.version("scipy"),
        "blas": ", ".join(sorted(kernels)),
        "machine": platform.machine(),
    }


def _sources(roots: tuple[str, ...]) -> dict[str, bytes]:
    """The content of every file concerned, by the module's name."""
    followed = {*OURS, *(root.partition(".")[0] for root in roots if not root.endswith(".py"))}
    found: dict[str, bytes] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = Path(name) if name.endswith(".py") else _file_of(name)
        found[name] = file.read_bytes() if file is not None and file.is_file() else b""
        if file is not None and found[name]:
            package = "" if name.endswith(".py") else name if file.name == "__init__.py" else name.rpartition(".")[0]
            waiting += [one for one in _imported(found[name], package) if one.partition(".")[0] in followed]
    return found


@lru_cache(maxsize=4_096)
def _file_of(name: str) -> Path | None:
    """The source of a module, or None if there is no such module or it has no source."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None):
        return Path(str(known.__file__))
    try:
        spec = util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _modules_in(package: str, names: tuple[str, ...]) -> list[str]:
    """Those names that are modules of a package."""
    file = _file_of(package) if package.partition(".")[0] not in sys.stdlib_module_names else None
    if file is None or file.name != "__init__.py":
        return []
    return [f"{package}.{name}" for name in names if (file.parent / f"{name}.py").is_file() or (file.parent / name).is_dir()]


@lru_cache(maxsize=4_096)
def _imported(source: bytes, package: str) -> tuple[str, ...]:
    """Names of the modules that a source may import; of ``from a import b`` both ``a`` and, where it is a module, ``a.b``."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = util.resolve_name(base, package) if node.level and package else base
            names += [base, *_modules_in(base, tuple(alias.name for alias in node.names))]
    return tuple(dict.fromkeys(names))
