"""Agreement with sentence-transformers' cross-encoder losses, where both mean the same.

| theirs | ours | agreement |
|---|---|---|
| ListNetLoss | list_net | equal |
| ListMLELoss | list_mle | equal without ties; with ties theirs depends on the documents' order |
| PListMLELoss | position_list_mle | equal without ties |
| LambdaLoss | lambda_loss | theirs is divided by the number of pairs, of the whole batch |
| RankNetLoss | ranknet | theirs is in base 2: ours over ln 2, for queries with equally many pairs |
| ADRMSELoss | adr_mse | equal |
| MarginMSELoss | margin_mse | equal on a pair |
| MSELoss, BinaryCrossEntropyLoss | mse, bce | equal |
| MultipleNegativesRankingLoss | info_nce over in-batch columns | theirs adds a sigmoid and a scale of 10 by default: not compared |
| DistillKLDivLoss (bi-encoders only) | kl | theirs has one temperature; ours equals torch's kl_div, which theirs calls |
"""

import math

import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import losses as peers

from lib import losses

SCORES = torch.tensor([[2.0, 1.0, 0.3, -1.0], [0.5, 0.1, 0.9, 1.0]])
GRADES = torch.tensor([[3.0, 0.0, 1.0, 2.0], [0.0, 2.0, 1.0, 3.0]])


class Stub(CrossEncoder):
    """A model whose scores are given: the losses are compared, not the models."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self):
        torch.nn.Module.__init__(self)

    def preprocess(self, pairs, **_):
        return {"given": torch.tensor([float(text) for _, text in pairs])}

    def forward(self, tokens):
        return {"scores": tokens["given"].view(-1, 1)}


def theirs(loss, targets=GRADES):
    texts = [[str(float(score)) for score in row] for row in SCORES]
    return loss([["q", "q"], texts], list(targets)).item()


def build(name, **parameters):
    return getattr(peers, name)(Stub(), **parameters)


@pytest.mark.parametrize(
    ("name", "ours", "parameters"),
    [
        ("ListNetLoss", losses.list_net, {}),
        ("ListMLELoss", losses.list_mle, {"respect_input_order": False}),
        ("ADRMSELoss", losses.adr_mse, {}),
    ],
)
def test_listwise_losses_agree(name, ours, parameters):
    assert theirs(build(name, **parameters)) == pytest.approx(ours(SCORES, GRADES).mean().item(), rel=1e-5)


def test_position_aware_list_mle_agrees():
    weights = peers.PListMLELambdaWeight()
    found = theirs(build("PListMLELoss", lambda_weight=weights, respect_input_order=False))
    assert found == pytest.approx(losses.position_list_mle(SCORES, GRADES).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("scheme", "ours"),
    [("NDCGLoss1Scheme", "ndcg_loss_1"), ("NDCGLoss2Scheme", "ndcg_loss_2"), ("LambdaRankScheme", "lambda_rank"),
     ("NDCGLoss2PPScheme", "ndcg_loss_2pp"), ("NoWeightingScheme", "ranknet")],
)  # fmt: skip
@pytest.mark.parametrize("cutoff", [None, 2])
def test_lambda_loss_agrees_over_its_pairs(scheme, ours, cutoff):
    found = theirs(build("LambdaLoss", weighting_scheme=getattr(peers, scheme)(), k=cutoff))
    pairs = 4 * 4 if ours == "ndcg_loss_1" else 6
    if cutoff:  # those of whose two ranks one is 1 or 2
        pairs = 12 if ours == "ndcg_loss_1" else 5
    mine = losses.lambda_loss(SCORES, GRADES, scheme=ours, cutoff=cutoff).sum().item() / (2 * pairs)
    assert found == pytest.approx(mine, rel=1e-4)


def test_ranknet_agrees_but_for_the_base():
    assert theirs(build("RankNetLoss")) == pytest.approx(
        losses.ranknet(SCORES, GRADES).mean().item() / math.log(2), rel=1e-4
    )


def test_pointwise_and_margin_losses_agree():
    def pairs(name, labels, columns):
        texts = [[str(float(score)) for score in SCORES[:, column]] for column in columns]
        return build(name)([["q", "q"], *texts], labels).item()

    assert pairs("MSELoss", GRADES[:, 0], [0]) == pytest.approx(losses.mse(SCORES[:, :1], GRADES[:, :1]).mean().item())
    chance = GRADES[:, :1] / 3
    assert pairs("BinaryCrossEntropyLoss", chance[:, 0], [0]) == pytest.approx(
        losses.bce(SCORES[:, :1], chance).mean().item()
    )
    margin = GRADES[:, 0] - GRADES[:, 1]
    assert pairs("MarginMSELoss", margin, [0, 1]) == pytest.approx(
        losses.margin_mse(SCORES[:, :2], GRADES[:, :2]).mean().item()
    )
