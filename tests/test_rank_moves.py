"""Ranks of relevant documents under two rankers, and their figure."""

import pandas as pd

from lib.analysis import rank_moves


def table(*scores):
    return pd.DataFrame({"query": "q", "document": ["a", "b", "c", "d"], "grade": [1, 1, 1, 0], "score": scores})


def test_a_move_is_up_where_the_second_ranker_ranks_higher():
    moves = rank_moves.moves(table(4.0, 3.0, 2.0, 1.0), table(1.0, 3.0, 4.0, 2.0))
    by_document = moves.set_index("document")
    assert by_document[["left", "right"]].T.to_dict("list") == {"a": [1, 4], "b": [2, 2], "c": [3, 1]}
    assert by_document["move"].to_dict() == {"a": "down", "b": "stay", "c": "up"}


def test_a_collection_says_which_grade_is_relevant():
    graded = table(4.0, 3.0, 2.0, 1.0).assign(grade=[2, 1, 3, 0])
    assert list(rank_moves.moves(graded, graded, 2)["document"]) == ["a", "c"]


def test_the_figure_asks_a_question_and_draws_every_kind_of_move():
    moves = rank_moves.moves(table(4.0, 3.0, 2.0, 1.0), table(1.0, 3.0, 4.0, 2.0))
    drawn = rank_moves.figure({("bm25", "kl"): moves, ("kl", "mse"): moves})
    assert drawn._suptitle.get_text().endswith("?") and len(drawn.axes) == 2
    assert all(axes.get_xlabel() for axes in drawn.axes) and drawn.axes[0].get_ylabel()
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == {"up", "down", "stay"}
    first, last = drawn.axes[0].get_ylim()
    assert first > last  # rank 1 is at the top
    assert {line.get_linestyle() for line in drawn.axes[0].lines} == {"-", "--", ":"}
