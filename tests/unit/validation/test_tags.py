"""What is computed from a tagged column is tagged, through joins, groups and renames; what is not is not."""

from __future__ import annotations

from collections.abc import Callable

import ibis
import pytest
from ibis.expr import types as ir

from airworthy.validation import inherited

PEOPLE = ibis.table({"name": "string", "town": "string", "age": "int64"}, name="people")
TOWNS = ibis.table({"town": "string", "size": "int64"}, name="towns")
MASKS = {"people": {"name": "[personal]", "age": "[secret]"}, "towns": {}}

CASES: list[tuple[Callable[[], ir.Table], dict[str, str]]] = [
    (lambda: PEOPLE, {"name": "[personal]", "age": "[secret]"}),
    (lambda: PEOPLE.drop("name").rename(years="age"), {"years": "[secret]"}),
    (lambda: PEOPLE.select("town", both=PEOPLE.name + PEOPLE.age.cast("string")), {"both": "[secret]"}),
    (
        lambda: PEOPLE.filter(PEOPLE.age > 3).order_by("name").limit(3).select("town", n=PEOPLE.name),
        {"n": "[personal]"},
    ),
    (lambda: PEOPLE.join(TOWNS, "town").select("size", who="name"), {"who": "[personal]"}),
    (lambda: PEOPLE.group_by("town").agg(rows=lambda t: t.count(), old=lambda t: t.age.max()), {"old": "[secret]"}),
    (
        lambda: TOWNS.join(PEOPLE.group_by("town").agg(rows=lambda t: t.count(), x=lambda t: t.name.first()), "town"),
        {"x": "[personal]"},
    ),
    # What cannot be followed column by column is masked whole, the strongest way.
    (lambda: PEOPLE.union(PEOPLE).select("town"), {"town": "[secret]"}),
]


@pytest.mark.parametrize(("build", "expected"), CASES)
def test_tags_follow_the_values(build: Callable[[], ir.Table], expected: dict[str, str]) -> None:
    assert inherited(build(), MASKS) == expected


def test_without_tags_nothing_is_followed() -> None:
    assert inherited(PEOPLE, {"people": {}}) == {}
