"""Trials on a Ray cluster of two nodes, one of which is lost while they run: the same results, nothing lost."""

import threading
import time

import pytest

from whyvae.treat.arm import Spec
from whyvae.treat.engine import Task, local, ray_cluster

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SCRIPT = """
import time
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(200, 3) @ torch.randn(3, 8)
encoder, decoder = nn.Linear(8, 4), nn.Linear(2, 8)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
for step in range(100):
    rows = x[torch.randint(200, (32,))]
    mu, logvar = encoder(rows).chunk(2, 1)
    out = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
    loss = ((out - rows) ** 2).sum() + 0.5 * (mu ** 2 + logvar.exp() - 1 - logvar).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.05)
"""


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    lost = made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield made, lost
    ray.shutdown()
    made.shutdown()


def tasks(script, folder):
    return [Task(f"arm{k}", Spec(str(script), str(folder / f"arm{k}"), offset=k), 300.0) for k in range(3)]


def test_a_lost_node_costs_time_and_nothing_else(tmp_path, cluster):
    made, second = cluster
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    expected = dict(local(1)(tasks(script, tmp_path / "local")))
    killer = threading.Thread(target=lambda: (time.sleep(6), made.remove_node(second, allow_graceful=False)))
    engine = ray_cluster(made.address)
    killer.start()
    found = dict(engine(tasks(script, tmp_path / "ray")))
    killer.join()
    assert found.keys() == expected.keys()
    for name, result in expected.items():
        assert not found[name]["failed"]
        assert found[name]["steps"] == result["steps"] == 100
        assert found[name]["outcome"] == result["outcome"]
        assert (tmp_path / "ray" / name / "samples.npz").is_file()
