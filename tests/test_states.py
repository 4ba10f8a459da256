"""Hidden states: one vector per pair and layer, beside the scores that a ranker gives without them."""

import pytest
import torch
import transformers

from lib.models import adapters, backbone, packed
from lib.models.cross_encoder import CrossEncoder
from tests.test_causal import tokenizer_of

SMALL = {"vocab_size": 30, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
         "max_position_embeddings": 40, "pad_token_id": 1, "embedding_size": 24}  # fmt: skip
ENCODERS = (*packed.FAMILIES, "distilbert", "modernbert", "deberta-v2", "mpnet", "albert")
CAUSAL = {"num_key_value_heads": 2, "head_dim": 6}


def made(family, auto=transformers.AutoModelForSequenceClassification):
    """A small random model, as the hub has it."""
    more = CAUSAL if family in ("llama", "qwen3") else {}
    config = transformers.AutoConfig.for_model(family, num_labels=1, initializer_range=0.3, **SMALL | more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return auto.from_config(config).eval()


def ranker(family, **options):
    return CrossEncoder(backbone.prepare(made(family)), **options).eval()


def batch():
    """Two queries with three documents each."""
    lengths, draw = torch.tensor([7, 2, 5, 9, 4, 3]), torch.Generator().manual_seed(1)
    mask = torch.arange(9) < lengths[:, None]
    return {"input_ids": torch.where(mask, torch.randint(3, 30, mask.shape, generator=draw), 1),
            "attention_mask": mask.long()}  # fmt: skip


@pytest.mark.parametrize("family", ENCODERS)
def test_states_are_transformers_own_of_the_first_token_and_change_no_score(family):
    tokens, ours, plain = batch(), ranker(family), made(family)
    scores, states = ours(tokens, 3, states=True)
    assert torch.equal(scores, ours(tokens, 3))
    assert states.shape == (2, 3, 4, 24) and states.dtype == torch.float32
    assert ours.state_shape == (3, 24)
    wanted = plain.base_model(**tokens, output_hidden_states=True)
    for layer, hidden in enumerate((*wanted.hidden_states[:-1], wanted.last_hidden_state)):
        torch.testing.assert_close(states[:, :, layer].flatten(0, 1), hidden[:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_states_of_a_causal_model_are_those_of_the_last_token(family):
    tokens, ours = batch(), ranker(family)
    scores, states = ours(tokens, 3, states=True)
    torch.testing.assert_close(scores, ours(tokens, 3))
    wanted = made(family).base_model(**tokens, output_hidden_states=True)
    ends, rows = tokens["attention_mask"].sum(1) - 1, torch.arange(6)
    for layer, hidden in enumerate((*wanted.hidden_states[:-1], wanted.last_hidden_state)):
        torch.testing.assert_close(states[:, :, layer].flatten(0, 1), hidden[rows, ends], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.transformer.score(states[:, :, -1]).squeeze(-1), scores)  # what the head reads


def test_states_of_a_causal_model_that_answers_yes_or_no():
    prepared = backbone.prepare(made("llama", transformers.AutoModelForCausalLM))
    ours = CrossEncoder(prepared, tokenizer_of("llama", "right"), score="yes_no", yes="yes", no="no").eval()
    tokens = batch()
    scores, states = ours(tokens, 3, states=True)
    assert torch.equal(scores, ours(tokens, 3)) and states.shape == (2, 3, 4, 24)
    answers = ours.transformer.lm_head(states[:, :, -1])[..., ours.answers]
    torch.testing.assert_close(answers[..., 0] - answers[..., 1], scores)


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_states_with_an_adapter(kind):
    tokens, ours = batch(), ranker("bert")
    adapters.attach(ours, kind, 2, 0)
    scores, states = ours(tokens, 3, states=True)
    torch.testing.assert_close(scores, ours(tokens, 3))
    head = ours.transformer.classifier(ours.transformer.bert.pooler(states[:, :, -1].flatten(0, 1).unsqueeze(1)))
    torch.testing.assert_close(head.view(2, 3), scores)


@pytest.mark.parametrize("again", [False, True])
def test_gradients_of_states_reach_every_layer_and_are_transformers_own(again):
    tokens, ours, plain = batch(), ranker("bert"), made("bert")
    if again:
        ours.checkpoint_gradients()
        ours.train()
        for module in ours.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    ours(tokens, 3, states=True).states.sin().sum().backward()
    hidden = plain.base_model(**tokens, output_hidden_states=True).hidden_states
    torch.stack([one[:, 0] for one in hidden]).sin().sum().backward()
    for (name, weight), other in zip(ours.transformer.named_parameters(), plain.parameters(), strict=True):
        assert (weight.grad is None) == (other.grad is None), name
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, other.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_nothing_is_collected_after_the_call():
    tokens, ours = batch(), ranker("bert")
    ours(tokens, 3, states=True)
    assert ours.transformer.bert.encoder.states is None and not ours.transformer.bert._forward_hooks
