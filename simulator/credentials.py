"""Secrets stay out of settings: a run stores its settings, shows them in its report, and is handed on.

A key, a password or a cookie is given by the *name* of an environment variable, or of a file, that holds it. What looks like a secret
itself is refused where settings are read (`check_settings`), before anything is written, with the way that is right and without being
repeated. What is shown of older settings, or of what a server said, is masked (`masked`, `masked_settings`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from simulator.errors import ConfigError

MASK = "***"

HARMLESS_HEADERS = (
    "accept",
    "accept-charset",
    "accept-language",
    "cache-control",
    "content-language",
    "content-type",
    "pragma",
    "user-agent",
    "x-request-id",
)
"""The only headers whose values may stand in settings: nobody can know which of the others is somebody's key."""

_SECRET_WORD = re.compile(
    r".*(?:apikey|passwd|passwords?|passphrase|credentials?|secrets?)|auth(?:entication|ori[sz]ation)?|bearer|cookies?|jwt|pass|pwd|token"
)
_SECRET_KEY = re.compile(r"(?:access|account|api|auth|encryption|private|service|session|shared|signing|subscription)-keys?")
_BY_NAME = ("_env", "_file", "_variable")
"""Endings of settings that name where a secret is."""

_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*:/{1,2})(?:[^/?#\s'\"]*@|[^/?#\s'\"@]*:[^\s'\"]*@)")
_SCHEME = re.compile(r"(?i)\b(bearer|apikey|basic|digest|negotiate)(\s+)(?:(?<=r\s|y\s)[^\s'\",;]{6,}|(?=[^\s'\",;]*[\d=])[^\s'\",;]{6,})")
_KNOWN = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{12,}|hf_[A-Za-z0-9]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}|xox[abeprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{12,}|AIza[\w-]{24,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_QUERY = re.compile(r"[?&;]([\w.-]+)=([^&;#\s]+)")
_GIVEN = re.compile(r"^-{0,2}([\w.-]+)\s*[=:]\s*(\S.*)$", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_secret_name(name: str) -> bool:
    """Whether something of this name (``api_key``, ``X-Auth-Token``, ``dbPassword``) is usually a secret."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    pairs = ("-".join(words[place : place + 2]) for place in range(len(words)))
    return any(_SECRET_WORD.fullmatch(word) for word in words) or any(_SECRET_KEY.fullmatch(pair) for pair in pairs)


def masked(text: str) -> str:
    """A text without the secrets that can be recognised by their form: names and passwords in addresses, bearer tokens, known keys."""
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    return _KNOWN.sub(MASK, _SCHEME.sub(rf"\1\2{MASK}", text))


def masked_settings(document: Any) -> Any:
    """Settings as they can be shown: what `check_settings` would refuse is masked."""
    return _masked(document, ())


def _masked(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _masked(entry, (*path, str(key))) for key, entry in value.items()}
    if next(_secrets(value, path), None) is None:
        return value
    if isinstance(value, list | tuple) and not _names_secret(path):
        kept = [_masked(entry, path) for entry in value]
        return kept if next(_secrets(kept, path), None) is None else [MASK] * len(value)
    shown = masked(value) if isinstance(value, str) and not _names_secret(path) else MASK
    return shown if next(_secrets(shown, path), None) is None else MASK


def shown(key: str, value: Any) -> str:
    """A wrong value of a setting for a message, masked where it may be a secret, or stands where the name of one is wanted."""
    path = tuple(key.split("."))
    return repr(MASK if _names_variable(path) else _masked(value, path))


def shown_override(override: str) -> str:
    """A setting as it was typed, ``section.key=value``, for a message."""
    found = re.match(r"[^\s=:]*", override)
    key = found.group() if found else ""
    return f"{key}={MASK}" if is_secret_name(key) or _is_header(key.split(".")) else masked(override)


def check_settings(document: Mapping[str, Any], where: str = "") -> None:
    """Passes if no setting is a secret.

    Args:
        document: settings, in sections or those of one section.
        where: the section they are of, if it is one.

    Raises:
        ConfigError: names the first that is one and how it is given instead, never its value.
    """
    found = next(_secrets(document, (where,) if where else ()), None)
    if found is not None:
        path, what = found
        section, key = (path[0], ".".join(path[1:])) if len(path) > 1 else ("", ".".join(path))
        raise ConfigError(
            f"{f'[{section}] ' if section else ''}{key} {what}, and settings are stored and shown with a run; {_instead(path)}."
        )


def _secrets(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where secrets are, and what they are in a few words."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _secrets(entry, (*path, str(key)))
    elif value is None or isinstance(value, bool) or value in ("", MASK):
        return
    elif _names_secret(path) and not (isinstance(value, int | float) and "token" in path[-1].lower()):
        yield path, "is a secret"
    elif isinstance(value, str):
        what = _secret_text(value, path)
        if what:
            yield path, what
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            if isinstance(entry, str) and _is_argument(entry, value[number + 1 : number + 2]):
                yield path, "holds a secret"
            yield from _secrets(entry, path)


def _secret_text(value: str, path: Sequence[str]) -> str:
    """Why a text is, or may be, a secret; empty if it is none."""
    if _names_variable(path):
        return "" if _is_variable(value) else "does not name an environment variable (capital letters, digits and _), and may be a secret"
    if _is_header(path) and (len(path) < 2 or path[-1].lower() not in HARMLESS_HEADERS):
        return "may be a secret"
    if _USERINFO.search(value) or (_of_address(path) and "@" in value):
        return "has a name or password before '@'"
    if "://" in value and any(is_secret_name(name) or name.lower() in ("key", "sig") for name, _ in _QUERY.findall(value)):
        return "has a secret behind '?'"
    return "is a secret" if _SCHEME.fullmatch(value.strip()) or _KNOWN.search(value) else ""


def _names_secret(path: Sequence[str]) -> bool:
    if not path or path[-1].lower().endswith(_BY_NAME):
        return False
    if any(part.lower().endswith(_BY_NAME) for part in path[:-1]):
        return False
    in_environment = any(part.lower() in ("environment", "env") for part in path[:-1])
    return is_secret_name(path[-1]) or (in_environment and "KEY" in path[-1].upper().split("_"))


def _names_variable(path: Sequence[str]) -> bool:
    return any(part.lower().endswith(_BY_NAME[0]) for part in path)


def _is_variable(value: str) -> bool:
    """Whether a text can be the name of a variable: a key that was pasted there is not in capitals, and not the name of one that is set."""
    known = bool(_KNOWN.search(value))
    return not known and bool(_VARIABLE.fullmatch(value)) and (value == value.upper() or value in os.environ)


def _is_header(path: Sequence[str]) -> bool:
    return any(part.lower() in ("headers", "header") for part in path)


def _of_address(path: Sequence[str]) -> bool:
    return bool(path) and path[-1].lower().rpartition("_")[2] in ("url", "uri", "address", "host")


def _is_argument(text: str, following: Sequence[Any]) -> bool:
    """Whether an argument of a program, such as ``--token=abc`` or ``--token`` before ``abc``, or a header line, holds a secret."""
    given = _GIVEN.match(text)
    if given is not None:
        return is_secret_name(given.group(1)) and given.group(2) != MASK
    value = following[0] if following else None
    return text.startswith("-") and is_secret_name(text) and isinstance(value, str) and not value.startswith("-") and value != MASK


def _instead(path: Sequence[str]) -> str:
    """How a secret is given instead."""
    by_name = "put the {} into an environment variable and name that: {}"
    if _is_header(path):
        name = path[-1] if path[-1].lower() not in ("headers", "header") else "Authorization"
        return by_name.format("value", f'headers_env = {{"{name}" = "MY_VARIABLE"}}; or into a file: headers_file')
    if path[0] == "language_model" or path[-1] == "base_url":
        return by_name.format("key", 'api_key_env = "MY_VARIABLE"')
    if path[-1] == "url":
        return by_name.format('header value ("Basic ...", "Bearer ...")', 'headers_env = {Authorization = "MY_VARIABLE"}')
    if "command" in path or "environment" in path:
        return "set it as an environment variable before usersim starts, which the program inherits"
    return "put it into an environment variable, from which the component reads it"


# --- what is given by name ------------------------------------------------------------------------------------------


def _address(value: str) -> str:
    if "@" in value:
        raise ValueError("it has a name or password before '@', which would be stored with the run; put it into an environment variable")
    if set("?#") & set(value):
        raise ValueError("it has a part behind '?' or '#', which no request would keep; leave that out")
    return value


Address = Annotated[str, Field(pattern=r"^https?://[^/\s]+"), AfterValidator(_address)]
"""An address of a service, without a name and password in it: http://host:port/path."""


def _variable_name(value: str) -> str:
    if not _is_variable(value):
        raise ValueError("it must be the name of an environment variable (capital letters, digits and _), not the secret itself")
    return value


Variable = Annotated[str, AfterValidator(_variable_name)]
"""Name of an environment variable that holds a secret."""


def from_variable(variable: str, setting: str) -> str:
    """The secret in an environment variable.

    Args:
        variable: its name. setting: which setting names it, for messages.

    Raises:
        ConfigError: it is not set, or holds something that cannot be sent in a header.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"the environment variable {variable} ({setting}) is not set; put the secret there.")
    return _sendable(value, f"the environment variable {variable} ({setting})")


def secret_headers(variables: Mapping[str, str], file: Path | None) -> dict[str, str]:
    """Headers whose values are in environment variables, and those of a file.

    Args:
        variables: header -> name of the variable that holds its value.
        file: with one ``Name: value`` a line; empty lines and lines that begin with # are skipped. None for no file.

    Raises:
        ConfigError: a variable is not set, or the file is not there or cannot be read; nothing of its content is repeated.
    """
    found = {name: from_variable(variable, f"headers_env.{name}") for name, variable in variables.items()}
    if file is None:
        return found
    try:
        lines = file.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"headers_file = '{file}' cannot be read ({getattr(error, 'strerror', None) or 'it is no text'}).") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name.strip()) or not value.strip():
            raise ConfigError(f"headers_file = '{file}', line {number}: write a header as 'Name: value'.")
        found[name.strip()] = _sendable(value.strip(), f"headers_file = '{file}', line {number},")
    return found


def _sendable(value: str, what: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(f"{what} does not hold what can be sent: it has characters that no header may have.")
    return value


def without(text: str, secrets: Sequence[str]) -> str:
    """A text in which these secrets, and the parts of them behind a word such as "Bearer", are masked."""
    parts = {part for secret in secrets for part in (secret, secret.partition(" ")[2]) if len(part) > 2}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, MASK)
    return text
