from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from simnode.experiments.report import cautions, render_report
from simnode.experiments.results import CLIENT, HANDLER

VOID = {"meta", "link", "br"}


class Balance(HTMLParser):
    """Notes tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Opened and closed."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture
def html(results, run) -> str:
    return render_report(results, run)


def test_the_report_fetches_nothing(html: str):
    assert not re.search(r"https?://|src=|@import|url\(|<script", html)


def test_the_report_is_well_formed(html: str):
    balance = Balance()
    balance.feed(html)

    assert (balance.open, balance.wrong) == ([], [])


def test_what_a_scenario_says_is_text_and_no_markup(html: str):
    assert "Small &amp; &lt;made up&gt;" in html
    assert "<made up>" not in html


def test_the_report_has_the_figures_the_configuration_and_the_machine(html: str):
    for expected in ("1 MiB recv_stream", "A processor", "libbig.so", "simnode run small", "&#34;seed&#34;: 7", "0.25"):
        assert expected in html


def test_every_colour_that_a_picture_uses_is_defined(html: str):
    style, _, body = html.partition("</style>")
    used = {name for names in re.findall(r'class="([^"]+)"', body) for name in names.split() if name[1:2] == "-"}

    assert used
    assert not [name for name in used if f".{name}" not in style]


def test_the_report_says_whether_the_thresholds_hold(results, run):
    assert "all 2 thresholds hold" in render_report(results, run)
    failed = (results.verdicts[0].model_copy(update={"passed": False}), results.verdicts[1])
    assert "1 of 2 thresholds failed" in render_report(results.model_copy(update={"verdicts": failed}), run)


def test_an_undisturbed_run_needs_no_caution(results, run):
    assert cautions(results, run) == []


def test_a_reader_is_told_what_the_figures_suffered_from(results, run, make_phase):
    memory = make_phase().memory.model_copy(update={"is_steady": False})
    phases = (make_phase(memory=memory), make_phase(cpu_seconds={CLIENT: 0.99, HANDLER: 0.1}))

    told = cautions(results.model_copy(update={"phases": phases}), run.model_copy(update={"cpu_share_of_others": 0.4}))

    assert [re.sub(r"[:,].*", "", sentence) for sentence in told] == [
        "Other programs used up to 40% of the CPU meanwhile",
        "In 1 of 2 phases the client used more than 90 % of a core",
        "Before 1 of 2 phases memory did not come to rest",
    ]


def test_puts_are_one_row_and_what_chance_explains_is_marked(html: str):
    assert html.count("<td>any mode</td>") == 2, "in both tables"
    assert '<td class="chance">≈1.00</td>' in html
    assert "puts are the control" in html
