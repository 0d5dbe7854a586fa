from __future__ import annotations

import re

import pytest

from simnode.experiments import charts


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (80.3, [0, 25, 50, 75, 100]),
        (40.0, [0, 10, 20, 30, 40]),
        (3.3, [0, 1, 2, 3, 4]),
        (0.02, [0, 0.005, 0.01, 0.015, 0.02]),
        (0, [0, 1]),
    ],
)
def test_ticks_are_round_and_reach_the_highest_value(highest: float, ticks: list[float]):
    assert charts.nice_ticks(highest) == pytest.approx(ticks)


def test_every_mode_has_a_picture_and_every_phase_a_band_in_it(results):
    for pictures in (charts.memory_pictures(results), charts.backlog_pictures(results)):
        assert [picture.title for picture in pictures] == ["single", "mapped"]
        for picture in pictures:
            assert [band.title for band in picture.bands] == ["1 MiB put", "1 MiB recv", "1 MiB recv_stream"]


def test_pictures_share_their_scale_and_stay_inside_their_frame(results):
    pictures = charts.memory_pictures(results)

    assert pictures[0].ticks == pictures[1].ticks
    for picture in pictures:
        for line in picture.lines:
            for x, y in re.findall(r"([\d.]+),([\d.]+)", line.path):
                assert charts.LEFT <= float(x) <= charts.WIDTH - charts.RIGHT + 0.1
                assert charts.TOP <= float(y) <= picture.baseline + 0.1


def test_a_line_is_as_high_as_its_value(results):
    single = charts.memory_pictures(results)[0]
    handler = next(line for line in single.lines if line.key == "connection_handler")

    assert single.ticks[-1].label == "4", "the highest value is 4 MiB"
    assert handler.path.split(" ")[0].endswith(f",{charts.TOP:.1f}")


def test_the_legend_names_each_line_once(results):
    names = [line.name for line in charts.legend(charts.memory_pictures(results))]

    assert names == ["connection handler", "contract store", "client"]


def test_handler_bars_are_in_proportion_and_tell_the_ratio(results):
    (picture,) = charts.handler_bars(results)
    single, mapped = picture.bars

    assert (single.label, mapped.label) == ("4.0 MiB (1.00 ×)", "1.0 MiB (≈0.25 ×)")
    assert mapped.width == pytest.approx(single.width / 4)


def test_client_bars_have_recv_and_recv_stream_apart_and_no_put(results):
    (picture,) = charts.client_bars(results)

    assert [(bar.name, bar.key) for bar in picture.bars] == [
        ("single", "recv"),
        ("", "recv_stream"),
        ("mapped", "recv"),
        ("", "recv_stream"),
    ]
    assert all(after.y > before.y for before, after in zip(picture.bars, picture.bars[1:], strict=False))


def test_nothing_measured_is_drawn_as_nothing(results):
    """An experiment whose peaks are all zero has pictures, too."""
    flat = results.model_copy(
        update={
            "phases": tuple(
                phase.model_copy(
                    update={
                        "memory": phase.memory.model_copy(
                            update={"peak_over_idle_bytes": dict.fromkeys(phase.memory.peak_over_idle_bytes, 0)}
                        )
                    }
                )
                for phase in results.phases
            )
        }
    )

    assert [bar.label for bar in charts.handler_bars(flat)[0].bars] == ["0.0 MiB (1.00 ×)", "0.0 MiB (≈0.25 ×)"]
