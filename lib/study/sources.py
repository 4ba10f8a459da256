"""Sources of targets that are no ranker: dropout draws, labels that a ranker corrected, and an autoencoder of texts.

Each is a frozen dataclass of literals that stands where an `Experiment` has its teacher. A further one is a class with
`key` and `scores`; what it gives is kept by the store as any teacher's scores are.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.collections import Collection
from lib.data.groups import Groups
from lib.machine import progress, store
from lib.machine.literals import check_number, check_whole
from lib.models import backbone, tokens
from lib.models.ragged import Ragged
from lib.models.ranker import drawn_from
from lib.study import rankers
from lib.study.experiment import Experiment
from lib.study.run import Run, Source
from lib.training import resume, scoring


@dataclass(frozen=True)
class Draws(Source):
    """What a run scores with its dropout active, `count` times: targets (groups, docs, count).

    Aslam et al. 2025 (SSD), https://arxiv.org/abs/2504.14307, for `lib.losses.selective.student_guided`. There the
    teacher has the student's architecture and start, and 30 draws.
    """

    run: Experiment
    count: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.run, Experiment):
            raise ValueError(f"run={self.run!r}: give the Experiment whose dropout is drawn")
        check_whole(self, "count")
        check_number(self, "dropout", above=0, below=1)

    @property
    def parents(self) -> tuple[Experiment, ...]:
        """The run."""
        return (self.run,)

    @property
    def key(self) -> str:
        """See `Source`."""
        return store.key("draws", self.run.key, self.count, self.dropout)

    @property
    def about(self) -> str:
        """How many draws, of which run."""
        return f"{self.count} draws with dropout {self.dropout:g} of {self.run.about}"

    def scores(self, pairs: Groups, collection: Collection) -> np.ndarray:
        """Draw after draw, each with a seed of its own; raises NotTrained."""
        ranker = rankers.with_dropout(self.run, self.dropout)
        inputs, draws = rankers.inputs(ranker, collection, self.run.model), []
        for number in range(self.count):
            with drawn_from(number):
                what = f"draw {number + 1} of {self.count} of {self.run.about}"
                asked = pairs.queries[:, None], pairs.documents
                draws.append(scoring.score(ranker, inputs, *asked, what=what, dropout=True))
        found = np.stack(draws, -1)
        if self.count > 1 and np.ptp(found, -1).max() == 0:
            raise ValueError(
                f"{self.about}: all draws are equal, since its backbone has no dropout; give another teacher"
            )
        return found


@dataclass(frozen=True)
class Relabelled(Source):
    """Labels with likely false negatives as further positives: targets (groups, docs) of 1 and 0, the positive's 1.

    A group's document is positive too if `ranker` scores it more than `margin` above the positive. Thakur et al. 2025
    (RLHN), https://arxiv.org/abs/2505.16967, let language models judge; here it is any run. `lib.study.mining.Mined`
    leaves such documents out, and strategy `gist` leaves them out of the loss. For strategy `relabelled`.
    """

    ranker: Run
    margin: float = 0.0  # in the ranker's unit

    def __post_init__(self) -> None:
        if not isinstance(self.ranker, Run):
            raise ValueError(f"ranker={self.ranker!r}: give a run, or an Untrained model")
        check_number(self, "margin")

    @property
    def parents(self) -> tuple[Run, ...]:
        """The run that judges."""
        return (self.ranker,)

    @property
    def key(self) -> str:
        """See `Source`."""
        return store.key("relabelled", self.ranker.key, self.margin)

    @property
    def about(self) -> str:
        """Who judges."""
        return f"labels with what {self.ranker.about} prefers to the positive"

    def scores(self, pairs: Groups, collection: Collection) -> np.ndarray:
        """(groups, docs) float32; raises NotTrained."""
        ranker = rankers.ranker(self.ranker)
        inputs = rankers.inputs(ranker, collection, self.ranker.model)
        name, what = store.key(self.key, collection.fingerprint, pairs.key), f"judging: {self.about}"
        asked, checkpoint = (pairs.queries[:, None], pairs.documents), resume.Checkpoint(name, each=True)
        found = scoring.score(ranker, inputs, *asked, what=what, checkpoint=checkpoint)
        resume.remove(name)
        positive = found > found[:, :1] + self.margin
        positive[:, 0] = True
        return positive.astype(np.float32)


@dataclass(frozen=True)
class Autoencoder(Source):
    """How similar a document is to the group's positive, by a small autoencoder of the collection's documents.

    Doshi and Kim 2024 (ReffAKD), https://arxiv.org/abs/2404.09886: soft labels without a large teacher, from the
    similarity of classes in an autoencoder's codes. Translated: a group's documents are the classes, the positive the
    true one, and a text is a bag of tokens. Targets are `scale` times the cosine of codes, so `scale` for the positive.
    No label of a negative and no pre-trained weight is used, but the tokenizer's vocabulary.
    """

    dim: int = 64
    epochs: int = 3
    scale: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self, "dim", "epochs")
        check_number(self, "scale", above=0)
        check_whole(self, "seed", least=0)

    @property
    def key(self) -> str:
        """See `Source`."""
        return store.key("autoencoder", asdict(self), backbone.fingerprint(backbone.MINILM))

    @property
    def about(self) -> str:
        """Its size."""
        return f"autoencoder of {self.dim} dimensions, {self.epochs} epochs, seed {self.seed}"

    def scores(self, pairs: Groups, collection: Collection) -> np.ndarray:
        """(groups, docs) float32."""
        tokenizer = backbone.tokenizer(backbone.MINILM)
        texts = tokens.tokenise(collection.documents, tokenizer, collection.documents_digest)
        codes = self.codes(texts, len(tokenizer))
        found = codes[torch.from_numpy(texts.rows(pairs.documents.ravel()).reshape(pairs.documents.shape))]
        return (self.scale * torch.einsum("gd,gkd->gk", found[:, 0], found)).numpy()

    def codes(self, texts: Ragged, vocabulary: int) -> Tensor:
        """A unit vector for every text, (texts, dim), from an autoencoder that is trained on them here.

        Encoder: the tanh of the mean of its tokens' vectors. Decoder: a softmax over the vocabulary, and the error is
        the cross-entropy of the text's own tokens.
        """
        with drawn_from(self.seed):
            encoder, decoder = nn.EmbeddingBag(vocabulary, self.dim), nn.Linear(self.dim, vocabulary)
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
        draw = np.random.default_rng(self.seed)
        batches = [part for _ in range(self.epochs)
                   for part in np.array_split(draw.permutation(len(texts)), max(1, len(texts) // 128))]  # fmt: skip
        for rows in progress.steps(batches, "autoencoder", len(batches)):
            flat, starts = _joined(texts, rows)
            likelihood = F.log_softmax(decoder(torch.tanh(encoder(flat, starts))), -1)
            owner = torch.bucketize(torch.arange(len(flat)), starts, right=True) - 1
            optimizer.zero_grad()
            (-likelihood[owner, flat].mean()).backward()
            optimizer.step()
        with torch.no_grad():
            return F.normalize(torch.tanh(encoder(*_joined(texts, np.arange(len(texts))))), dim=-1)


def _joined(texts: Ragged, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """The tokens of some texts, one after another, and where each text starts."""
    parts = [texts.flat[texts.starts[row] : texts.starts[row + 1]] for row in rows]
    starts = np.cumsum([0, *map(len, parts[:-1])])
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)), torch.from_numpy(starts)
