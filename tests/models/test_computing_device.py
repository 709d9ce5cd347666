# SPDX-License-Identifier: Apache-2.0
"""computing_device: what a process that was forked needs before its threads compute."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from reticent.models import load as loading
from reticent.models.computing_device import own_thread_pool
from reticent.testing.tiny import save_tiny

FORKS, THREADS, NUMBERS = 12, 16, 100_000
"""Without a pool of its own about five forks of six fail so (254 of 300 on two cores)."""


def test_threads_of_a_fork_compute_at_once(in_a_fork):
    torch.ones(NUMBERS).add(1)
    torch.set_num_threads(torch.get_num_threads())
    together = threading.Barrier(THREADS)

    def job(_):
        together.wait()
        return torch.ones(NUMBERS).to(torch.bfloat16)

    def work():
        own_thread_pool()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(job, range(THREADS)))

    assert [in_a_fork(work) for _ in range(FORKS)] == [0] * FORKS


def test_weights_are_read_with_a_pool_of_the_process_own(tmp_path, monkeypatch):
    order = []
    read = loading.AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(loading, "own_thread_pool", lambda: order.append("pool"))
    monkeypatch.setattr(
        loading.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: order.append("read") or read(*a, **k)
    )
    loading.load(str(save_tiny(tmp_path / "tiny")), dtype="float32")
    assert order == ["pool", "read"]
