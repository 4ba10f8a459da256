"""A teacher's hidden states as targets: whose and of which layers, computed once, and what a student learns of them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lib import losses, models
from lib.losses import representations
from lib.models import backbone, parts
from lib.study import checks, rankers, runs, targets
from lib.study.experiment import Untrained, vary
from lib.training import scoring, strategies
from lib.training.settings import Adapter
from lib.training.strategies import STATES, Strategy, Term
from tests import kit

NAMES = ("ardir", "afd", "wcord", "consistent")


def drawn(like, folder, **changes):
    """A random cross-encoder like another backbone, with other weights, and a head."""
    shutil.copytree(like, folder)
    config = transformers.AutoConfig.from_pretrained(like, num_labels=1, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other(tiny_backbone, tmp_path_factory):
    return str(drawn(tiny_backbone, tmp_path_factory.mktemp("other") / "backbone"))


@pytest.fixture
def teacher(experiment, other):
    """Two layers of other weights, and so with other states."""
    return Untrained(vary(experiment, backbone=other).model, 5)


@pytest.fixture
def student(experiment, teacher):
    return vary(experiment, strategy="ardir", teacher=teacher, layers=(0,))


@pytest.fixture(scope="session")
def wide(tiny_backbone, tmp_path_factory):
    """A folder in the hub's layout: a cross-encoder of four layers and another width, which is no run."""
    folder = drawn(tiny_backbone, tmp_path_factory.mktemp("wide") / "backbone", num_hidden_layers=4, hidden_size=48)
    models.build("cat", str(folder), None, 3).save(folder.parent / "model", backbone.tokenizer(str(folder)), 48)
    return str(folder.parent / "model")


def found(run):
    return kit.training_groups(run).targets[STATES]


def test_targets_are_the_teachers_states_of_the_groups_documents(student, teacher, found_collection, float32):
    groups = kit.training_groups(student)
    values = groups.targets[STATES]
    assert values.shape == (16, 3, 1, 32) and values.dtype == np.float16 and isinstance(values, np.memmap)
    ranker = rankers.ranker(teacher)
    read = rankers.inputs(ranker, found_collection, teacher.model)
    rows = read.queries.rows(groups.queries[4:5]), read.documents.rows(groups.documents[4])[None]
    with torch.inference_mode():
        states = ranker(read.batch(*rows), 3, states=True).states
    np.testing.assert_allclose(values[4], states[0, :, 2:], atol=2e-3)  # a student of one layer: the teacher's last


@pytest.fixture
def found_collection(tiny_collection):
    return targets.collections.load(tiny_collection)


def test_states_are_computed_once_and_kept_by_layers(student, data_folder, monkeypatch):
    first = np.array(found(student))
    counted = []
    monkeypatch.setattr(scoring, "score", lambda *_, **__: counted.append(1))
    np.testing.assert_array_equal(found(vary(student, seed=3, learning_rate=1.0)), first)
    assert not counted and len(list((data_folder / "teacher_states").glob("[0-9a-f]*"))) == 1
    monkeypatch.undo()
    monkeypatch.setenv("STUDY_DATA", str(data_folder))
    other = found(vary(student, strategy=strategies.named("ardir", layers=(1,))))
    assert other.shape == first.shape and (other != first).mean() > 0.9


@pytest.mark.parametrize(("layers", "own", "teachers", "chosen"), [
    ("share", 3, 12, (4, 8, 12)), ("share", 3, 6, (2, 4, 6)), ("share", 4, 6, (2, 3, 5, 6)),
    ("share", 2, 1, (1, 1)), ("all", 2, 3, (1, 2, 3)), ((4, 8, 12), 3, 12, (4, 8, 12)), ((2, -1), 2, 6, (2, 6)),
])  # fmt: skip
def test_which_layers_of_the_teacher(layers, own, teachers, chosen):
    assert strategies.named("ardir", layers=layers).teacher_layers(own, teachers) == chosen


def test_a_layer_that_the_teacher_lacks_is_refused():
    for layer in (7, -7):
        with pytest.raises(ValueError, match=rf"layers=\({layer},\): the teacher has layers 1 to 6"):
            strategies.named("ardir", layers=(layer,)).teacher_layers(3, 6)


def plain(**fields):
    terms = Term(losses.kl, "teacher"), Term(representations.matching, STATES)
    return Strategy(**{"name": "own", "paradigm": "distillation", "terms": terms} | fields)


