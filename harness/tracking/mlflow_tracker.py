"""MLflow: one MLflow run a recipe, and the model registry's alias after a promotion. Runs in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

__all__ = ["keep_promotion", "keep_run", "key_name"]

_EXPERIMENT = "adapter-harness"
_MOST_PARAMS = 100
_MOST_METRICS = 1000
_LONGEST_KEY = 250
_DIGEST = "harness.adapter_digest"
# A server's own limits are minutes; the process has less.
_ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def keep_run(run: dict[str, Any], timeout: float) -> str:
    """See `__main__.Tracker`. Curves are metrics with steps; gates are gates.json and a tag each."""
    client, address = _client()
    experiment = _experiment(client)
    ids = [_keep_recipe(client, experiment, recipe, run) for recipe in run["recipes"]]
    place = f"#/experiments/{experiment}"
    return _link(address, f"{place}/runs/{ids[0]}" if len(ids) == 1 else place)


def keep_promotion(promotion: dict[str, Any], timeout: float) -> str:
    """See `__main__.Tracker`. The recipe is the registered model; an adapter promoted again keeps its version."""
    client, address = _client()
    name, digest = promotion["recipe"], promotion["adapter_digest"]
    _registered(client, name)
    known = [v for v in client.search_model_versions(f"name='{name}'") if v.tags.get(_DIGEST) == digest]
    version = known[0].version if known else _new_version(client, promotion)
    for tag in ("run_id", "counter"):
        if promotion[tag] is not None:
            client.set_model_version_tag(name, version, f"harness.promoted.{tag}", str(promotion[tag]))
    client.set_registered_model_alias(name, promotion["alias"], version)
    return _link(address, f"#/models/{name}/versions/{version}")


def key_name(name: str) -> str:
    """A key that MLflow takes, of at most 250 characters, and another one for another name.

    "classification.f1[fee]/adapter" -> "classification.f1.fee/adapter"; where more has to be left out, a part of
    the name's sha256 is appended.
    """
    bracketed = re.sub(r"\[(\w+)\](?=/|\Z)", r".\1", name)
    allowed = re.sub(r"[^\w./ -]", "_", bracketed, flags=re.ASCII)
    # MLflow refuses what is a path in another spelling: a//b, ./a, ../a, /a.
    allowed = "/".join(part if part.strip(".") else "_" for part in allowed.split("/"))
    if allowed == bracketed and len(allowed) <= _LONGEST_KEY:
        return allowed
    return f"{allowed[: _LONGEST_KEY - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _client() -> tuple[Any, str]:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise RuntimeError("MLFLOW_TRACKING_URI is not set; set it to the address of your tracking server")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=address), address


def _experiment(client: Any) -> str:
    """The id of the experiment named by MLflow's own variable, made if it is not there."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another process was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _keep_recipe(client: Any, experiment: str, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    started = round(datetime.fromisoformat(run["started_at"]).timestamp() * 1000)
    ended = started + round(run["duration_seconds"] * 1000)
    name = f"{recipe['recipe']} {recipe['run_id']}"
    run_id = str(client.create_run(experiment, start_time=started, tags=recipe["tags"], run_name=name).info.run_id)
    with _ended_as_failed(client, run_id):
        params = [Param(key_name(key), value) for key, value in recipe["params"].items()]
        tags = [RunTag(key_name(f"gate/{gate['id']}"), gate["outcome"]) for gate in recipe["gates"]]
        metrics = [Metric(key_name(key), value, ended, 0) for key, value in recipe["measures"].items()]
        for key, curve in recipe["curves"].items():
            metrics += [Metric(key_name(key), value, ended, step) for step, value in curve]
        for some in _batches(params, _MOST_PARAMS):
            client.log_batch(run_id, params=some)
        for some in _batches(tags, _MOST_PARAMS):
            client.log_batch(run_id, tags=some)
        for some in _batches(metrics, _MOST_METRICS):
            client.log_batch(run_id, metrics=some)
        client.log_dict(run_id, {"gates": recipe["gates"]}, "gates.json")
        for file in run["files"]:
            client.log_artifact(run_id, file, "report")
    client.set_terminated(run_id, end_time=ended)
    return run_id


@contextlib.contextmanager
def _ended_as_failed(client: Any, run_id: str) -> Iterator[None]:
    """A copy that is not whole must not look as if it were still being written."""
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, status="FAILED")
        raise


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _registered(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _new_version(client: Any, promotion: Mapping[str, Any]) -> str:
    """Uploads the adapter to the run that was kept of it, or, where tracking was off then, to a new one."""
    name, digest = promotion["recipe"], promotion["adapter_digest"]
    experiment = _experiment(client)
    tags = {"harness.run_id": promotion["run_id"], "harness.recipe": name, _DIGEST: digest}
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs([experiment], wanted, max_results=1)
    if runs:
        run = runs[0]
    else:
        started = round(time.time() * 1000)
        run = client.create_run(experiment, start_time=started, tags=tags, run_name=f"{name} {promotion['run_id']}")
    with _ended_as_failed(client, run.info.run_id):
        client.log_artifacts(run.info.run_id, promotion["adapter"], "adapter")
        if promotion["attestation"] is not None:
            client.log_artifact(run.info.run_id, promotion["attestation"], "attestation")
        source = f"{run.info.artifact_uri}/adapter"
        made = client.create_model_version(name, source, run.info.run_id, tags=tags, await_creation_for=0)
    if not runs:
        client.set_terminated(run.info.run_id)
    return str(made.version)


def _link(address: str, place: str) -> str:
    return f"{address.rstrip('/')}/{place}" if urlsplit(address).scheme in ("http", "https") else address
