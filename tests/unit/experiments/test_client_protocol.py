from __future__ import annotations

import pytest

from simnode.experiments.client_protocol import (
    Connect,
    Done,
    Failed,
    GetState,
    PutCuts,
    Sample,
    read_order,
    read_report,
    to_line,
)


@pytest.mark.parametrize(
    "order",
    [
        Connect(url="ws://127.0.0.1:1", encoding="native", streaming=True, warm_up="w"),
        PutCuts(params="p", cuts=[["/a file", 3, 4]], repetitions=2),  # JSON has no tuples
        GetState(params="p", blake3="00", piece_by_piece=False, repetitions=2),
    ],
)
def test_an_order_survives_the_pipe_as_one_line(order: Connect | PutCuts | GetState):
    line = to_line(order)

    assert line.count(b"\n") == 1
    assert read_order(line) == order


@pytest.mark.parametrize("report", [Sample(seconds=0.25, matches=False), Done(), Failed(reason="a\nb")])
def test_a_report_survives_the_pipe_as_one_line(report: Sample | Done | Failed):
    line = to_line(report)

    assert line.count(b"\n") == 1
    assert read_report(line) == report
