"""That the published table says what the codec does."""

import re
from dataclasses import MISSING
from pathlib import Path

import pytest

from simnode.protocol.codec import msgpack_names, schema, variants
from simnode.protocol.codec.msgpack_names import ERRORS, REQUESTS, RESPONSES, fields_in_order

TABLE = Path(msgpack_names.__file__).with_name("MSGPACK.md").read_text()

Fields = list[tuple[str, str]]
"""Names of fields in order, each with `?` for an Option, `=` for a default, or nothing."""


def published_fields(text: str) -> Fields:
    """The fields of one cell of the table, or of one form of a cell with several."""
    outer = re.sub(r"\{`.*?\}", "", text)
    cells = re.findall(r"`(\w+)`([^`]*)", outer)
    return [(name, "?" if "?" in rest else "=" if "=" in rest else "") for name, rest in cells]


def published(section: str) -> dict[str, Fields]:
    """The rows of one of the first three tables, one entry per name."""
    body = TABLE.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|(.*)\|$", body, re.MULTILINE)
    return {name: published_fields(cell) for names, cell in rows for name in re.findall(r"`([\w.]+)`", names)}


def published_forms(name: str) -> dict[str, Fields]:
    """The forms of an enum in the last table."""
    (cell,) = re.findall(rf"^\| {name} \| (.*) \|$", TABLE, re.MULTILINE)
    forms = [form.partition(":") for form in re.split(" · ", cell)]
    return {form: published_fields(fields) for forms_, _, fields in forms for form in re.findall(r"`(\w+)`", forms_)}


def ours(record: schema.Record) -> Fields:
    """The fields of a class as the codec treats them."""
    defaults = record.cls.__dataclass_fields__
    return [
        (
            spelled,
            "=" if defaults[name].default not in (MISSING, None) else "?" if isinstance(shape, schema.Option) else "",
        )
        for spelled, name, shape in fields_in_order(record)
    ]


@pytest.mark.parametrize(
    ("section", "named"),
    [("Requests", REQUESTS), ("Responses", RESPONSES), ("Errors", ERRORS)],
    ids=lambda v: str(v)[:9],
)
def test_the_published_table_names_every_message_and_its_fields(section, named):
    assert published(section) == {name: ours(record) for name, record in named.items()}


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("UpdateData", variants.UPDATE_DATA),
        ("Inbound", variants.INBOUND_DELEGATE_MSG),
        ("Outbound", variants.OUTBOUND_DELEGATE_MSG),
        ("StreamContent", variants.STREAM_CONTENT),
    ],
)
def test_the_published_table_names_every_form_inside_messages(name, tree):
    forms = {path[-1]: ours(record) for path, record in schema.choice(tree).leaves()}
    assert published_forms(name) == forms


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ContractKey", ["instance", "code"]),
        ("Contract", ["data", "code_hash", "params", "key"]),
        ("DelegateKey", ["key", "code_hash"]),
        ("Delegate", ["parameters", "data", "code_hash", "key"]),
        ("Secret", ["key", "hash"]),
    ],
)
def test_the_keys_and_containers_are_published(name, fields):
    (cell,) = re.findall(rf"^\| {name} \| (.*) \|$", TABLE, re.MULTILINE)
    assert [field for field, _ in published_fields(cell)] == fields


def test_a_name_is_qualified_exactly_where_it_would_be_ambiguous():
    qualified = {name for name in (*REQUESTS, *RESPONSES, *ERRORS) if "." in name}
    assert qualified == {
        "ContractOp.Put",
        "ContractOp.Update",
        "ContractOp.Get",
        "ContractOp.Subscribe",
        "NodeQueries.ConnectedPeers",
        "NodeQueries.NodeDiagnostics",
        "QueryResponse.ConnectedPeers",
        "QueryResponse.NodeDiagnostics",
        "Err.Disconnect",
        "Err.RequestError.Disconnect",
        "Err.RequestError.ContractError.Get",
        "Err.RequestError.ContractError.Put",
        "Err.RequestError.ContractError.Update",
        "Err.RequestError.ContractError.Subscribe",
    }
    assert "Disconnect" in REQUESTS
    assert not set(RESPONSES) & set(ERRORS)
