"""Triton kernels from generated source text."""

import hashlib
import linecache
import sys
from functools import cache
from types import ModuleType

_HEADER = "import triton\nimport triton.language as tl\n"


@cache
def load_source(title: str, text: str) -> ModuleType:
    """A module made of `text`, after the imports of `triton` and of `triton.language` as `tl`.

    Triton reads the source of a kernel through `inspect`, which looks into `linecache` before the disk: the text is put
    there, so that no file needs to be written. Equal texts give the same module.

    Args:
        title: What the kernels compute, an identifier; it appears in tracebacks.
        text: Source of one or more functions under `triton.jit`.
    """
    source = f"{_HEADER}\n\n{text}"
    name = f"mlip_kernels_generated_{title}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    path = f"<{name}>"
    # An entry without a time of modification is not checked against the disk.
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(source, path, "exec"), module.__dict__)
    return module
