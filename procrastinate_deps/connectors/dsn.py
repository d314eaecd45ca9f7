"""Connection strings: libpq's two forms, read without libpq, and shown without secrets."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

APPLICATION_NAME = "procrastinate_deps"

CONNECT_TIMEOUT_S = 10
"""How long to wait for one host before the next one is tried, unless the connection string says it."""

# A peer that has vanished without a word is noticed within 25 s: sooner than a worker that is silent is taken for lost.
_NOTICE_DEATH = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# All our texts are Unicode; a server of SQL_ASCII would send them as bytes of no encoding.
_ENCODING = {"client_encoding": "UTF8"}
_VARIABLES = {"PGCONNECT_TIMEOUT": "connect_timeout", "PGCLIENTENCODING": "client_encoding"}
_DEFAULTS = _NOTICE_DEATH | _ENCODING | {"connect_timeout": str(CONNECT_TIMEOUT_S)}

_SOCKET_NAMES = {
    "keepalives_idle": ("TCP_KEEPIDLE", "TCP_KEEPALIVE"),  # the latter is macOS'
    "keepalives_interval": ("TCP_KEEPINTVL",),
    "keepalives_count": ("TCP_KEEPCNT",),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT",),
}

# where a connection goes, as opposed to how: a second connection string says it all over again
_WHERE = frozenset({"host", "hostaddr", "port", "dbname", "service"})

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
    """The parameters as a person may see them: secrets masked, and without our own defaults."""
    return " ".join(
        f"{name}={MASK if name in SECRETS else value}"
        for name, value in parameters.items()
        if _DEFAULTS.get(name) != value
    )


def conninfo(parameters: Mapping[str, Any]) -> str:
    """The parameters as libpq's keyword form."""
    return " ".join(f"{name}='{_quoted(str(value))}'" for name, value in parameters.items())


def hide_secrets(text: str, parameters: Mapping[str, Any]) -> str:
    """`text`, an error's for instance, without the secrets among the parameters."""
    for name in SECRETS & parameters.keys():
        if secret := str(parameters[name]):
            text = text.replace(secret, MASK).replace(quote(secret), MASK)
    return text


def options_for(dsn: str, options: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Those of a connector's connection options that go along with a second connection string.

    Parameters
    ----------
    names:
        libpq's name of an option, where it is not the same.
    """
    said = parse(dsn).keys() | _WHERE
    return {name: value for name, value in options.items() if names.get(name, name) not in said}


def defaults(parameters: Mapping[str, Any]) -> dict[str, str]:
    """libpq's parameters that are ours where neither these nor the environment say them: time limits, the encoding."""
    if "service" in parameters or os.environ.get("PGSERVICE"):
        return {}
    said = {_VARIABLES[name] for name in _VARIABLES if os.environ.get(name)} | parameters.keys()
    return {name: value for name, value in _DEFAULTS.items() if name not in said}


def socket_options(parameters: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """What libpq's parameters of the transport are as options of a TCP socket: level, name and value."""
    numbers = {name: int(parameters[name]) for name in ("keepalives", *_NOTICE_DEATH) if name in parameters}
    options = []
    if numbers.get("keepalives", 1):
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
    else:
        numbers = {"tcp_user_timeout": numbers.get("tcp_user_timeout", 0)}
    for name, value in numbers.items():
        systems_name = next((each for each in _SOCKET_NAMES.get(name, ()) if hasattr(socket, each)), None)
        if systems_name is not None and value > 0:  # 0 is the system's own value
            options.append((socket.IPPROTO_TCP, getattr(socket, systems_name), value))
    return options


# libpq's parameters that asyncpg takes in a URL; others would be sent to the server as settings, which refuses them
_ASYNCPG_URL = frozenset(
    {"host", "port", "dbname", "user", "password", "passfile", "service", "sslmode", "sslcert", "sslkey", "sslrootcert"}
    | {"sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"}
    | {"target_session_attrs", "krbsrvname", "gsslib"}
)
_SERVER_SETTINGS = frozenset({"application_name", "options"})
# they tune the transport (see socket_options) or say what asyncpg does anyway
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


def asyncpg_hosts(dsn: str | None, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The hosts to try one after another, each as arguments of asyncpg's connect; none where there is just one."""
    given = parse(dsn) if dsn else {}
    hosts = options.get("host") or given.get("hostaddr") or given.get("host")
    if hosts is None and "service" not in given and not os.environ.get("PGSERVICE"):
        hosts = os.environ.get("PGHOSTADDR") or os.environ.get("PGHOST")
    names = _listed(hosts)
    if len(names) < 2:
        return []
    ports = _listed(options.get("port") or given.get("port") or os.environ.get("PGPORT")) or [""]
    if len(ports) == 1:
        ports *= len(names)
    if len(ports) != len(names):
        raise ValueError(f"{len(names)} hosts and {len(ports)} ports: give one port for all, or one for each")
    found: list[dict[str, Any]] = []
    for name, port in zip(names, ports, strict=True):
        found.append({"host": name} | ({"port": int(port)} if port else {}))
    return found


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else str(value).split(",")


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
