"""What is a secret in settings, and what is none; and that neither a message nor a mask shows one."""

from __future__ import annotations

import tomllib

import pytest

from simulator.credentials import check_settings, is_secret_name, masked, masked_settings, secret_headers, shown, shown_override, without
from simulator.errors import ConfigError

SECRETS = [
    ('recommender.headers = {Authorization = "Bearer hunter2"}', "headers_env"),
    ('recommender.headers = {authorization = "hunter2"}', "headers_env"),
    ('recommender.headers = {X-Api-Key = "hunter2"}', "headers_env"),
    ('recommender.headers = {Cookie = "id=hunter2"}', "headers_env"),
    ('recommender.headers = {X-Whatever = "hunter2"}', "headers_env"),
    ('recommender.headers = {User-Agent = "Bearer hunter2"}', "headers_env"),
    ('recommender.headers = "Authorization: Bearer hunter2"', "headers_env"),
    ('recommender.headers = ["Authorization: Bearer hunter2"]', "headers_env"),
    ('recommender.base.headers = {Authorization = "Bearer hunter2"}', "headers_env"),
    ('recommender.url = "http://user:hunter2@localhost:8000"', "headers_env"),
    ('recommender.url = "http://hunter2@localhost:8000"', "headers_env"),
    ('recommender.url = "user:hunter2@localhost:8000"', "headers_env"),
    ('recommender.url = "http://user:hunt/hunter2@localhost"', "headers_env"),
    ('recommender.url = "http://localhost/?api_key=hunter2"', "headers_env"),
    ('language_model.base_url = "https://user:hunter2@localhost/v1"', "api_key_env"),
    ('language_model.api_key = "hunter2"', "api_key_env"),
    ('language_model.api_key_env = "sk-hunter2hunter2hunter2"', "api_key_env"),
    ('language_model.extra_body = {auth = {token = "hunter2"}}', "api_key_env"),
    ('recommender.command = ["run", "--token", "hunter2"]', "environment variable"),
    ('recommender.command = ["run", "--api-key=hunter2"]', "environment variable"),
    ('recommender.command = ["env", "API_TOKEN=hunter2", "run"]', "environment variable"),
    ('recommender.command = ["curl", "-H", "Authorization: Bearer hunter2"]', "environment variable"),
    ('recommender.command = ["run", "http://user:hunter2@localhost"]', "environment variable"),
    ('recommender.environment = {SERVICE_KEY = "hunter2"}', "environment variable"),
    ('recommender.environment = {PGPASSWORD = "hunter2"}', "environment variable"),
    ('memory.dbPassword = "hunter2"', "environment variable"),
    ("memory.password = 31337", "environment variable"),
    ('decision.deep = [{dsn = "postgres://user:hunter2@db/x"}]', "environment variable"),
    ('augmentation.recommenders.a.headers = {Authorization = "Bearer hunter2"}', "headers_env"),
]


@pytest.mark.parametrize(("line", "instead"), SECRETS)
def test_a_secret_in_settings_is_refused_with_what_to_do_and_never_shown(line, instead):
    settings = tomllib.loads(line)
    with pytest.raises(ConfigError, match=r"stored and shown with a run") as error:
        check_settings(settings)
    assert instead in str(error.value)
    hidden = masked_settings(settings)
    assert "***" in str(hidden)
    for text in (str(error.value), str(hidden)):
        assert "hunter2" not in text
        assert "31337" not in text
    check_settings(hidden)
    assert masked_settings(hidden) == hidden


@pytest.mark.parametrize(
    "line",
    [
        'recommender.headers = {Accept = "application/json", user-agent = "usersim"}',
        'recommender.headers_env = {Authorization = "MY_SERVICE"}',
        'recommender.headers_file = "~/.config/token"',
        'recommender.url = "http://localhost:8000/recommender"',
        'recommender.command = ["python3", "rank.py", "--top", "10", "--secretary"]',
        'recommender.environment = {PYTHONPATH = ".", MODE = "fast"}',
        'language_model.api_key_env = "OPENAI_API_KEY"',
        "language_model.extra_body = {top_p = 0.5, max_tokens = 3, pad_token = 7}",
        'dataset.domain = {item = "film", choose = "watch"}',
        'dataset.title = "Basic Instinct"',
        'interventions.a.text = "seen at https://example.org/@somebody, secret: none"',
        "tuning.batch_tokens = 4096",
        'dataset.user = "author"',
    ],
)
def test_what_is_no_secret_stays(line):
    settings = tomllib.loads(line)
    check_settings(settings)
    assert masked_settings(settings) == settings


@pytest.mark.parametrize(
    "name", ["Authorization", "X-Api-Key", "apiKey", "Ocp-Apim-Subscription-Key", "X-Auth-Token", "Set-Cookie", "db_passwd", "JWT"]
)
def test_usual_names_of_secrets_are_known(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["author", "tokens", "keyboard", "page_size", "monkey", "compass", "user_key"])
def test_names_that_only_look_like_it_are_not(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no server at http://user:hunter2@host/v1 (refused)", "no server at http://***@host/v1 (refused)"),
        ("sent Authorization: Bearer hunter2.", "sent Authorization: Bearer ***"),
        ("a bearer of news, Basic Instinct, a basic understanding", "a bearer of news, Basic Instinct, a basic understanding"),
        ("key sk-abcdefghijklmnopqrst is wrong", "key *** is wrong"),
        ("see https://example.org/@somebody", "see https://example.org/@somebody"),
    ],
)
def test_texts_are_masked_where_a_secret_has_its_usual_form(text, expected):
    assert masked(text) == expected


def test_a_setting_is_shown_without_what_may_be_secret():
    assert shown("page_size", 0) == "0"
    assert "hunter2" not in shown("headers_env.Authorization", "hunter2")
    assert "hunter2" not in shown_override("recommender.headers.Authorization:Bearer hunter2")
    assert "hunter2" not in shown_override("recommender.password hunter2")
    assert shown_override("recommender.page_size 4") == "recommender.page_size 4"


def test_a_secret_that_is_repeated_is_masked_whole_and_in_part():
    assert without("you sent Bearer hunter2 (hunter2)", ("Bearer hunter2",)) == "you sent *** (***)"


def test_headers_come_from_variables_and_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_SERVICE", " Bearer hunter2 \n")
    file = tmp_path / "headers"
    file.write_text("# mine\n\nX-Api-Key: abc:def\n")
    assert secret_headers({"Authorization": "MY_SERVICE"}, file) == {"Authorization": "Bearer hunter2", "X-Api-Key": "abc:def"}


@pytest.mark.parametrize("content", ["hunter2", "Bad Name: hunter2", "Name:", "X: hunter2\x01", "X: hunter2é"])
def test_a_file_of_headers_that_is_wrong_is_named_without_its_content(tmp_path, content):
    file = tmp_path / "headers"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="headers_file") as error:
        secret_headers({}, file)
    assert "hunter2" not in str(error.value)


def test_a_variable_that_is_missing_or_cannot_be_sent_is_named_without_its_content(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"NOT_THERE .*is not set"):
        secret_headers({"Authorization": "NOT_THERE"}, None)
    monkeypatch.setenv("MY_SERVICE", "hunter2\nX-Evil: 1")
    with pytest.raises(ConfigError, match="characters that no header may have") as error:
        secret_headers({"Authorization": "MY_SERVICE"}, None)
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        secret_headers({}, tmp_path / "missing")
