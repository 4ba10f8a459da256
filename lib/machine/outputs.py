"""Where a notebook's outputs go: by profile, and by every parameter that differs from its default."""

import re

from lib.machine import store

# Defaults of the notebooks' further parameters; a test compares them with the notebooks.
DEFAULTS = {
    "measure": "RR@10", "baseline": "info_nce", "folders": "", "sets": "", "max_length": 96, "target": "botocore",
}  # fmt: skip


def variant_folder(profile: str, **parameters: object) -> str:
    """'laptop', 'laptop/measure=nDCG@10'; a value that is no file name is shortened and gets a hash."""
    parts = [profile]
    for name, value in sorted(parameters.items()):
        if value != DEFAULTS.get(name):
            plain = re.sub(r"[^\w@.+-]+", "_", str(value))[-60:]
            parts.append(f"{name}={plain}" + (f"-{store.key(str(value))[:6]}" if plain != str(value) else ""))
    return "/".join(parts)
