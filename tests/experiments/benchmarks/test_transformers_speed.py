"""The benchmark of torch runs where little but torch is installed."""

import json
import subprocess
import sys

BARE = """
import runpy, sys
for name in ("polars", "llama_cpp", "pydantic", "platformdirs", "tenacity", "mesa", "gguf", "psutil"):
    sys.modules[name] = None
sys.argv = ["transformers_speed", *sys.argv[1:]]
runpy.run_module("experiments.benchmarks.transformers_speed", run_name="__main__")
"""


def test_it_needs_no_package_that_a_gpu_machine_may_lack():
    arguments = ["--shape", "tiny", "--device", "cpu", "--people", "4", "--checked", "2", "--turns", "1", "--depths", "--json"]
    done = subprocess.run([sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["device"] == "cpu"
    assert [row["kept_segments"] for row in found["scoring"]] == [1, 2]
    assert all(row["repeats_to_the_bit"] and row["pages_per_second"] > 0 for row in found["scoring"])
    assert found["texts"]["repeats_to_the_bit"]
    assert 0 <= found["mean_kl_from_cpu_float32"] < 0.01


def test_a_model_that_is_not_there_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks.transformers_speed", "--device", "cpu", "--model", str(tmp_path / "nowhere")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
