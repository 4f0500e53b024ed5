"""MLflow against its own tracking server with its SQLite store, Weights & Biases in offline mode."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_runs

from harness.records import Outcome
from harness.report import report_html, report_json, summary_md
from harness.tracking import AliasMove, TrackingSettings, follow_promotion, track_run

TICKETS = report_runs.gates(report_runs.verdict(), report_runs.comparison(), recipe="tickets")
RUN = report_runs.run(report_runs.recipe(), report_runs.recipe(name="tickets", gates=TICKETS))
PATIENT = 120.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a tracking server, and the folder with its store and artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (folder / "server.log").open("wb")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'store.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENT
        while not _healthy(address):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield address, folder
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def mlflow(server: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> MlflowServer:
    return MlflowServer(*server, tmp_path, request.node.name)


class MlflowServer:
    """Sends to the server, each test into an experiment of its own, and reads what it keeps."""

    def __init__(self, address: str, folder: Path, work: Path, experiment: str) -> None:
        from mlflow.tracking import MlflowClient

        self.address, self.folder, self.work, self.experiment = address, folder, work, experiment
        self.client: Any = MlflowClient(tracking_uri=address)
        self.environ = {**os.environ, "MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": experiment}
        self.settings = TrackingSettings(("mlflow",), PATIENT)

    def send(self, run: Any, files: list[Path]) -> str:
        (note,) = track_run(run, files, self.settings, folder=self.work, environ=self.environ)
        assert note.ok, note.text
        return note.text

    def follow(self, promotion: AliasMove, environ: dict[str, str] | None = None) -> str:
        (note,) = follow_promotion(promotion, self.settings, folder=self.work, environ=environ or self.environ)
        assert note.ok, note.text
        return note.text

    def runs(self) -> dict[str, Any]:
        found = self.client.get_experiment_by_name(self.experiment)
        runs = self.client.search_runs([found.experiment_id])
        return {run.data.tags["harness.recipe"]: run for run in runs}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The files of RUN's report."""
    texts = {"report.html": report_html(RUN), "report.json": report_json(RUN), "summary.md": summary_md(RUN)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [tmp_path / name for name in texts]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"\x00weights")
    (folder / "manifest.json").write_text("{}")
    (tmp_path / "attestation.json").write_text('{"payloadType": "x"}')
    return folder


def promotion(adapter: Path, **changes: Any) -> AliasMove:
    known = AliasMove(
        recipe="invoices",
        alias="production",
        run_id=RUN.run_id,
        adapter_digest="ad" * 32,
        adapter=adapter,
        attestation=adapter.parent / "attestation.json",
        counter=1,
    )
    return dataclasses.replace(known, **changes)


def test_mlflow_keeps_all_of_a_run(mlflow: MlflowServer, files: list[Path]) -> None:
    link = mlflow.send(RUN, files)
    runs = mlflow.runs()
    assert set(runs) == {"invoices", "tickets"}
    run = runs["invoices"]
    assert link == f"{mlflow.address}/#/experiments/{run.info.experiment_id}"
    assert run.info.run_name == "invoices 20261123-140712-a4f1"
    assert run.info.status == "FINISHED"
    assert run.info.start_time == 1795442832000  # 2026-11-23T14:07:12Z
    assert run.info.end_time - run.info.start_time == 1084200
    assert run.data.params["lora.r"] == "16"
    assert run.data.tags["harness.adapter_digest"] == "ad" * 32
    assert run.data.tags["harness.data.test.sha256"] == "da" * 32
    assert run.data.tags["gate/invoices/test_it/0"] == "pass"
    assert run.data.metrics["classification.macro_f1/adapter"] == 0.912
    assert run.data.metrics["classification.macro_f1/base"] == 0.211
    assert run.data.metrics["gates/pass"] == 2
    curve = mlflow.client.get_metric_history(run.info.run_id, "loss/train")
    assert [(point.step, point.value) for point in curve] == [(1, 2.5), (100, 0.25)]
    validation = mlflow.client.get_metric_history(run.info.run_id, "loss/validation")
    assert [(point.step, point.value) for point in validation] == [(50, 0.5), (100, 0.4)]
    artifacts = mlflow.folder / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts"
    gates = json.loads((artifacts / "gates.json").read_text())["gates"]
    assert [(gate["rule"], gate["outcome"], gate["low"]) for gate in gates] == [
        ("at least 0.900", "pass", 0.88),
        ("drop vs base at most 0.050", "pass", 0.69),
    ]
    for file in files:
        assert (artifacts / "report" / file.name).read_bytes() == file.read_bytes()


