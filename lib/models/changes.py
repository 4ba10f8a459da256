"""A trained ranker's weights beside its backbone's: only what differs is kept, and without loss.

A trained weight has moved a little: sign, exponent and leading digits are often the backbone's. So it is kept as the
difference of the two numbers' bit patterns, byte by byte of equal significance and compressed. With the embedding
table, which is most of a student and not trained, left out, three layers take 13 to 16 MB instead of 65.
"""

from collections.abc import Container
from pathlib import Path

import numpy as np
import pyarrow
import safetensors.torch
import torch
from torch import Tensor

from lib.models.backbone import WeightsError
from lib.models.ranker import Ranker

WHOLE, CHANGED = "whole/", "changed/"  # before a tensor's name: as it is, or as its difference to the backbone's


def save(ranker: Ranker, built: Ranker, drawn: Container[str], path: Path) -> None:
    """Write the weights of `ranker` that differ from `built`, the ranker as it was before training.

    Those named in `drawn` were drawn at random and are kept whole: a random generator may give other numbers elsewhere.
    """
    before, kept = built.state_dict(), {}
    for name, value in ranker.state_dict().items():
        value, base = value.detach().cpu().contiguous(), before.get(name)
        if base is None or value.dtype != torch.float32 or base.shape != value.shape or name in drawn:
            kept[WHOLE + name] = value.clone()
        elif not value.equal(base):
            kept[CHANGED + name] = _packed(value, base)
    safetensors.torch.save_file(kept, str(path))


def restore(ranker: Ranker, path: Path) -> None:
    """Give `ranker`, as it was before training, what `save` wrote; raises WeightsError if a weight has no place."""
    state = ranker.state_dict()
    with torch.no_grad():
        for marked, kept in safetensors.torch.load_file(str(path)).items():
            name = marked.partition("/")[2]
            if name not in state or (marked.startswith(WHOLE) and state[name].shape != kept.shape):
                raise WeightsError(f"{path}: the weight {name!r} does not fit {type(ranker).__name__}. Delete the run.")
            state[name].copy_(kept if marked.startswith(WHOLE) else _unpacked(kept, state[name]))


def _packed(value: Tensor, base: Tensor) -> Tensor:
    """Both float32 of one shape -> bytes (length,)."""
    difference = value.view(torch.int32) - base.contiguous().view(torch.int32)
    folded = (difference << 1) ^ (difference >> 31)  # near zero of either sign: leading bytes are zero
    planes = np.ascontiguousarray(folded.numpy().reshape(-1).view(np.uint8).reshape(-1, 4).T)
    return torch.frombuffer(bytearray(pyarrow.compress(planes, codec="zstd", asbytes=True)), dtype=torch.uint8)


def _unpacked(kept: Tensor, base: Tensor) -> Tensor:
    """What `_packed` was given as `value`."""
    planes = pyarrow.decompress(kept.numpy(), decompressed_size=4 * base.numel(), codec="zstd", asbytes=True)
    folded = np.frombuffer(planes, np.uint8).reshape(4, -1).T.copy().view(np.uint32).reshape(-1)
    difference = ((folded >> 1) ^ -(folded & 1)).view(np.int32)
    bits = base.detach().cpu().contiguous().view(torch.int32) + torch.from_numpy(difference).view(base.shape)
    return bits.view(torch.float32)
