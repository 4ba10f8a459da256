"""What is ranked: collections, the first stage, groups, files of teacher scores.

Where JAX is installed, bm25s starts it when it is imported: it then holds most of an accelerator's memory, or fails
where another process does. bm25s needs none of it here, so it is imported first, as if JAX were missing.
"""

import sys

if "jax" not in sys.modules:
    sys.modules["jax"] = None  # what Python takes for missing
    try:
        import bm25s  # noqa: F401
    finally:
        del sys.modules["jax"]
