"""The report as tables."""

from datakit.stats import tables
from datakit.stats.summary import summarize
from datakit.stats.tables import Table, lines_of
from registry.records import TextRecord
from tests.conftest import chat, preference
from tests.datakit.stats.conftest import measured


def test_a_table_is_loose_where_there_is_room_and_tight_where_not():
    table = Table("t", ("name", "n"), [("a", "10"), ("bcdef", "9")], left=frozenset({0}))
    assert lines_of(table, 80) == ["name     n", "─────   ──", "a       10", "bcdef    9"]
    assert lines_of(table, 5)[0] == "name    n"


def test_the_suggested_row_is_marked():
    table = tables.candidate_table(summarize(measured([chat("q", "a" * 90)] * 9)))
    (marked,) = table.mark
    assert table.rows[marked][0] == "128 *"


def test_rows_that_would_not_be_trained_at_all_have_a_column_only_where_there_are_some():
    """Of 100 + 5 tokens in 8 places int(8 * 5 / 105) = 0 are the answer's."""
    many = [chat("q", "a")] * 20
    some = tables.candidate_table(summarize(measured([*many, chat("q" * 100, "a" * 5)], template="empty")))
    none = tables.candidate_table(summarize(measured(many, template="empty")))
    assert "not trained" in some.heads
    assert "not trained" not in none.heads


def test_every_table_has_a_cell_for_each_head():
    for found in (
        measured([chat("q", "a")]),
        measured([preference("q", chosen="a", rejected="b")], stage="dpo"),
        measured([TextRecord("text" * 100)], stage="pt"),
    ):
        summary = summarize(found)
        summary["sources"] *= 2
        told = (tables.length_table, tables.candidate_table, tables.role_table, tables.side_table, tables.source_table)
        for table in filter(None, (tell(summary) for tell in told)):
            assert all(len(row) == len(table.heads) for row in table.rows)


def test_of_many_sources_the_largest_are_shown_and_the_rest_counted():
    summary = summarize(measured([chat("q", "a")]))
    (one,) = summary["sources"]
    summary["sources"] = [{**one, "source": f"{n}.jsonl", "rows": n} for n in range(100)]
    table = tables.source_table(summary)
    assert len(table.rows) == tables.MOST_SOURCES
    assert table.rows[0][0] == "99.jsonl"
    assert table.note == "The largest of 100; --json has all."


def test_one_source_needs_no_table():
    assert tables.source_table(summarize(measured([chat("q", "a")]))) is None


def test_one_rejected_row_is_one_row():
    found = measured([chat("q", "a"), chat("q", "")], template="empty")
    assert tables.headline(summarize(found)).endswith(" · 1 row rejected")
