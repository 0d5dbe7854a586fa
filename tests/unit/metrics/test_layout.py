from __future__ import annotations

import pytest

from simnode.metrics import layout
from simnode.metrics.catalogue import CATALOGUE
from simnode.metrics.layout import UnknownMetricError, cells_of, layout_of
from simnode.metrics.model import Kind, Role


@pytest.mark.parametrize("role", list(Role))
def test_blocks_cover_the_slab_without_gap_or_overlap(role: Role) -> None:
    taken: list[int] = []
    for block in layout_of(role).blocks:
        for first in block.cells.values():
            taken += range(first, first + cells_of(block.metric))
    assert taken == list(range(layout_of(role).cell_count))


def test_roles_have_different_fingerprints() -> None:
    """Even where two roles have the same metrics: a slab is never read as another role's."""
    assert len({layout_of(role).fingerprint for role in Role}) == len(Role)


def test_fingerprint_changes_with_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    before = layout_of(Role.CONTRACT_STORE).fingerprint
    monkeypatch.setattr(layout, "CATALOGUE", CATALOGUE[::-1])
    assert layout_of.__wrapped__(Role.CONTRACT_STORE).fingerprint != before


def test_metric_of_another_role_is_unknown() -> None:
    with pytest.raises(UnknownMetricError, match=r"gives contract_store no metric simnode_requests_total"):
        layout_of(Role.CONTRACT_STORE).block("simnode_requests_total", Kind.COUNTER)


def test_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(UnknownMetricError, match=r"is a counter, not a gauge"):
        layout_of(Role.CONNECTION_HANDLER).block("simnode_requests_total", Kind.GAUGE)


def test_metric_that_the_exporter_finds_out_has_no_cells() -> None:
    with pytest.raises(UnknownMetricError):
        layout_of(Role.CONNECTION_HANDLER).block("simnode_process_up", Kind.GAUGE)


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"kind": "put"},
        {"kind": "put", "encoding": "native", "outcome": "ok", "client": "7"},
        {"kind": "put", "encoding": "native", "outcome": "splendid"},
    ],
)
def test_labels_outside_the_closed_sets_are_refused(labels: dict[str, str]) -> None:
    block = layout_of(Role.CONNECTION_HANDLER).block("simnode_requests_total", Kind.COUNTER)
    with pytest.raises(UnknownMetricError):
        block.cell(labels)
