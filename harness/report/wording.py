"""How the reports say things: numbers, names of measures, verdicts, and text that nobody here wrote."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from harness.records import (
    ADAPTER,
    BASE,
    PROMPTED_BASE,
    GateResult,
    Outcome,
    RecipeResult,
    RuleKind,
    Run,
    Verdict,
)

__all__ = [
    "NOT_MEASURED",
    "VERDICT_WORDS",
    "check_title",
    "clip",
    "correction_in_words",
    "digits_of",
    "driver_lines",
    "drivers_in_words",
    "duration",
    "failed_first",
    "format_value",
    "glossary",
    "headline",
    "integrity_in_words",
    "interval",
    "is_ready",
    "judge_in_words",
    "judge_is_fit",
    "judging_in_words",
    "measure_title",
    "moment",
    "named_right",
    "number",
    "one_line",
    "ordered_views",
    "recipe_headline",
    "recipe_is_ready",
    "signed",
    "slice_in_words",
    "stand_in",
    "target",
    "typographic",
    "used_in_words",
    "view_title",
    "visible",
]

NOT_MEASURED = "not measured"

VERDICT_WORDS = {
    Outcome.PASS: "passed",
    Outcome.NOT_APPLICABLE: "not applicable",
    Outcome.FAIL: "failed",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.INCOMPLETE: "incomplete",
}

_WORST_FIRST = (Outcome.FAIL, Outcome.INCOMPLETE, Outcome.INCONCLUSIVE, Outcome.NOT_APPLICABLE, Outcome.PASS)

# Gates take numbers closer than this for equal, so no digit is worth showing beyond it.
_ROUNDING = 1e-9
_MOST_DIGITS = 6

_LONGEST_IN_A_LIST = 60

_MINUS = "\N{MINUS SIGN}"

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_VIEW_TITLES = {BASE: "base", PROMPTED_BASE: "prompted base", ADAPTER: "adapter"}

_MEASURE_WORDS = {
    "accuracy": "Accuracy",
    "accuracy_norm": "Accuracy (length-normalised)",
    "bleu": "BLEU",
    "chrf": "chrF",
    "ends_with_line": "Ends with the line",
    "exact_match": "Exact match",
    "f1": "F1",
    "field_match": "Field match",
    "finished": "Finished answers",
    "full_match": "Full match",
    "json_schema": "Follows the JSON Schema",
    "macro_f1": "Macro F1",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "markdown_sections": "Has the sections",
    "matches": "Matches",
    "max_words": "Word limit kept",
    "micro_f1": "Micro F1",
    "robustness": "Robustness of the judge",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "weighted_f1": "Weighted F1",
    "win_rate": "Win rate",
}

_CHECK_TITLES = {
    "keys_loaded": "Every weight of the adapter is loaded, and none that the model does not know",
    "weights_not_zero": "Some B matrix is not zero",
    "weights_finite": "Its weights are finite",
    "tokenizer_unchanged": "Tokenizer and chat template are those of the base",
    "logits_finite": "Logits are finite, with the adapter and without",
    "logits_changed": "Switching the adapter on changes logits",
    "steps_complete": "Training made all its steps",
    "loss_fell": "Training loss fell",
}

_GLOSSARY = {
    "accuracy": "Share of the examples that were answered right.",
    "accuracy_norm": "Accuracy where the likelihood of an answer is divided by its length first.",
    "bleu": "Overlap of word sequences between the answer and the expected text, 0 to 1.",
    "chrf": "Overlap of character sequences between the answer and the expected text, 0 to 1.",
    "exact_match": "Share of the answers that are the expected text.",
    "f1": "Balance of precision (how often a prediction is right) and recall (how much is found), 0 to 1.",
    "field_match": "Share of the answers in which one field has the expected value.",
    "finished": "Share of the answers that ended on their own, not at the length limit.",
    "macro_f1": "F1 of every category, averaged so that a rare category counts as much as a frequent one.",
    "micro_f1": "F1 over all examples together, so that frequent categories count more.",
    "precision": "Of the examples given this category, the share that belong to it.",
    "recall": "Of the examples that belong to this category, the share that were given it.",
    "robustness": "Share of the attacks in an answer that do not get it a better grade from the judge.",
    "rouge1": "Overlap of words between the answer and the expected text, 0 to 1.",
    "rouge2": "Overlap of word pairs between the answer and the expected text, 0 to 1.",
    "rougeL": "Longest common sequence of words of the answer and the expected text, 0 to 1.",
    "score": "The judge's grade of the answers, from 1 (worst) to 5 (best).",
    "weighted_f1": "F1 of every category, averaged in proportion to how frequent the category is.",
    "win_rate": "Share of the examples on which a blind judge prefers the answer; a tie counts one half.",
}


# ---- text


def visible(text: str) -> str:
    """`text` with every character that hides, moves or turns other text replaced by a name for it.

    Line feeds and tabs stay, and the joiners that scripts and emoji need. Control characters become
    their control pictures, the rest e.g. [U+202E].
    """
    if text.isprintable():  # the common case; no character that is replaced below counts as printable
        return text
    return "".join(map(_visible_character, text.replace("\r\n", "\n")))


def _visible_character(character: str) -> str:
    if character in "\n\t\u200c\u200d\u00ad":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    unassigned_forever = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    if unassigned_forever or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"[U+{code:04X}]"
    return character


def clip(text: str, limit: int) -> str:
    """`text`, or its first `limit` characters and how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit:,} more characters, the full text is in report.json]"


