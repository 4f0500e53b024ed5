"""A recipe with several seeds, really trained: one adapter each, and verdicts on all of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from statistics import fmean

import pytest

from harness.errors import AdapterMissing, GateError, TrainingError
from harness.pipeline import Places, PlanningSession, Session
from harness.records import Outcome, Run
from harness.report import read_report, report_html, report_json
from harness.store import read_scores, scores_json


@pytest.fixture(scope="session")
def several(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Session]:
    """The tiny project with a second recipe of three seeds, of which seed 0 is in the store; and its first run."""
    root = Path(shutil.copytree(trained, tmp_path_factory.mktemp("several") / "project"))
    folder = root / "fixtures" / "recipes"
    text = (folder / "animals.yaml").read_text().replace("name: animals", "name: litter")
    text = re.sub(r"^seed:.*\n", "", text, flags=re.M) + "\nseeds: [0, 1, 2]\n"
    (folder / "litter.yaml").write_text(re.sub(r"num_train_epochs: \d+", "num_train_epochs: 10", text))
    session = Session(Places.below(root), environ={})
    measures = session.open("litter").classification()
    session.gate("litter", measures.accuracy, test="suites/test_a.py::test_it[litter]", at_least=0.5)
    session.gate(
        "litter", measures.macro_f1, test="suites/test_a.py::test_it[litter]", compared_with="base", min_gain=0.01
    )
    session.close()
    return root, session.finish(), session


def test_each_seed_has_an_adapter_of_its_own(several: tuple[Path, Run, Session]) -> None:
    root, run, _ = several
    (recipe,) = run.recipes
    assert [one.seed for one in recipe.seeds] == [0, 1, 2]
    assert len({one.adapter_digest for one in recipe.seeds}) == 3
    ranked = sorted(recipe.seeds, key=lambda one: one.validation_loss)
    assert [one.promotable for one in ranked] == [False, True, False]
    assert recipe.adapter_digest == ranked[1].adapter_digest
    # Seed 0 was there already, under the fingerprint of the recipe that has it alone.
    alone = Session(Places.below(root), environ={}, allow_training=False).open("animals").adapter()
    assert alone.digest == recipe.seeds[0].adapter_digest
    assert len(list((root / ".harness" / "adapters").iterdir())) == 3
    assert recipe.from_store is False


def test_verdicts_are_on_the_mean_of_the_seeds(several: tuple[Path, Run, Session]) -> None:
    _, run, session = several
    (recipe,) = run.recipes
    accuracy, gain = (gate.verdict for gate in recipe.gates)
    (scores,) = (s for s in session.scores()["litter"] if (s.measure, s.view) == ("classification.accuracy", "adapter"))
    shares = [fmean(one.values) for one in scores.replicates]
    assert len(shares) == 3
    assert accuracy.value == pytest.approx(fmean(shares))
    assert accuracy.outcome is Outcome.PASS
    assert "on 24 examples and 3 seeds" in accuracy.reason
    assert "mean over 3 seeds (standard deviation between them" in accuracy.method
    assert "mean over 3 seeds" in gain.method
    measured = {(m.name, m.view): m for m in recipe.measures}
    assert measured["classification.accuracy", "adapter"].value == accuracy.value
    assert {view for _, view in measured} == {"base", "adapter"}


def test_every_adapter_is_checked(several: tuple[Path, Run, Session]) -> None:
    _, run, _ = several
    (recipe,) = run.recipes
    names = [check.name for check in recipe.integrity]
    assert len(names) == len(set(names))
    assert len(names) % 3 == 0
    others = [one.seed for one in recipe.seeds if not one.promotable]
    for seed in others:
        assert sum(name.endswith(f": adapter, seed {seed}") for name in names) == len(names) / 3


def test_seeds_are_in_the_report_and_in_the_scores_of_the_record(several: tuple[Path, Run, Session]) -> None:
    _, run, session = several
    assert read_report(report_json(run)) == run
    html = report_html(run)
    assert "seed 1" in html
    assert html.count("the one to promote") >= 1
    kept = session.scores()
    assert read_scores(scores_json(kept)) == kept


def test_early_stopping_is_refused(several: tuple[Path, Run, Session]) -> None:
    root, _, _ = several
    for session in (Session(Places.below(root), environ={}, allow_training=False), PlanningSession(Places.below(root))):
        measure = session.open("litter").generation().exact_match
        with pytest.raises(GateError, match=r"early_stop bets on one adapter's examples, and the recipe trains 3"):
            session.gate("litter", measure, test="t", at_least=0.5, early_stop=True)


def test_data_and_base_are_read_once_for_all_seeds(several: tuple[Path, Run, Session]) -> None:
    run = Session(Places.below(several[0]), environ={}).open("litter")
    member = run.of_seed(1)
    assert member.splits is run.splits
    assert member.base is run.base
    assert member.data_digests is run.data_digests


def test_the_next_run_trains_nothing(several: tuple[Path, Run, Session]) -> None:
    root, run, _ = several
    session = Session(Places.below(root), environ={}, allow_training=False)
    assert session.open("litter").adapter().digest == run.recipes[0].adapter_digest
    assert session.open("litter").from_store is True


def test_a_missing_seed_is_not_made_up_for(several: tuple[Path, Run, Session], tmp_path: Path) -> None:
    root, _, _ = several
    session = Session(Places.below(root, store=tmp_path / "empty"), environ={}, allow_training=False)
    with pytest.raises(AdapterMissing, match="litter: no adapter with fingerprint"):
        session.open("litter").adapter()


def test_an_adapter_without_validation_loss_is_not_chosen_from() -> None:
    from harness.pipeline.seeds import Seeded
    from harness.store import Adapter

    bad = Adapter(Path("x"), "f", "d", {"validation_loss": []})
    with pytest.raises(TrainingError, match="its manifest has no validation loss"):
        Seeded.trained([0, 1], lambda seed: (bad, True))


def test_the_lower_of_two_in_the_middle_is_chosen() -> None:
    from harness.pipeline.seeds import Seeded
    from harness.store import Adapter

    losses = {4: 0.5, 5: 0.2, 6: 0.9, 7: 0.4}
    made = Seeded.trained(
        list(losses), lambda seed: (Adapter(Path("x"), "f", str(seed), {"validation_loss": [[1, losses[seed]]]}), True)
    )
    assert made.chosen.seed == 7
    assert list(made.views) == ["adapter, seed 4", "adapter, seed 5", "adapter, seed 6", "adapter"]
