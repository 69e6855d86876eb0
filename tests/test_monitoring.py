"""The dashboard and the rules of deploy/, compared with what a live server and worker serve."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, ServerProcess
from tests.ports import free_port
from tests.waiting import wait_until
from tornado_rt.metrics import Metrics

RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARD = ROOT / "deploy/grafana/tornado_rt.json"
# Labels that Prometheus adds to what it scrapes, and a metric of its own.
ADDED = {"instance", "job"}
OWN = {"up"}
FUNCTIONS = {
    *("sum", "max", "min", "count", "rate", "increase", "histogram_quantile"),
    *("by", "on", "label_values"),
}
OUTCOMES = {"completed", "failed", "dead", "cancelled", "error", "retry", "lost", "dropped"}
TEXT = re.compile(r'"[^"]*"')
METRIC = re.compile(r"\b(rt_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')


def expressions() -> list[str]:
    """Return every expression of the rules and of the dashboard."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    board = json.loads(DASHBOARD.read_text())
    return [
        *(rule["expr"] for group in groups for rule in group["rules"]),
        *(target["expr"] for panel in board["panels"] for target in panel["targets"]),
        *(one["definition"] for one in board["templating"]["list"] if "definition" in one),
    ]


@pytest.fixture(scope="module")
def served(server_process: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names that both a server and a worker serve."""
    port, log = free_port(), tmp_path_factory.mktemp("worker") / "log"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RT_")}
    environment |= {"RT_DATA_DIR": str(server_process.data_dir), "RT_WORKER_PORT": str(port)}
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "worker"], env=environment, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_up(url), 60, "the worker answers")
        return names_at(server_process.url) & names_at(url)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def is_up(url: str) -> bool:
    try:
        return bool(fetch(f"{url}/readyz"))
    except OSError:
        return False


def names_at(url: str) -> set[str]:
    """Return the names of the series of each metric that is served, also of those without one."""
    ends = {
        "counter": ("",),
        "gauge": ("",),
        "histogram": ("_bucket", "_sum", "_count"),
    }
    types = re.findall(r"^# TYPE (\w+) (\w+)$", fetch(f"{url}/metrics"), re.MULTILINE)
    return {f"{name}{end}" for name, kind in types for end in ends[kind]}


def labels_of() -> dict[str, set[str]]:
    """Return the labels of each metric by its name."""
    labels = {name: {"kind"} for name in ("rt_queue_depth", "rt_queue_oldest_seconds")}
    labels |= {"rt_queue_paused": {"kind"}, "rt_outbox_lag_seconds": set(), "up": set()}
    known: dict[str, Any] = Metrics()._registry._names_to_collectors
    for name, metric in known.items():
        bucket = {"le"} if name.endswith("_bucket") else set()
        labels[name] = set(metric._labelnames) | bucket
    return labels


def parts_of(expression: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each metric of an expression with its matchers."""
    for name, matchers in METRIC.findall(expression):
        yield name, MATCHER.findall(matchers)


@pytest.mark.parametrize("expression", expressions())
def test_expression_asks_for_what_is_served(expression: str, served: set[str]) -> None:
    labels = labels_of()
    parts = list(parts_of(expression))
    assert parts
    for name, matchers in parts:
        assert name in served | OWN
        for label, value in matchers:
            assert label in labels[name] | ADDED
            if label == "outcome":
                assert set(value.split("|")) <= OUTCOMES
    grouped = re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expression)
    of_all = set.union(*(labels[name] for name, _ in parts)) | ADDED
    assert {one.strip() for group in grouped for one in group.split(",")} <= of_all
    assert set(re.findall(r"\b([a-z_]+) ?\(", TEXT.sub("", expression))) <= FUNCTIONS


def test_no_metric_that_is_served_is_left_out(served: set[str]) -> None:
    """But those that a quotient of two of the same histogram needs."""
    shown = {name for expression in expressions() for name, _ in parts_of(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in served | shown}
    unshown = {
        name
        for name in families
        if name.startswith("rt_") and not name.endswith("_created")
        if not shown & {name, f"{name}_bucket"}
    }
    assert unshown == set()


def test_rules_say_what_is_wrong_and_how_bad_it_is() -> None:
    rules = [rule for one in yaml.safe_load(RULES.read_text())["groups"] for rule in one["rules"]]
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
        kept = ADDED if grouped is None else {one.strip() for one in grouped[1].split(",")}
        assert named <= kept, rule["alert"]


def test_panels_do_not_overlap() -> None:
    places = [one["gridPos"] for one in json.loads(DASHBOARD.read_text())["panels"]]
    cells = [
        (one["x"] + x, one["y"] + y)
        for one in places
        for x in range(one["w"])
        for y in range(one["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_prometheus_scrapes_what_the_rules_ask_about() -> None:
    config = yaml.safe_load((Path(RULES).parent / "prometheus.yml").read_text())
    jobs = [one["job_name"] for one in config["scrape_configs"]]
    assert config["rule_files"] == [RULES.name]
    assert all(re.fullmatch("tornado_rt.*", job) for job in jobs)
