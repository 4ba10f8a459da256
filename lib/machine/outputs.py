"""Where what a notebook writes goes: by profile, and by every parameter that is not its default."""

import re

from lib.machine import store

# What the notebooks' further parameters are unless they are given; a test compares.
DEFAULTS = {"measure": "RR@10", "baseline": "info_nce", "folders": ""}


def variant_folder(profile: str, **parameters: object) -> str:
    """Where what a notebook writes goes: its profile, and a folder for every parameter that differs from its default.

    'laptop', 'laptop/measure=nDCG@10'. A value that is no file name is cut and gets a hash.
    """
    changed = {name: str(parameters[name]) for name in sorted(parameters) if parameters[name] != DEFAULTS.get(name)}
    parts = [profile]
    for name, value in changed.items():
        plain = re.sub(r"[^\w@.+-]+", "_", value)[-60:]
        parts.append(f"{name}={plain}" if plain == value else f"{name}={plain}-{store.key(value)[:6]}")
    return "/".join(parts)
