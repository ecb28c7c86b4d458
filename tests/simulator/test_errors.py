"""What went wrong is one line, whatever it quotes."""

from experiments.cli import call
from simulator.errors import ConfigError


def test_line_breaks_and_signs_that_steer_a_terminal_are_spelled_out():
    assert str(ConfigError("no 'a\nb\x1b[1m\u2028': é日")) == "no 'a\\nb\\x1b[1m\\u2028': é日"


def test_of_a_very_long_value_the_ends_are_told():
    said = str(ConfigError(f"x = '{'a' * 3_000}': input should be a number."))
    assert said.startswith("x = 'aaa")
    assert said.endswith("aaa': input should be a number.")
    assert "..." in said
    assert len(said) < 400
    path = "/" + "/".join(["folder" * 10] * 12)
    assert str(ConfigError(f"{path} is no file.")) == f"{path} is no file."


def test_an_import_path_with_a_line_break_is_one_line(tmp_path, capsys):
    (tmp_path / "x.toml").write_text('name = "x"\n[dataset]\nuse = "\\n"\n')
    assert call(["run", str(tmp_path / "x.toml"), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "'\\n' is not an import path" in said
