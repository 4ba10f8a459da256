"""Files of teacher scores, the published and the kit's own: read in one pass, looked up, written.

A file may hold tens of millions of rows, so it is read block by block; what is in memory depends on the size of a
block, never on the number of rows. Ids are strings: "007" stays "007", and a number in JSON becomes its digits.

Layouts, and who uses them (`ID_LAYOUTS` hold ids, the others texts):

- `pairs`: `pos_score neg_score query_id pos_id neg_id`, tab-separated, no header: the teacher files of 2010.02666,
  about 40 million rows (https://zenodo.org/record/4068216, https://github.com/sebastian-hofstaetter/neural-ranking-kd).
- `texts`: the same with `query_text pos_text neg_text`, what that repository's teacher_id_to_text.py writes.
- `lists`: `{"query_id", "document_ids": [...], "scores": [...]}`, PyLate's distillation layout, for instance
  https://huggingface.co/datasets/lightonai/ms-marco-en-bge with 32 candidates. Which one is relevant is not said.
- `tevatron`: `{"query_id", "positive_passages": [{"docid", "score"}, ...], "negative_passages": [...]}`, Tevatron's
  with a score a passage, for instance https://huggingface.co/datasets/rlhn/default-680K-bge-reranker-v2-gemma.
- `tuples`: `{"query", "positive", "negative_1", ..., "negative_n", "scores": [...]}`, what sentence-transformers'
  `mine_hard_negatives(output_format="n-tuple", output_scores=True)` gives; `negative` alone, `score` for `scores`,
  `anchor` or `question` for `query` and `answer` for `positive` are read as well
  (https://sbert.net/docs/package_reference/util/hard_negatives.html).
- `flag`: `{"query", "pos": [...], "neg": [...], "pos_scores": [...], "neg_scores": [...]}`, FlagEmbedding's, for
  instance https://huggingface.co/datasets/Shitao/bge-m3-data.

The last four are JSON lines or parquet; other keys are ignored. `tevatron` and `flag` rows with several positives give
a row each, with the same negatives. But for `lists`, column 0 is the positive, as everywhere in the kit. Files of
margins alone (sentence-transformers/msmarco, bert-ensemble-margin-mse) hold no score of a document and are not read.
"""

from lib.data.score_files.blocks import fingerprint, is_file_name
from lib.data.score_files.faults import ScoreFileError
from lib.data.score_files.lookup import scores_of
from lib.data.score_files.reading import ROWS_AT_ONCE, layout_of, read
from lib.data.score_files.rows import ID_LAYOUTS, LAYOUTS, Chunk, Known, Report
from lib.data.score_files.writing import write

__all__ = [
    "ID_LAYOUTS", "LAYOUTS", "ROWS_AT_ONCE", "Chunk", "Known", "Report", "ScoreFileError", "fingerprint",
    "is_file_name", "layout_of", "read", "scores_of", "write",
]  # fmt: skip