def hidden(loss, **fields):
    return plain(terms=(Term(losses.kl, "teacher"), Term(loss, STATES)), **fields)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: plain(layers=(0,)), r"layers=\(0,\): give numbers from 1 \(-1: the last\)"),
    (lambda: plain(layers=()), r"layers=\(\): give numbers"),
    (lambda: plain(layers="some"), "layers='some': give numbers"),
    (lambda: plain(layers=[1]), r"layers=\[1\]: give numbers"),
    (lambda: plain(align="order"), "'order' is a str: give a function"),
    (lambda: plain(terms=(Term(losses.kl, "teacher"),), layers="all"), "layers and align are of hidden states"),
    (lambda: plain(terms=plain().terms[::-1]), "hidden states train no scoring head: begin with a Term on scores"),
    (lambda: plain(columns=losses.kl), "a 'teacher' would not be read"),
    (lambda: Term(losses.kl, "teacher", part=parts.projected), "scores have no trained part"),
    (lambda: Term(representations.matching, STATES, part=torch.nn.Linear(2, 2)), "Linear: give a function"),
    (lambda: hidden(lambda states, targets: states.mean()), "must be one finite value per query"),
    (lambda: hidden(lambda states, targets: targets.mean((1, 2, 3))), "no gradient reaches the states"),
    (lambda: hidden(lambda states, targets: states.sub_(targets).mean((1, 2, 3))), "changes its states or targets in"),
    (lambda: strategies.named("kl", layers=(1,)), "strategy kl: no parameter 'layers'"),
    (lambda: strategies.named("afd", size=0.5), "size=0.5 has the wrong type"),
        (lambda: strategies.named("afd", size=0), "size=0 is impossible; give a whole number of at least 1"),
        (lambda: strategies.named("wcord", epsilon=0), "epsilon=0 is impossible; give a finite number above 0"),
])  # fmt: skip
def test_what_is_no_strategy_of_states_is_refused_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_named_strategy_takes_layers_and_parameters_of_its_parts():
    changed = strategies.named("afd", size=16, layers=(2, 4))
    assert changed.name == "afd(layers=(2, 4), size=16)" and changed.layers == (2, 4)
    assert changed.terms[1].part == strategies.bind(parts.layer_attention, size=16)


def test_layers_align_and_parts_tell_runs_apart(student):
    changed = [
        "ardir", "afd", "wcord", "consistent", "kl", strategies.named("ardir", layers="all"), plain(),
        strategies.named("afd", size=16), strategies.named("wcord", epsilon=0.2), plain(align=representations.permuted),
        plain(layers=(1,)),
    ]  # fmt: skip
    keys = [vary(student, strategy=one).key for one in changed]
    assert keys[3] == keys[9] and len(set(keys)) == len(changed) - 1


@pytest.mark.parametrize("architecture", ["dot", "colbert", "prettr", "tk"])
def test_architectures_without_states_of_pairs_are_refused_by_name(student, experiment, architecture):
    with pytest.raises(ValueError, match=f"'ardir' compares.*model with architecture='{architecture}' gives none"):
        vary(student, model=vary(experiment, architecture=architecture).model)
    with pytest.raises(ValueError, match=f"teacher with architecture='{architecture}' gives none of a pair; give arch"):
        vary(student, teacher=vary(experiment, architecture=architecture))


def test_several_teachers_and_score_files_are_refused(student, teacher):
    with pytest.raises(ValueError, match=r"teacher=\(.*: give one model, no score file"):
        vary(student, teacher=(teacher, teacher))
    with pytest.raises(ValueError, match="teacher='scores.tsv': give one model, no score"):
        vary(student, teacher="scores.tsv")


def test_what_does_not_fit_the_teacher_is_refused_before_anything_is_computed(student, wide, experiment, tmp_path):
    dot = models.build("dot", experiment.model.backbone, None, 0)
    dot.save(tmp_path / "dot", backbone.tokenizer(experiment.model.backbone), 48)
    for changes, message in (
        ({"strategy": strategies.named("ardir", layers=(3,))}, "the teacher has layers 1 to 2"),
        ({"strategy": strategies.named("ardir", layers=(1, 2))}, "2 layers of a teacher, and the student has 1"),
        ({"strategy": plain(), "teacher": wide}, "differ in width: give a part that projects"),
        ({"teacher": str(tmp_path / "dot")}, "dot gives no hidden states of a pair; give a cross-encoder"),
    ):
        with pytest.raises(ValueError, match=message):
            checks.check([vary(student, **changes)], [])
    narrow = vary(student, strategy="consistent", backbone=str(Path(wide).parent / "backbone"))
    with pytest.raises(ValueError, match="width 32 has too few channels for a student of width 48"):
        checks.check([narrow], [])


