"""Score any (query, document) pairs with any model, sorted by length."""

import accelerate
import numpy as np
import torch
from torch import nn

from lib import hardware, progress
from lib.tokens import PairTokens, SeparateTokens


@torch.inference_mode()
def score(
    model: nn.Module, tokens: PairTokens | SeparateTokens, queries: np.ndarray, documents: np.ndarray, *,
    batch_size: int = 64, what: str = "scoring",
) -> np.ndarray:  # fmt: skip
    """Raw scores of pairs: arrays of query ids and document ids, same shape; float32 of that shape.

    Pairs are scored in order of length, so a batch holds little padding. A pair that stands twice is scored once.
    """
    device = hardware.device()
    model = model.to(device).eval()
    shape = documents.shape
    rows = tokens.queries.rows(np.broadcast_to(queries, shape).ravel()), tokens.documents.rows(documents.ravel())
    pairs, inverse = np.unique(np.stack(rows, 1), axis=0, return_inverse=True)  # (pairs, 2)
    order = np.argsort(-tokens.lengths(pairs[:, 0], pairs[:, 1]), kind="stable")  # longest first: memory fails early
    starts = range(0, len(order), batch_size)
    scores = torch.empty(len(order), device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=hardware.precision() == "bf16"):
        for start in progress.steps(starts, what, len(starts)):
            chosen = order[start : start + batch_size]
            batch = tokens.batch(pairs[chosen, 0], pairs[chosen, 1:])
            batch = accelerate.utils.send_to_device(batch, device, non_blocking=True)
            scores[torch.from_numpy(chosen).to(device)] = model(batch).squeeze(1)
    return scores.cpu().numpy()[inverse.ravel()].reshape(shape)
