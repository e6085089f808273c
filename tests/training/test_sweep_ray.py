"""A sweep on a real Ray cluster: two nodes on this machine, one of them killed in the middle."""

import threading
import time

import pytest

from oskdft.lessons import evidence
from oskdft.training import sweep as module
from oskdft.training.grid import read_grid
from tests.training.test_sweeps import ROWS, weights, written

ray = pytest.importorskip("ray", reason="Ray is not installed (extra: cluster)")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = pytest.mark.slow
GRID = f"profile: smoke\nchanges: {{train.epochs: 2, train.steps_per_epoch: 20, eval.tta: full}}\n{ROWS}\n"


def test_a_node_dies_and_the_table_is_that_of_one_machine(tmp_path, monkeypatch):
    grid = written(tmp_path / "grid.yaml", GRID)
    module.sweep(read_grid(grid), tmp_path / "local", "local:1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=module.CORES) for _ in range(2)]
    killed = []

    def kill() -> None:
        """Kill a node as soon as a run has begun to train."""
        while not any((tmp_path / "ray").glob("*/config.yaml")):
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.append(True)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        result = module.sweep(read_grid(grid), tmp_path / "ray", f"ray:{cluster.address}")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed and not result["failed"] and len(result["done"]) == 2
    assert weights(tmp_path / "ray") == weights(tmp_path / "local")
    tables = [evidence.gather(tmp_path / name)["rows"] for name in ("ray", "local")]
    same = [[{k: row[k] for k in ("row", "seeds", "minus")} for row in rows] for rows in tables]
    assert same[0] == same[1]


def test_an_address_where_no_cluster_answers(tmp_path):
    grid = written(tmp_path / "grid.yaml", GRID)
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        module.sweep(read_grid(grid), tmp_path / "out", "ray:127.0.0.1:9")
