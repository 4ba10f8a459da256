"""Which encoder family works with which architecture: the table of README; what does not is refused by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lib import models
from lib.data import collections
from lib.models import adapters
from lib.study import rankers
from lib.study.experiment import Model
from lib.training import scoring

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
         "max_position_embeddings": 66, "pad_token_id": 0, "embedding_size": 32}  # fmt: skip
PACKABLE = ("bert", "electra", "roberta", "xlm-roberta", "camembert", "distilbert")
OTHERS = ("modernbert", "deberta-v2", "mpnet", "albert")


@pytest.fixture(scope="module", params=[*PACKABLE, *OTHERS])
def family(request, tiny_backbone, tmp_path_factory):
    """A small random encoder, with the tokenizer of the tiny BERT."""
    folder = Path(shutil.copytree(tiny_backbone, tmp_path_factory.mktemp("family") / request.param))
    config = transformers.AutoConfig.for_model(request.param, **SMALL)
    (folder / "model.safetensors").unlink()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return request.param, str(folder)


@pytest.mark.parametrize("architecture", ["cat", "dot", "colbert", "prettr"])
def test_a_family_works_or_is_refused_by_name(family, architecture, tiny_collection, monkeypatch):
    kind, folder = family
    monkeypatch.setattr(scoring.hardware, "precision", lambda: "no")
    monkeypatch.setattr(
        rankers.backbone, "tokenizer", lambda name: transformers.BertTokenizerFast.from_pretrained(folder)
    )
    if architecture == "colbert":
        monkeypatch.setattr(models.colbert.backbone, "tokenizer", rankers.backbone.tokenizer)
    options = {"prettr": {"split": 1, "offset": 20}, "colbert": {"dim": 16, "masks": 2}}.get(architecture, {})
    if architecture == "prettr" and kind in OTHERS:
        with pytest.raises(ValueError, match=f"PreTTR cannot run a {kind} backbone"):
            models.build(architecture, folder, None, 0, **options)
        return
    ranker, collection = models.build(architecture, folder, None, 0, **options), collections.load(tiny_collection)
    read = rankers.inputs(ranker, collection, Model(backbone=folder, max_length=32))
    queries, documents = np.array(["q0", "q1", "q1"]), np.array(["d0", "d1", "d9"])
    together = scoring.score(ranker, read, queries, documents)
    alone = [scoring.score(ranker, read, queries[[at]], documents[[at]])[0] for at in range(3)]
    assert np.isfinite(together).all() and len(set(together.tolist())) == 3
    assert together == pytest.approx(np.array(alone), abs=1e-4)
    if architecture == "cat":
        adapters.attach(ranker, "lora", 2, 0)
        assert any("lora_" in name for name, weight in ranker.named_parameters() if weight.requires_grad)