def one_line(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters, without hidden characters."""
    start = text[: 4 * limit]
    line = visible(" ".join(start.split()))
    return line if len(line) <= limit and len(start) == len(text) else f"{line[: limit - 1]}…"


# ---- numbers


def digits_of(measure: str) -> int:
    """Decimals of a measure's values: grades of a judge have two, all else three."""
    return 2 if measure.startswith("judge.score") else 3


def number(value: float, digits: int, *, apart_from: float | None = None) -> str:
    """`value` with `digits` decimals, or with more where it would else look equal to `apart_from`.

    0.89996 against a threshold of 0.9 is shown as 0.89996: "0.900 is not at least 0.900" helps nobody.
    """
    text = _fixed(value, digits)
    if apart_from is None or abs(value - apart_from) <= _ROUNDING:
        return text
    while text == _fixed(apart_from, digits) and digits < _MOST_DIGITS:
        digits += 1
        text = _fixed(value, digits)
    return text


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float, digits: int, *, apart_from: float | None = None) -> str:
    """As `number`, with a plus before what is above zero."""
    text = number(value, digits, apart_from=apart_from)
    return f"+{text}" if float(text) > 0 else text


def format_value(value: float | None, measure: str = "") -> str:
    """A measure's value as every report shows it; None is "not measured", never 0."""
    return NOT_MEASURED if value is None else number(value, digits_of(measure))


def interval(low: float | None, high: float | None, digits: int, *, plus: bool = False) -> str:
    """ "[0.880, 0.938]", or "" where there is no interval."""
    if low is None or high is None:
        return ""
    write = signed if plus else number
    return f"[{write(low, digits)}, {write(high, digits)}]"


def typographic(text: str) -> str:
    """With the minus sign that is as wide as the plus, where a hyphen stands before a digit."""
    return re.sub(r"(?<![\w\d])-(?=\d)", _MINUS, text)


def duration(seconds: float) -> str:
    """ "8.2 s", "4 min 12 s", "2 h 5 min"."""
    if seconds < 60 and round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def moment(started_at: str) -> str:
    """ "23 November 2026, 14:07 UTC", or the text itself where it is not an ISO 8601 time."""
    try:
        time = datetime.fromisoformat(started_at)
    except ValueError:
        return started_at
    zone = time.tzname() or ""
    day = f"{time.day} {_MONTHS[time.month - 1]} {time.year}, {time.hour:02d}:{time.minute:02d} {zone}"
    return day.strip()


# ---- names


def view_title(view: str) -> str:
    return _VIEW_TITLES.get(view, view)


def ordered_views(views: Iterable[str]) -> list[str]:
    """base, prompted_base, then others by name, and the adapter last."""
    first = {BASE: 0, PROMPTED_BASE: 1, ADAPTER: 3}
    return sorted(set(views), key=lambda view: (first.get(view, 2), view))


