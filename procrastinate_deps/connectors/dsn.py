"""Connection strings: libpq's two forms, read without libpq, and shown without secrets."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

APPLICATION_NAME = "procrastinate_deps"

SECRETS = frozenset({"password", "sslpassword", "passwd", "oauth_client_secret"})
MASK = "***"

_URL = re.compile(r"postgres(?:ql)?://", re.IGNORECASE)
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def parse(dsn: str) -> dict[str, str]:
    """The parameters of a libpq connection string, of either form: `postgresql://...` or `host=... dbname=...`.

    Raises ValueError, which never shows the string: there may be a password in it.
    """
    return _parse_url(dsn) if _URL.match(dsn) else _parse_pairs(dsn)


def shown(parameters: Mapping[str, Any]) -> str:
    """The parameters as a person may see them: secrets masked."""
    return " ".join(f"{name}={MASK if name in SECRETS else value}" for name, value in parameters.items())


def conninfo(parameters: Mapping[str, Any]) -> str:
    """The parameters as libpq's keyword form."""
    return " ".join(f"{name}='{_quoted(str(value))}'" for name, value in parameters.items())


def hide_secrets(text: str, parameters: Mapping[str, Any]) -> str:
    """`text`, an error's for instance, without the secrets among the parameters."""
    for name in SECRETS & parameters.keys():
        if secret := str(parameters[name]):
            text = text.replace(secret, MASK).replace(quote(secret), MASK)
    return text


# libpq's parameters that asyncpg takes in a URL; others would be sent to the server as settings, which refuses them
_ASYNCPG_URL = frozenset(
    {"host", "port", "dbname", "user", "password", "passfile", "service", "sslmode", "sslcert", "sslkey", "sslrootcert"}
    | {"sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"}
    | {"target_session_attrs", "krbsrvname", "gsslib"}
)
_SERVER_SETTINGS = frozenset({"application_name", "options"})
# they tune the transport or say what asyncpg does anyway
_IGNORED = re.compile(
    r"keepalives.*|tcp_user_timeout|client_encoding|gssencmode|fallback_application_name|load_balance_hosts|sslcompression|sslsni"
)


def asyncpg_arguments(dsn: str | None) -> dict[str, Any]:
    """The arguments of asyncpg's connect that mean what libpq takes `dsn` and the PG* variables to mean.

    asyncpg reads most of the PG* variables itself; the others are read here.
    """
    given = parse(dsn) if dsn else {}
    environment = {"application_name": "PGAPPNAME", "options": "PGOPTIONS", "connect_timeout": "PGCONNECT_TIMEOUT"}
    if "host" not in given and "service" not in given:
        environment["hostaddr"] = "PGHOSTADDR"
    for name, variable in environment.items():
        if name not in given and os.environ.get(variable):
            given[name] = os.environ[variable]

    arguments: dict[str, Any] = {"server_settings": {"application_name": APPLICATION_NAME}}
    url: dict[str, str] = {}
    if address := given.pop("hostaddr", None):
        given["host"] = address
    timeout = given.pop("connect_timeout", None)
    if timeout and int(timeout) > 0:
        arguments["timeout"] = int(timeout)
    for name, value in given.items():
        if name in _SERVER_SETTINGS:
            arguments["server_settings"][name] = value
        elif name in _ASYNCPG_URL:
            url[name] = value
        elif not _IGNORED.fullmatch(name) and (name, value) != ("channel_binding", "prefer"):
            raise ValueError(
                f"AsyncpgConnector can't honour the connection parameter {name}; leave it out, or use PsycopgConnector"
            )
    arguments["dsn"] = "postgresql://?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in url.items())
    return arguments


def _parse_url(url: str) -> dict[str, str]:
    # urlsplit would take a host list, or a colon in it, for a port; only its rough parts are used
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    names, ports = _split_hosts(hosts)
    parameters = {
        "user": unquote(user),
        "password": unquote(password),
        "host": ",".join(names),
        "port": ",".join(ports) if any(ports) else "",
        "dbname": unquote(parts.path[1:]),
    }
    try:
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("the connection URL's part after the question mark is not name=value&name=value") from None
    return {name: value for name, value in (parameters | dict(query)).items() if value}


def _split_hosts(hosts: str) -> tuple[list[str], list[str]]:
    names, ports = [], []
    for host in hosts.split(","):
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", host)
        if match is None:
            raise ValueError("the connection URL's host is not host, host:port or a list of these")
        names.append(unquote(match[1]).strip("[]"))
        ports.append(match[2] or "")
    return names, ports


def _parse_pairs(text: str) -> dict[str, str]:
    parameters = {}
    position = 0
    while text[position:].strip():
        match = _PAIR.match(text, position)
        if match is None:
            raise ValueError(
                "the connection string is neither a postgresql:// URL nor name=value pairs separated by spaces"
            )
        value = match[2] if match[2] is not None else match[3]
        parameters[match[1]] = _ESCAPE.sub(r"\1", value)
        position = match.end()
    return {name: value for name, value in parameters.items() if value}


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace("'", r"\'")
