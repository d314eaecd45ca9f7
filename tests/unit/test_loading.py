from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps.exceptions import LoadFromPathError
from procrastinate_deps.loading import load_from_path

if TYPE_CHECKING:
    from pathlib import Path


def test_an_object_by_its_path() -> None:
    assert load_from_path("datetime.date", type) is date


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("app", "package.module.name"),
        ("no_such_module_here.app", "no_such_module_here"),
        ("decimal.no_such_name", "no_such_name"),
        ("decimal.Decimal", "not an int"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(path: str, words: str) -> None:
    with pytest.raises(LoadFromPathError, match=words):
        load_from_path(path, int)


def test_a_module_that_fails_to_import_keeps_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_module.py").write_text("import no_such_thing_inside\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LoadFromPathError, match="no_such_thing_inside") as raised:
        load_from_path("half_module.app", Decimal)
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)
