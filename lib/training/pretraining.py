"""Continued pre-training: masked language modelling on the texts of a domain, before anything is learned from labels.

Gururangan et al. 2020 ("domain-adaptive pre-training"), https://arxiv.org/abs/2004.10964. As in BERT
(https://arxiv.org/abs/1810.04805) 15 % of the tokens are to be found again, and in the place of these the model sees a
mask (80 %), a random token (10 %) or the token itself (10 %).
"""

from __future__ import annotations  # transformers reads its model classes, for seconds, when one is named

from itertools import islice

import accelerate
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import transformers

from lib.machine import hardware, progress
from lib.models.masked_lm import MaskedLM
from lib.models.tokens import Side
from lib.training.batches import order
from lib.training.loop import History, accelerator_of, adamw
from lib.training.resume import Checkpoint, TrainingState
from lib.training.settings import Training
from lib.training.trackers import Log

MEANS = ("loss", "accuracy", "gradient_norm")


def train(
    model: MaskedLM, texts: Side, rows: np.ndarray, tokenizer: transformers.PreTrainedTokenizerFast, settings: Training,
    *, seed: int = 0, checkpoint: Checkpoint | None = None, log: Log | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Train `model` in place on rows of a token store; returns its history, one row per step.

    Columns: step, loss (mean over the masked tokens, in nats), accuracy (share of them whose likeliest token is right),
    gradient_norm, learning_rate, documents. Equal arguments on one machine give an equal history; of several processes
    each draws the masks of every batch and takes its share of it (and has dropout in the same places as the others).
    `checkpoint`, `log` and errors as in `lib.training.loop`.
    """
    accelerator = accelerator_of(settings)
    hardware.keep_memory()
    steps = len(rows) // settings.batch_size * settings.epochs
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, schedule = adamw(trained, settings, steps)
    history = History(accelerator, "masked language model", log, MEANS)
    wrapped, stepper = accelerator.prepare_model(model.train()), accelerator.prepare(optimizer)
    mask, draw = _Mask(tokenizer), np.random.default_rng(seed)
    lengths, processes = texts.lengths(rows), accelerator.num_processes
    share = settings.batch_size // processes
    own = slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)
    batches = (one for _ in range(settings.epochs) for one in order(lengths, settings.batch_size, draw))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = TrainingState(model, optimizer, schedule, history)
        done = checkpoint.restore(state) if checkpoint else 0
        shown = progress.steps(islice(batches, done, None), "pre-training", steps - done)
        for step, chosen in enumerate(shown, done + 1):
            tokens, asked, ids = mask(texts.batch(rows[chosen]))
            # A batch of a few short texts may have nothing masked: its mean is 0. Gradients are means over processes.
            count = max(int(asked.sum()), 1) / processes
            batch = {name: values[own] for name, values in tokens.items()}, asked[own], ids[own][asked[own]]
            tokens, asked, wanted = accelerate.utils.send_to_device(batch, accelerator.device)
            logits = wrapped(tokens, asked)
            loss = F.cross_entropy(logits, wanted, reduction="sum") / count
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(trained, settings.clip)
            stepper.step()
            stepper.zero_grad()
            right = (logits.argmax(1) == wanted).sum() / count
            history.add(torch.stack([loss, right, norm]).detach(), schedule.get_last_lr()[0], share)
            schedule.step()
            if checkpoint and not history.unread:
                checkpoint.keep(step, state)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    return history.table()


class _Mask:
    """What the model sees of texts, where something is masked, and what the texts are; drawn by torch."""

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerFast):
        self._special = torch.tensor(tokenizer.all_special_ids)
        self._collator = transformers.DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=0.15, mask_replace_prob=0.8, random_replace_prob=0.1
        )

    def __call__(self, tokens: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        ids = tokens["input_ids"]
        seen, labels = self._collator.torch_mask_tokens(ids.clone(), torch.isin(ids, self._special))
        asked = labels != -100
        return tokens | {"input_ids": seen}, asked, ids
