"""The table at the end of collect."""

from collections import Counter

from tune.data.collected import kind, ranked, table
from tune.data.sources.asking import Ledger

FIGURES = {
    "pages": 1200,
    "failures": 3,
    "failures_by": {"HTTP 404": 2, "a robot check": 1},
    "twins": 4,
    "held_out": 0,
    "characters": 2_345_678,
    "code_blocks": 90,
    "tables": 0,
}


def test_failures_are_grouped_by_kind_and_not_by_page():
    reasons = [
        "HTTP 404",
        "HTTP 404",
        "a robot check (Just a moment...)",
        "a robot check (Cloudflare)",
        "a redirect to https://a.example/1, which is elsewhere",
        "a redirect to https://a.example/2, which is elsewhere",
        "more than 4,000,000 bytes",
        "ConnectError: [Errno 111] refused, 4 times",
        "not asked: the budget of 5 requests is spent",
        "HTTP 429, and the server asks to wait 900 s",
    ]
    assert ranked(Counter(map(kind, reasons))) == {
        "HTTP 404": 2,
        "a redirect": 2,
        "a robot check": 2,
        "ConnectError": 1,
        "HTTP 429": 1,
        "more than 4,000,000 bytes": 1,
        "not asked": 1,
    }


def test_the_table_has_what_there_is():
    assert table(FIGURES, Ledger()).splitlines() == [
        "pages                1,200",
        "characters       2,345,678",
        "code blocks             90",
        "twins                    4",
        "failures                 3",
        "  HTTP 404               2",
        "  a robot check          1",
    ]


def test_what_the_run_asked_stands_below_and_an_estimate_only_where_a_price_is_stated():
    ledger = Ledger(
        requests=1300, received=5_000_000, by_brightdata=True, billed=1204, found="site: 1,207 URLs by links"
    )
    rows = table(FIGURES, ledger, price=1.5).splitlines()
    assert rows[0] == "site: 1,207 URLs by links"
    assert [row.split() for row in rows[-4:]] == [
        ["requests", "1,300"],
        ["bytes", "received", "5,000,000"],
        ["requests", "billed", "1,204"],
        ["cost,", "estimated", "$1.81"],
    ]
    assert "estimated" not in table(FIGURES, ledger)
    ledger.by_brightdata = False
    assert "billed" not in table(FIGURES, ledger, price=1.5)


def test_a_reason_of_a_stranger_s_words_moves_no_cursor_and_many_kinds_are_summed_up():
    many = {"\x1b[2J": 1} | {f"HTTP {400 + n}": 1 for n in range(15)}
    shown = table({**FIGURES, "failures_by": many}, Ledger())
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
    assert shown.splitlines()[-1].split() == ["of", "other", "kinds", "4"]


def test_a_source_with_figures_of_its_own_has_its_table_too():
    assert table({"pages": 1}, Ledger()) == "pages  1"
