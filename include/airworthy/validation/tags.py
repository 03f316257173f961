"""Which columns of an expression are made from tagged ones: their values are masked too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ibis.expr import operations as ops
from ibis.expr import types as ir


def inherited(expression: ir.Table, masks: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Masks of an expression's columns.

    Args:
        expression: A table expression.
        masks: Masks of the tagged columns of the tables that it reads, by the tables' names.

    Returns:
        The mask of each column whose value is computed from a tagged one; the strongest, when there are several.
    """
    if not any(masks.values()):
        return {}
    found = {}
    for name in expression.columns:
        seen = {
            mask
            for table, column in _sources(ops.Field(expression.op(), name))
            if (mask := _mask(masks, table, column))
        }
        if seen:
            found[name] = max(seen)
    return found


def _mask(masks: Mapping[str, Mapping[str, str]], table: str, column: str | None) -> str | None:
    known = masks.get(table, {})
    return known.get(column) if column is not None else max(known.values(), default=None)


def _sources(field: ops.Field) -> Iterator[tuple[str, str | None]]:
    """The columns of real tables that a column is computed from; None stands for all of a table."""
    relation, name = field.rel, field.name
    if isinstance(relation, ops.PhysicalTable):
        yield (relation.name, name)
        return
    values = getattr(relation, "values", None)
    if isinstance(values, Mapping) and name in values and isinstance(relation, _PLAIN):
        yield from _of(values[name])
        return
    parent = getattr(relation, "parent", None)
    if isinstance(relation, _PASSING) and parent is not None and name in parent.schema:
        yield from _sources(ops.Field(parent, name))
        return
    # A relation that we cannot follow by column: anything in it may be in the value.
    for table in relation.find(ops.PhysicalTable):
        yield (table.name, None)


def _of(value: ops.Node) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, ops.Field):
        yield from _sources(value)
        return
    if isinstance(value, ops.CountStar):
        return  # how many rows there are says nothing about a value in them
    for child in value.__children__:
        if isinstance(child, ops.Relation):
            for table in child.find(ops.PhysicalTable):
                yield (table.name, None)
        else:
            yield from _of(child)


_PLAIN = (ops.Project, ops.Aggregate, ops.JoinChain)
_PASSING = (ops.Filter, ops.Sort, ops.Limit, ops.Distinct, ops.DropColumns, ops.JoinReference, ops.SelfReference)