@pytest.mark.parametrize("name", NAMES)
def test_a_student_learns_its_teachers_states_and_scores(name, student, teacher):
    """Above its start: its states are nearer to the teacher's, and its scores too, on the documents that it learns."""
    run = vary(student, strategy=name, layers=None, epochs=25, learning_rate=3e-3)
    history = kit.history(run)
    assert history["loss"].tail(8).mean() < 0.8 * history["loss"].head(8).mean()
    groups = kit.training_groups(run)
    values = []
    for ranker in (kit.start(run), kit.model(run)):
        read = rankers.inputs(ranker, targets.collections.load(run.data.collection), run.model)
        scores = scoring.score(ranker, read, groups.queries[:, None], groups.documents)
        of_teacher = groups.targets["teacher"]
        values.append(np.mean([np.corrcoef(*rows)[0, 1] for rows in zip(scores, of_teacher, strict=True)]))
    assert values[1] > values[0] + 0.2


def test_of_equal_layers_the_states_come_near(student, teacher, float32):
    run = vary(student, layers=None, epochs=25, learning_rate=3e-3)
    distances = []
    for ranker in (kit.start(run), kit.model(run)):
        groups = kit.training_groups(run)
        read = rankers.inputs(ranker, targets.collections.load(run.data.collection), run.model)
        own = scoring.score(ranker, read, groups.queries[:, None], groups.documents, layers=(1, 2))
        distances.append(representations.matching(*map(torch.tensor, (own, groups.targets[STATES]))).mean().item())
    assert distances[1] < 0.6 * distances[0]


@pytest.mark.parametrize("name", ["ardir", "afd", "wcord"])
def test_a_model_of_another_width_that_is_no_run_teaches(name, student, wide):
    run = vary(student, strategy=name, teacher=wide, epochs=4)
    assert np.isfinite(kit.history(run)["loss"]).all()
    layers = {"ardir": 1, "afd": 4, "wcord": 1}[name]
    assert found(run).shape == (16, 3, layers, 48)
    names = set(kit.model(run).state_dict())  # nothing of the part is kept
    assert names == set(kit.start(run).state_dict())
    trained = runs.costs(run).set_index("measure")["value"]["trained_parameters"]
    assert trained == sum(weight.numel() for weight in kit.start(run).parameters() if weight.requires_grad)


def test_channels_are_those_of_the_students_start(student, teacher, experiment):
    run, unordered = (vary(student, strategy=name, layers=None) for name in ("consistent", plain()))
    own, other = found(run), found(unordered)
    np.testing.assert_array_equal(np.sort(own, axis=-1), np.sort(other, axis=-1))
    assert (own != other).any()
    collection = targets.collections.load(run.data.collection)
    start = targets.teacher_scores(run.before, kit.training_groups(run), collection, layers=(1, 2))
    np.testing.assert_array_equal(own, representations.permuted(other, start))
    itself = vary(run, teacher=run.before)  # its own start: the map is the identity
    np.testing.assert_array_equal(found(itself), found(vary(itself, strategy=plain())))


@pytest.mark.parametrize("adapter", [Adapter("lora", 2), Adapter("prefix", 2)])
def test_a_student_with_an_adapter_compares_states(student, adapter):
    history = kit.history(vary(student, strategy="afd", adapter=adapter, epochs=10))
    assert history["loss"].tail(8).mean() < history["loss"].head(8).mean()


def test_a_head_that_reads_the_mean_gives_the_means_of_its_layers(tmp_path, tiny_backbone):
    config = transformers.ModernBertConfig(
        vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, pad_token_id=0,
        cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3, classifier_pooling="mean",
    )  # fmt: skip
    transformers.ModernBertModel(config).save_pretrained(tmp_path)
    backbone.tokenizer(tiny_backbone).save_pretrained(tmp_path)
    model = models.build("cat", str(tmp_path), None, 0).eval()
    tokens = {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
    }
    with torch.no_grad():
        scores, states = model(tokens, 2, states=True)
        inner = model.transformer
        read = inner.classifier(inner.head(states[:, :, -1]))
    torch.testing.assert_close(read.squeeze(-1).float(), scores)
