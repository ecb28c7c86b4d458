"""What a stored result was computed by."""

import sys

import pytest

from simulator import provenance
from simulator.provenance import arithmetic, code_sha256


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules, of which one is imported within a function and one not at all."""
    folder = tmp_path / "made_up_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "top.py").write_text(
        "import json\nfrom made_up_package import below\n\ndef f():\n    from .late import value\n    return value\n"
    )
    (folder / "below.py").write_text("x = 1\n")
    (folder / "late.py").write_text("value = 2\n")
    (folder / "apart.py").write_text("y = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("made_up_package")]:
        del sys.modules[name]
    for function in (provenance.code_sha256, provenance._file_of, provenance._imported):
        function.cache_clear()


def digest(*roots):
    provenance.code_sha256.cache_clear()
    return code_sha256(*roots)


@pytest.mark.parametrize(("name", "counts"), [("top", True), ("below", True), ("late", True), ("apart", False)])
def test_what_a_module_imports_counts_and_nothing_else(package, name, counts):
    before = digest("made_up_package.top")
    file = package / f"{name}.py"
    file.write_text(file.read_text() + "# edited\n")
    assert (digest("made_up_package.top") != before) == counts


def test_a_file_that_is_named_by_its_path_counts_with_what_it_imports(package, tmp_path):
    plugin = tmp_path / "plugin.py"
    plugin.write_text("from agents.stars import stars\n")
    before = digest(str(plugin))
    plugin.write_text("from agents.stars import to_scale\n")
    assert digest(str(plugin)) != before
    assert "agents.stars" in provenance._sources((str(plugin),))


def test_the_code_of_the_calibrated_people_holds_the_fits_and_no_recommender():
    found = provenance._sources(("agents.calibrated",))
    assert {"agents.rating_factors", "agents.hazard", "agents.prompts", "agents.profiles", "simulator.seeds"} <= set(found)
    assert not any(name.startswith(("environments", "experiments")) for name in found)


def test_a_module_that_does_not_exist_counts_by_its_name():
    assert digest("no_such_module_anywhere.x") != digest("no_such_module_anywhere.y")


def test_the_arithmetic_names_libraries_kernels_and_machine():
    found = arithmetic()
    assert set(found) == {"numpy", "scipy", "blas", "machine"}
    assert all(found.values())