def test_mlflow_keeps_it_in_its_sqlite_store(mlflow: MlflowServer, files: list[Path]) -> None:
    mlflow.send(RUN, files)
    with sqlite3.connect(mlflow.folder / "store.db") as store:
        found = store.execute(
            "select m.value from latest_metrics m join runs r using (run_uuid) join experiments e using (experiment_id)"
            " where e.name = ? and r.name like 'invoices %' and m.key = 'classification.macro_f1/adapter'",
            [mlflow.experiment],
        ).fetchall()
    assert found == [(0.912,)]


def test_mlflow_takes_names_and_texts_of_every_kind(mlflow: MlflowServer) -> None:
    label = "classification.f1[café / <b>bar</b> §1]"
    verdict = report_runs.verdict(Outcome.FAIL, measure=label, reason="‮\x1b[31mred")
    gates = report_runs.gates(*[verdict] * 150)  # more tags than one request may have
    measures = tuple(report_runs.measure(f"{label}#{k}", "adapter", 0.5) for k in range(300))  # and more metrics
    config = {f"key {k} (x)": "v" * 9_000 for k in range(120)}
    recipe = report_runs.recipe(gates=gates, measures=measures, config=config, problem="it broke\nin two lines")
    mlflow.send(report_runs.run(recipe, outcome=Outcome.FAIL), [])
    run = mlflow.runs()["invoices"]
    assert len(run.data.params) == 120
    assert sum(tag.startswith("gate/") for tag in run.data.tags) == 150
    assert sum(value == 0.5 for value in run.data.metrics.values()) == 300
    assert run.data.tags["harness.problem"] == "it broke\nin two lines"


def test_the_alias_follows_a_promotion_and_a_rollback(mlflow: MlflowServer, files: list[Path], adapter: Path) -> None:
    mlflow.send(RUN, files)
    name = "invoices"
    link = mlflow.follow(promotion(adapter))
    version = mlflow.client.get_model_version_by_alias(name, "production")
    assert link == f"{mlflow.address}/#/models/invoices/versions/{version.version}"
    # The version stands on the run that was kept of it, which now has the adapter's very files.
    kept = mlflow.runs()["invoices"].info
    assert version.run_id == kept.run_id
    artifacts = mlflow.folder / "artifacts" / kept.experiment_id / kept.run_id / "artifacts"
    assert (artifacts / "adapter" / "adapter_model.safetensors").read_bytes() == b"\x00weights"
    assert (artifacts / "attestation" / "attestation.json").read_text() == '{"payloadType": "x"}'
    assert version.tags["harness.adapter_digest"] == "ad" * 32
    assert version.tags["harness.promoted.counter"] == "1"

    second = promotion(adapter, adapter_digest="be" * 32, run_id="20261124-000000-1", counter=2)
    mlflow.follow(second)
    newer = mlflow.client.get_model_version_by_alias(name, "production")
    assert newer.version != version.version
    assert newer.run_id != version.run_id  # of that run there was no copy, so one was made for the adapter
    assert mlflow.client.get_run(newer.run_id).info.status == "FINISHED"

    mlflow.follow(promotion(adapter, counter=3))  # rolled back: no third version
    back = mlflow.client.get_model_version_by_alias(name, "production")
    assert back.version == version.version
    assert back.tags["harness.promoted.counter"] == "3"
    assert len(mlflow.client.search_model_versions(f"name='{name}'")) == 2


def test_an_alias_that_mlflow_refuses_is_a_note(mlflow: MlflowServer, adapter: Path) -> None:
    refused = promotion(adapter, recipe="other", alias="latest", attestation=None)
    (note,) = follow_promotion(refused, mlflow.settings, folder=mlflow.work, environ=mlflow.environ)
    assert not note.ok
    assert "latest" in note.text


