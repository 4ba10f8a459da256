"""The model of a run: built, read from the run's folder, and what it reads of a collection."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib import models
from lib.data.collections import Collection
from lib.machine import hardware, store
from lib.models import LateRanker, Ranker, adapters, backbone, changes, tokens, weights
from lib.models.ranker import Tokenizer
from lib.models.vectors import Identity, VectorStore
from lib.study.experiment import Experiment, Model, Run, Teacher
from lib.training import scoring


class NotTrained(LookupError):
    """What is asked for needs a run that is not in the store."""


def folder(run: Run) -> Path:
    """The folder of a run's weights; raises NotTrained if it is not in the store, or is an untrained model."""
    if run.stored is None:
        raise NotTrained(f"{run.about}: it has no training, so no history and no costs of one; give an Experiment")
    place = store.find("runs", run.stored.key)
    if place is None:
        raise NotTrained(f"{run.about} is not trained yet: call lib.study.runs.complete([run]) first")
    return place


def made_from(run: Teacher) -> list[str]:
    """What the store keeps of a model, as `lib.machine.store.keep` takes it: the folders of runs, nothing of others."""
    needed = (run.stored,) if isinstance(run, Run) else () if isinstance(run, str) else run.parents
    return [f"runs/{one.key}" for one in needed if one is not None]


def ranker(run: Run) -> Ranker:
    """The model of a run, or an untrained one, ready to score; raises NotTrained if the run is not in the store."""
    return _restored(run).eval()


def with_dropout(run: Experiment, dropout: float) -> Ranker:
    """The model of a run, whose dropout is this wherever it is used in training mode; raises NotTrained."""
    return _restored(run, replace(run, training=replace(run.training, dropout=dropout)))


def at_start(run: Experiment) -> Ranker:
    """The model that a run starts from, with the run's dropout and trained parts; raises NotTrained as `ranker`."""
    return _restored(run.before, run)


def built(model: Model, seed: int, run: Experiment | None = None) -> Ranker:
    """A model from its backbone; new weights are drawn from `seed`, dropout and trained parts are those of `run`."""
    training = {} if run is None else {"dropout": run.training.dropout, "embeddings": run.training.embeddings}
    return models.build(model.architecture, model.backbone, model.layers, seed, **training, **dict(model.options))


def drawn(model: Model) -> frozenset[str]:
    """The names of a model's weights that its backbone does not have: a seed decides them."""
    return _drawn(model, backbone.fingerprint(model.backbone))


@lru_cache(maxsize=32)
def _drawn(model: Model, _: str) -> frozenset[str]:
    first, second = (built(model, seed).state_dict() for seed in (0, 1))
    return frozenset(name for name, weight in first.items() if not weight.equal(second[name]))


def _restored(source: Run, run: Experiment | None = None) -> Ranker:
    """The model of `source`, with dropout and trained parts as a `run` has them that starts from it."""
    restored = built(source.model, source.seed, run)
    if source.prefix:
        adapters.attach(restored, "prefix", source.prefix, source.seed)
        if run is not None:  # it trains all weights, the prefix too
            restored.transformer.base_model.requires_grad_(True)
            backbone.prepare(restored.transformer, embeddings=run.training.embeddings)
    if source.stored is not None:
        changes.restore(restored, folder(source) / source.file)
    return restored


def state_shape(of: Run | str) -> tuple[int, int]:
    """How many layers a run's model has, or a model that is no run, and how wide they are."""
    config = weights.config(backbone.folder(of if isinstance(of, str) else of.model.backbone))
    return config.num_hidden_layers if isinstance(of, str) else of.model.layer_count, config.hidden_size


def inputs(reader: Ranker, collection: Collection, model: Model) -> tokens.PairTokens | tokens.SeparateTokens:
    """The tokens of a collection's queries and documents, as a ranker of this model reads them."""
    tokenizer = _tokenizer(model.backbone, backbone.fingerprint(model.backbone))
    query_lead, document_lead = reader.leads(tokenizer)
    return reader.inputs(
        tokens.tokenise(collection.queries, tokenizer, collection.queries_digest, query_lead),
        tokens.tokenise(collection.documents, tokenizer, collection.documents_digest, document_lead),
        tokenizer, model.max_length, model.max_query,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _tokenizer(name: str, _: str) -> Tokenizer:
    return backbone.tokenizer(name)  # for `inputs` alone, so nobody changes it


def document_vectors(run: Run, collection: Collection, names: np.ndarray | None = None) -> VectorStore:
    """The vectors of a collection's documents (`names`; None: all) by a run's model, encoded once and kept."""

    def encode(into: Path) -> None:
        encoder, identity = ranker(run), Identity(run.key, collection.fingerprint)
        if not isinstance(encoder, LateRanker):
            raise ValueError(f"{run.about}: no vectors of documents alone; give architecture='dot' or another")
        scoring.encode(encoder, inputs(encoder, collection, run.model), into, identity, names=names)

    chosen = None if names is None else names.tolist()
    name = store.key(run.key, collection.fingerprint, hardware.precision(), chosen)
    return VectorStore(store.keep("vectors", name, encode, of=made_from(run)))
