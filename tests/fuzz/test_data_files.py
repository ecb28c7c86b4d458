"""Data with mistakes in it is read or refused with one sentence, never with a traceback, and equally each time."""

import importlib.util
import os
import shutil
import traceback
from pathlib import Path
from types import ModuleType

from environments.datasets import sources
from environments.datasets.splits import SplitConfig, split
from environments.datasets.understood import told
from simulator.dataset import Dataset
from simulator.errors import UsersimError
from simulator.plugins import build
from simulator.seeds import Stream

CASES = int(os.environ.get("USERSIM_FUZZ", "200"))
"""How many seeds are tried; `make fuzz` tries more."""


def generator() -> ModuleType:
    """The module beside this one; tests are no package."""
    spec = importlib.util.spec_from_file_location("fuzz_data_files", Path(__file__).with_name("data_files.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def used(data: Dataset) -> None:
    """What every command does with data."""
    assert all(isinstance(line, str) for line in told(data))
    assert sources.describe(data)["interactions"] == data.interactions.height
    parts = split(data, SplitConfig(method="leave-one-out"), Stream(1))
    assert parts.train.interactions.height + parts.test.height == data.interactions.height


def outcome(read) -> str:
    """The sentence of an error, or the fingerprint of what was read."""
    try:
        data = read()
    except UsersimError as error:
        said = str(error)
        assert "\n" not in said, f"more than one line: {said!r}"
        assert len(said) < 3_000, f"a sentence of {len(said)} letters"
        return said
    if isinstance(data, Dataset):
        used(data)
        return data.fingerprint()
    return str(data.get("fingerprint"))


def test_mistakes_in_data_get_a_sentence_and_never_a_traceback(tmp_path):
    data_files = generator()
    failures, read = [], 0
    for seed in range(CASES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            case = data_files.make(seed, folder)
            load = lambda case=case: build(case.use, case.options, where="dataset", methods=("load",)).load()  # noqa: E731
            first = outcome(load)
            assert outcome(load) == first, "another result the second time"
            read += len(first) == 64
            outcome(lambda case=case: sources.describe(case.path))
        except Exception:
            failures.append(f"seed {seed}: {traceback.format_exc(limit=-4)}")
        shutil.rmtree(folder)
    assert not failures, f"{len(failures)} of {CASES}:\n" + "\n".join(failures[:10])
    assert 0.05 * CASES < read < 0.9 * CASES  # most mutations neither all harmless nor all fatal