def test_an_adapter_that_is_gone_leaves_no_version(mlflow: MlflowServer, tmp_path: Path) -> None:
    gone = promotion(tmp_path / "gone", recipe="unmade", attestation=None)
    (note,) = follow_promotion(gone, mlflow.settings, folder=mlflow.work, environ=mlflow.environ)
    assert (note.ok, note.text) == (False, f"{tmp_path / 'gone'}: the adapter's folder is not there")
    assert list(mlflow.client.search_model_versions("name='unmade'")) == []


# ---- Weights & Biases


def offline(folder: Path) -> dict[str, str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    return {**environ, "WANDB_MODE": "offline", "WANDB_PROJECT": "mine", "HOME": str(folder)}


def wandb_records(folder: Path) -> list[list[Any]]:
    """The records of each offline run, read from its transaction log.

    The log has 7 bytes of its own, then blocks of 32 KiB of chunks, as LevelDB's: checksum (4), length (2), kind
    (1: whole, 2: first, 3: middle, 4: last), data.
    """
    from wandb.proto import wandb_internal_pb2

    runs = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        content, at, data, records = file.read_bytes(), 7, b"", []
        while at < len(content):
            left = 32768 - at % 32768
            if left < 7:
                at += left
                continue
            length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
            data += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                record = wandb_internal_pb2.Record()
                record.ParseFromString(data)
                records.append(record)
                data = b""
        runs.append(records)
    return runs


def of_kind(records: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def item_values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_wandb_keeps_all_of_a_run(tmp_path: Path, files: list[Path]) -> None:
    settings = TrackingSettings(("wandb",), PATIENT)
    (note,) = track_run(RUN, files, settings, folder=tmp_path, environ=offline(tmp_path))
    assert note.ok, note.text
    assert note.text.startswith("wandb/offline-run-")
    assert note.text.endswith(" and 1 more")
    by_name = {of_kind(records, "run")[0].display_name: records for records in wandb_records(tmp_path)}
    assert set(by_name) == {"invoices 20261123-140712-a4f1", "tickets 20261123-140712-a4f1"}
    records = by_name["invoices 20261123-140712-a4f1"]
    run = of_kind(records, "run")[0]
    assert (run.project, run.run_group, run.job_type) == ("mine", RUN.run_id, "gates")
    config = item_values(run.config.update)
    assert config["recipe"]["lora.r"] == "16"
    assert config["harness"]["harness.adapter_digest"] == "ad" * 32
    history = [item_values(record.item) for record in of_kind(records, "history")]
    curve = {entry["_step"]: entry for entry in history}
    assert {step: entry["loss/train"] for step, entry in curve.items() if "loss/train" in entry} == {1: 2.5, 100: 0.25}
    assert {step: entry["loss/validation"] for step, entry in curve.items() if "loss/validation" in entry} == {
        50: 0.5,
        100: 0.4,
    }
    summary: dict[str, Any] = {}
    for record in of_kind(records, "summary"):
        summary |= item_values(record.update)
    assert summary["outcome"] == "pass"
    assert summary["classification.macro_f1/adapter"] == 0.912
    assert summary["classification.macro_f1/adapter/n"] == 360
    tables = [json.loads(p.read_text()) for p in tmp_path.glob("wandb/offline-run-*/files/media/table/gates*.json")]
    assert len(tables) == 2
    assert tables[0]["columns"][:5] == ["id", "measure", "view", "rule", "outcome"]
    assert [row[4] for row in tables[0]["data"]] == ["pass", "pass"]
    reports = [a for a in of_kind(records, "artifact") if a.type == "report"]
    assert [entry.path for entry in reports[0].manifest.contents] == [file.name for file in files]


def test_wandb_keeps_a_promoted_adapter_under_its_alias(tmp_path: Path, adapter: Path) -> None:
    settings = TrackingSettings(("wandb",), PATIENT)
    (note,) = follow_promotion(promotion(adapter), settings, folder=tmp_path, environ=offline(tmp_path))
    assert note.ok, note.text
    (records,) = wandb_records(tmp_path)
    (model,) = of_kind(records, "artifact")
    assert (model.name, model.type, set(model.aliases)) == ("invoices", "model", {"latest", "production"})
    assert json.loads(model.metadata)["adapter_digest"] == "ad" * 32
    assert {entry.path for entry in model.manifest.contents} == {
        "adapter/adapter_model.safetensors",
        "adapter/manifest.json",
        "attestation/attestation.json",
    }