def measure_title(name: str) -> str:
    """A measure's name for people.

    "classification.f1[payroll]" -> "F1: payroll"; "capability.grammar.accuracy" -> "Grammar: accuracy".
    """
    path, parameter = _split(name)
    word = _MEASURE_WORDS.get(path[-1], _sentence(path[-1]))
    if path[0] == "capability" and len(path) == 3:
        title = f"{_sentence(path[1])}: {word[0].lower()}{word[1:]}"
    elif path == ["judge", "score"]:
        title = "Judge score"
    elif path == ["judge", "win_rate"] and parameter:
        return f"{word} against {view_title(parameter)}"
    else:
        title = word
    if "generated" in path[1:-1]:
        title += " (generated answers)"
    return f"{title}: {parameter}" if parameter else title


def glossary(names: Iterable[str]) -> list[tuple[str, str]]:
    """Title and meaning of the measures among `names` that are explained here, by title."""
    found = {}
    for name in names:
        path, _ = _split(name)
        meaning = _GLOSSARY.get(path[-1])
        if meaning is not None:
            word = "Judge score" if path[-1] == "score" else _MEASURE_WORDS.get(path[-1], _sentence(path[-1]))
            found[word] = meaning
    return sorted(found.items(), key=lambda item: item[0].casefold())


def _split(name: str) -> tuple[list[str], str]:
    path, bracket, rest = name.partition("[")
    return path.split("."), rest.removesuffix("]") if bracket else ""


def _sentence(word: str) -> str:
    words = word.replace("_", " ").strip() or word
    return f"{words[:1].upper()}{words[1:]}"


def stand_in(note: str) -> bool:
    return "stand-in" in note.casefold()


# ---- verdicts


def target(verdict: Verdict) -> float | None:
    """Where the bar lies: a threshold on the measure's scale, or a margin on the scale of differences.

    A largest drop of 0.05 lies at -0.05. None where the rule has no number.
    """
    if verdict.compared_with is None:
        return None if verdict.kind is RuleKind.MUST_PASS else verdict.threshold
    if verdict.margin is None or verdict.kind not in (RuleKind.DROP, RuleKind.GAIN):
        return None
    return -verdict.margin if verdict.kind is RuleKind.DROP else verdict.margin


def slice_in_words(verdict: Verdict) -> str:
    """ "where plan=free", "by plan" where no value could be decided, "" for a verdict on the whole test set."""
    if verdict.slice_name is None:
        return ""
    if verdict.slice_value is None:
        return f"by {_short(verdict.slice_name)}"
    return f"where {_short(verdict.slice_name)}={_short(verdict.slice_value)}"


def named_right(verdict: Verdict) -> str:
    """How many of the examples that must pass did, where nothing else was asked."""
    if verdict.value is None:
        return NOT_MEASURED
    return f"{round(verdict.value * verdict.n)} of {verdict.n} right"


def used_in_words(verdict: Verdict) -> str:
    """ "23 of 60 examples" of a gate that may stop early, "60 examples" of any other."""
    if verdict.out_of is None or verdict.n == verdict.out_of:
        return _examples(verdict.n)
    return f"{verdict.n:,} of {_examples(verdict.out_of)}"


def correction_in_words(verdict: Verdict) -> str:
    """Of a fail, what is left of it when the recipe's gates are read together; "" for any other verdict."""
    if verdict.after_holm is None:
        return ""
    return (
        "A fail also after correction for several gates (Holm)."
        if verdict.after_holm
        else "Not after correction for several gates (Holm): of so many, one could miss its bar like this by chance."
    )


def drivers_in_words(verdict: Verdict) -> str:
    """What stands behind a verdict that is not a pass, in a few sentences; "" where that is not known."""
    return " ".join(f"{title}: {text}." for title, text in driver_lines(verdict))


