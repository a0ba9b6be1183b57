"""The benchmark of compile time: its table, and one trial at a size that costs little."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.compile_time import compile_markdown
from benchmarks.compile_trial import trial
from benchmarks.zoo.whole import CASES

NO_ROOM = {"failure": "no room"}
TINY = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}


def test_compile_times_are_compared_with_the_fewest_layers() -> None:
    seconds = {"dynamo": 2.0, "trace": 1.0, "import": 0.5, "passes, text, plan": 1.5, "kernels": 4.0}
    more = {**seconds, "passes, text, plan": 4.5}
    trials = [{"layers": n, "seconds": s, "launches": 7 * n, "kernels": 13} for n, s in ((4, seconds), (32, more))]
    text = compile_markdown(
        [{"case": "m", "title": "M, 4 layers, decode", "trials": [*trials, {"failure": "no room"}]}]
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert rows[2] == ["M, decode", "4", "2.00 s", "1.00 s", "0.50 s", "1.50 s", "28", "13 in 4.00 s", "6.00 s", "1.00"]
    assert rows[3][0] == "M, decode" and rows[3][-2:] == ["9.00 s", "1.50"]
    assert rows[4][:2] == ["M, decode", "no room"] and len(rows[4]) == len(rows[0])


def test_a_trial_of_compile_time_tells_every_part() -> None:
    with torch.no_grad():
        found = trial(replace(CASES["llama-1b-decode-1"], changes=TINY), 1)
    assert set(found["seconds"]) == {"dynamo", "trace", "import", "passes, text, plan", "kernels"}
    assert all(seconds >= 0 for seconds in found["seconds"].values())
    assert found["launches"] >= found["kernels"] > 0
