"""Connection strings, read as libpq reads them."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procrastinate_deps.connectors import dsn


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host=h port=1 dbname=d user=u",
        "  host = h  password='a b\\'c\\\\' ",
        r"password=a\ b\'c host=h",
        "password=''",
        "postgresql://",
        "postgres://h",
        "postgresql://u:p%40%2F@h:1234/d%20b?sslmode=require&connect_timeout=10",
        "postgresql://u@/d?host=/tmp/a%20b&port=5433",
        "postgresql://%2Ftmp%2Fsocket/d",
        "postgresql://u@h1:1,h2:2/d?target_session_attrs=any",
        "postgresql://u@[::1]:5432/d",
        "postgresql:///d?user=other&password=s",
    ],
)
def test_it_means_what_libpq_takes_it_for(text: str) -> None:
    expected = {name: value for name, value in psycopg.conninfo.conninfo_to_dict(text).items() if value}
    assert dsn.parse(text) == expected


@given(st.dictionaries(st.sampled_from(["user", "password", "dbname", "application_name"]), st.text(min_size=1)))
def test_what_is_written_is_read_again(parameters: dict[str, str]) -> None:
    parameters = {name: value.replace("\x00", "") or "x" for name, value in parameters.items()}
    assert dsn.parse(dsn.conninfo(parameters)) == parameters


@pytest.mark.parametrize("text", ["host", "host=h secret", "host=h password='s3cret", "postgresql://h?s3cret", "a b=c"])
def test_what_is_malformed_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="connection") as refused:
        dsn.parse(text)
    assert "s3cret" not in str(refused.value)


def test_secrets_are_masked() -> None:
    assert dsn.shown({"host": "h", "password": "s3cret", "sslpassword": "s"}) == "host=h password=*** sslpassword=***"
    assert dsn.hide_secrets("failed for s3cret%", {"password": "s3cret%"}) == "failed for ***"


def test_asyncpgs_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dsn.asyncpg_arguments(None) == {
        "dsn": "postgresql://?",
        "server_settings": {"application_name": "procrastinate_deps"},
    }
    assert dsn.asyncpg_arguments("host='/tmp/a b' dbname=d connect_timeout=3 keepalives=1 options='-c x=y'") == {
        "dsn": "postgresql://?host=%2Ftmp%2Fa%20b&dbname=d",
        "timeout": 3,
        "server_settings": {"application_name": "procrastinate_deps", "options": "-c x=y"},
    }
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGAPPNAME", "shop")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    assert dsn.asyncpg_arguments("dbname=d") == {
        "dsn": "postgresql://?dbname=d&host=127.0.0.1",
        "timeout": 7,
        "server_settings": {"application_name": "shop"},
    }
    assert "host=h&" in dsn.asyncpg_arguments("host=h dbname=d")["dsn"]


def test_the_hosts_that_asyncpg_is_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    both = [{"host": "a", "port": 1}, {"host": "b", "port": 2}]
    assert dsn.asyncpg_hosts("postgresql://u@a:1,b:2/d", {}) == both
    assert dsn.asyncpg_hosts("host=a,b port=1,2", {}) == both
    assert dsn.asyncpg_hosts("host=elsewhere", {"host": ["a", "b"], "port": [1, 2]}) == both
    assert dsn.asyncpg_hosts("host=a,b port=7", {}) == [{"host": "a", "port": 7}, {"host": "b", "port": 7}]
    assert dsn.asyncpg_hosts("host=name,name hostaddr=::1,10.0.0.1", {}) == [{"host": "::1"}, {"host": "10.0.0.1"}]
    assert dsn.asyncpg_hosts("postgresql://[::1]:1,b/d", {}) == [{"host": "::1", "port": 1}, {"host": "b"}]
    for one in ("", "host=a", "dbname=d", "service=s"):
        assert dsn.asyncpg_hosts(one, {}) == []
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "1,2")
    assert dsn.asyncpg_hosts("dbname=d", {}) == both
    assert dsn.asyncpg_hosts("service=s", {}) == []
    with pytest.raises(ValueError, match="2 hosts and 3 ports"):
        dsn.asyncpg_hosts("host=a,b port=1,2,3", {})


def test_what_goes_along_with_a_second_connection_string() -> None:
    options = {"host": "pooler", "port": 6432, "database": "d", "password": "s", "ssl": "require", "user": "u"}
    names = {"database": "dbname", "ssl": "sslmode"}
    assert dsn.options_for("host=db dbname=d", options, names) == {"password": "s", "ssl": "require", "user": "u"}
    assert dsn.options_for("postgresql://other:p@db/d?sslmode=disable", options, names) == {}


def test_silent_peers_are_noticed_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGSERVICE", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING"):
        monkeypatch.delenv(variable, raising=False)
    ours = dsn.defaults({})
    assert set(ours) == {
        "client_encoding",
        "connect_timeout",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    }
    assert "tcp_user_timeout" not in dsn.defaults({"tcp_user_timeout": "0"})
    assert dsn.defaults({"service": "s"}) == {}
    assert dsn.shown({"host": "h"} | ours) == "host=h"
    assert dsn.shown({"connect_timeout": "3"}) == "connect_timeout=3"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    assert "connect_timeout" not in dsn.defaults({})
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert "client_encoding" not in dsn.defaults({})


@pytest.mark.parametrize("parameter", ["channel_binding=require", "require_auth=scram-sha-256", "nonsense=1"])
def test_asyncpg_is_not_asked_for_what_it_can_not_do(parameter: str) -> None:
    with pytest.raises(ValueError, match=parameter.partition("=")[0]):
        dsn.asyncpg_arguments(f"host=h {parameter}")