def driver_lines(verdict: Verdict) -> list[tuple[str, str]]:
    """The same as titles and texts: slices, examples, words, as far as they are known."""
    drivers = verdict.drivers
    if drivers is None:
        return []
    lines = []
    if drivers.slices:
        digits = digits_of(verdict.measure)
        whole = "drop" if verdict.kind is RuleKind.DROP else "shortfall"
        shares = [
            f"{_short(share.name)}={_short(share.value)} {number(share.contribution, digits)} ({_examples(share.n)})"
            for share in drivers.slices
        ]
        lines.append((f"Largest parts of the {whole}", ", ".join(shares)))
    if drivers.failing:
        other = view_title(verdict.compared_with or "")
        what = {RuleKind.DROP: f"worse than {other}", RuleKind.GAIN: f"no better than {other}"}
        ids = ", ".join(map(_short, drivers.failing))
        more = drivers.n_failing - len(drivers.failing)
        title = f"{_examples(drivers.n_failing)} {what.get(verdict.kind, 'on the wrong side')}"
        lines.append((title, f"{ids} and {more:,} more" if more > 0 else ids))
    if drivers.terms:
        failing, others = f"{drivers.n_failing:,}", f"{drivers.n_others:,}"
        terms = [
            f"“{_short(term.term)}” in {term.failing} of {failing}, else {term.others} of {others}"
            for term in drivers.terms
        ]
        lines.append(("Words that stand out in them", "; ".join(terms)))
    return lines


def _short(text: str) -> str:
    return one_line(text, _LONGEST_IN_A_LIST)


def _examples(count: int) -> str:
    return f"{count:,} example" if count == 1 else f"{count:,} examples"


def check_title(name: str) -> str:
    """What a check of the adapter's integrity asks, for people."""
    return _CHECK_TITLES.get(name, _sentence(name))


def integrity_in_words(recipe: RecipeResult) -> str:
    """How the checks of the adapter ended, with what was found where one did not pass; "" where there are none."""
    failed = [check for check in recipe.integrity if not check.passed]
    count = len(recipe.integrity)
    if not failed:
        return f"all {count} checks passed" if count else ""
    return f"{len(failed)} of {count} checks failed: {'; '.join(check.detail for check in failed)}"


def judging_in_words(recipe: RecipeResult) -> str:
    """Which judge, how many answers and pairs it judged, and what that cost; "" where none was asked."""
    judging = recipe.judging
    if judging is None:
        return ""
    counts = [f"{judging.graded:,} graded", f"{judging.from_cache:,} known from before"]
    if judging.unscored:
        counts.append(f"{judging.unscored:,} without a grade")
    text = f"{', '.join(judging.judges)}: {', '.join(counts)}"
    if not judging.calls:
        return text
    tokens_in = judging.input_tokens + judging.cache_write_tokens + judging.cache_read_tokens
    text += f"; {judging.calls:,} {'call' if judging.calls == 1 else 'calls'}, {tokens_in:,} tokens in"
    if judging.cache_read_tokens:
        text += f" ({judging.cache_read_tokens:,} from the prompt cache)"
    text += f", {judging.output_tokens:,} out"
    text += "; price not known" if judging.cost_usd is None else f"; ${judging.cost_usd:,.4f}"
    if judging.budget_usd is not None:
        text += f" of ${judging.budget_usd:,.2f}"
    if judging.unknown_calls:
        text += f", at most: {judging.unknown_calls:,} did not say what they used"
    return text


def judge_in_words(recipe: RecipeResult) -> str:
    """How far the recipe's judge agrees with people, in a sentence; "" where no gate asked a judge."""
    known = recipe.calibration
    if not known:
        return ""
    judge, problem = known.get("judge"), known.get("problem")
    if problem is not None:
        return f"{problem}."
    kappa = known.get("kappa")
    if not isinstance(kappa, Mapping):
        return f"{judge}: not calibrated against grades by people."
    figures = [kappa.get(name) for name in ("value", "low", "high")]
    value, low, high = (number(figure, 2) if isinstance(figure, int | float) else NOT_MEASURED for figure in figures)
    return (
        f"{judge} agrees with people's grades of {known.get('examples')} answers at a weighted kappa of {value} "
        f"[{low}, {high}]; the rubric asks for {known.get('min_kappa')}."
    )


def judge_is_fit(recipe: RecipeResult) -> bool:
    """Whether the judge was calibrated and nothing speaks against its grades."""
    known = recipe.calibration
    return known.get("problem") is None and known.get("fit") is True


def failed_first(gates: Iterable[GateResult]) -> list[GateResult]:
    """What needs attention first; within an outcome the order of the run."""
    return sorted(gates, key=lambda gate: _WORST_FIRST.index(gate.verdict.outcome))


def is_ready(run: Run) -> bool:
    """Whether the report may say "ready". Anything missing or contradictory in the run says no."""
    ready = all(recipe_is_ready(recipe) for recipe in run.recipes)
    return bool(run.outcome is Outcome.PASS and run.recipes and ready and not run.problems)


def recipe_is_ready(recipe: RecipeResult) -> bool:
    passed = all(gate.verdict.outcome is Outcome.PASS for gate in recipe.gates)
    sound = all(check.passed for check in recipe.integrity)
    return bool(recipe.gates and passed and sound and recipe.problem is None)


def headline(run: Run) -> str:
    """The run's verdict in a sentence, e.g. "Not ready: 2 of 14 gates failed"."""
    outcomes = [gate.verdict.outcome for recipe in run.recipes for gate in recipe.gates]
    if is_ready(run):
        return f"Ready to promote: {_all_passed(len(outcomes))}"
    as_first = all(recipe_is_ready(recipe) or _ready_as_first(recipe) for recipe in run.recipes)
    if run.outcome is Outcome.NOT_APPLICABLE and as_first and not run.problems:
        return _except_as_first(outcomes)
    reasons = _shortfalls(outcomes)
    stopped = [recipe.name for recipe in run.recipes if recipe.problem is not None]
    ungated = [recipe.name for recipe in run.recipes if not recipe.gates and recipe.problem is None]
    if stopped:
        reasons.append(f"{_recipes(stopped)} did not finish")
    if ungated and outcomes:
        reasons.append(f"{_recipes(ungated)} decided no gate")
    if not reasons:
        reasons.append(f"{_all_passed(len(outcomes))}, but the run is not complete")
    return f"Not ready: {', '.join(reasons)}"


def recipe_headline(recipe: RecipeResult) -> str:
    """The recipe's verdict in a sentence."""
    outcomes = [gate.verdict.outcome for gate in recipe.gates]
    if recipe_is_ready(recipe):
        return f"Ready to promote: {_all_passed(len(outcomes))}"
    if _ready_as_first(recipe):
        return _except_as_first(outcomes)
    if recipe.problem is None:
        reasons = _shortfalls(outcomes) or [_all_passed(len(outcomes)), "but the adapter is not sound"]
    elif not outcomes:
        reasons = ["the recipe did not finish"]
    else:
        reasons = [*(_shortfalls(outcomes) or [_all_passed(len(outcomes))]), "but the recipe did not finish"]
    return f"Not ready: {', '.join(reasons)}"


def _ready_as_first(recipe: RecipeResult) -> bool:
    """Whether nothing is missing but a promoted adapter to compare with."""
    outcomes = {gate.verdict.outcome for gate in recipe.gates}
    sound = recipe.problem is None and all(check.passed for check in recipe.integrity)
    return sound and outcomes == {Outcome.PASS, Outcome.NOT_APPLICABLE}


def _except_as_first(outcomes: list[Outcome]) -> str:
    count = outcomes.count(Outcome.NOT_APPLICABLE)
    return (
        f"Not ready, except as a first promotion: {len(outcomes) - count} of {len(outcomes)} gates passed, "
        f"{count} {'is' if count == 1 else 'are'} not applicable"
    )


def _shortfalls(outcomes: list[Outcome]) -> list[str]:
    if not outcomes:
        return ["no gate was decided"]
    counts = Counter(outcomes)
    gates = "gate" if len(outcomes) == 1 else "gates"
    reasons: list[str] = []
    for outcome in _WORST_FIRST[:-1]:
        count = counts[outcome]
        if count:
            what = f"{count} of {len(outcomes)} {gates}" if not reasons else str(count)
            verb = "" if outcome is Outcome.FAIL else ("is " if count == 1 else "are ")
            reasons.append(f"{what} {verb}{VERDICT_WORDS[outcome]}")
    return reasons


def _all_passed(count: int) -> str:
    return "the one gate passed" if count == 1 else f"all {count} gates passed"


def _recipes(names: list[str]) -> str:
    return one_line(names[0], 60) if len(names) == 1 else f"{len(names)} recipes"
