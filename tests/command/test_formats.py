"""Templates of records: what is printed can be read again, and what is wrong is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.client.outgoing import ProducerRecord
from quorumlog.client.records import Record
from quorumlog.command.input_format import InputFormat
from quorumlog.command.record_format import HEADER_LETTERS, LETTERS, RecordFormat
from quorumlog.command.templates import Field, Part, parse_template, template_text

RECORD = Record(
    "orders", 2, 17, 1_700_000_000_000, 1_700_000_000_005, b"k", b"value", (("a", b"1"), ("b", b"2"))
)
NULLS = RECORD._replace(key=None, value=None, headers=())


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("%v", b"value"),
        (r"%t %p %o %k %v\n", b"orders 2 17 k value\n"),
        ("%t/%p@%o", b"orders/2@17"),
        (r"%T\t%s", b"1700000000000\tvalue"),
        ("%K %V %S", b"1 5 5"),
        ("%h", b"a=1,b=2"),
        ("%H%h{ [%k:%v %K]}!", b"2 [a:1 1] [b:2 1]!"),
        (r"%h{\{%k\}}", b"{a}{b}"),
        (r"100%% \x00\0\\%v\r\n", b"100% \0\0\\value\r\n"),
        ("\N{EURO SIGN}%v", "\N{EURO SIGN}value".encode()),
        (r"{%v}", b"{value}"),
    ],
)
def test_what_is_printed(template: str, expected: bytes) -> None:
    assert RecordFormat(template).render(RECORD) == expected


def test_nulls_are_empty_and_have_length_minus_one() -> None:
    assert RecordFormat("[%k|%v|%K|%V|%h|%H]").render(NULLS) == b"[||-1|-1||0]"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("%x", "there is no %x; valid are %t topic, %p partition, "),
        ("%v %", "a % at the end is written %%"),
        (r"\q", r"there is no \\q; valid are"),
        (r"\x1", r"there is no \\x"),
        ("%v\\", r"there is no \\; valid are"),
        ("%h{%v", "a brace is not closed"),
        ("%h{%t}", "there is no %t; valid are %k name"),
    ],
)
def test_what_is_wrong_is_named(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordFormat(template)


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """As parsing gives them: no bytes side by side, none empty."""
    joined: list[Part] = []
    for part in parts:
        if part == b"":
            continue
        if joined and isinstance(part, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def _parts(letters: st.SearchStrategy[Field]) -> st.SearchStrategy[tuple[Part, ...]]:
    return st.lists(st.binary(max_size=4) | letters, max_size=6).map(_joined)


plain = st.sampled_from([Field(letter) for letter in LETTERS if letter != "h"])
headers = _parts(st.sampled_from([Field(letter) for letter in HEADER_LETTERS])).map(
    lambda parts: Field("h", parts)
)


def _no_brace_after_h(parts: tuple[Part, ...]) -> bool:
    return Field("h") not in parts


@given(_parts(plain | headers | st.just(Field("h"))))
def test_a_template_is_parsed_to_what_it_was_written_from(parts: tuple[Part, ...]) -> None:
    assert parse_template(template_text(parts), LETTERS, HEADER_LETTERS) == parts


@given(st.text(max_size=30))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = RecordFormat(text)
    except ValueError:
        return
    assert isinstance(template.render(RECORD), bytes)


fields = st.binary(max_size=20).map(lambda content: content.replace(b"|", b"").replace(b"\n", b""))
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)
values = fields.map(lambda content: content.replace(b",", b""))


@given(
    st.permutations("kvpTh"),
    st.builds(
        Record,
        topic=st.just("t"),
        partition=st.integers(0, 100),
        offset=st.just(0),
        timestamp_ms=st.integers(0, 1 << 48),
        append_time_ms=st.just(0),
        key=fields,
        value=fields,
        headers=st.lists(st.tuples(names, values), max_size=3).map(tuple),
    ),
    st.sampled_from(["|", "||", r"\x7c\x01"]),
)
def test_what_consume_prints_produce_reads(letters: list[str], record: Record, separator: str) -> None:
    template = "<" + separator.join(f"%{letter}" for letter in letters) + r">\n"
    line = RecordFormat(template).render(record)
    assert InputFormat(template).parse(line.removesuffix(b"\n")) == ProducerRecord(
        record.value, record.key, record.headers, record.partition, record.timestamp_ms
    )


def test_only_the_last_field_may_have_the_separator() -> None:
    pair = InputFormat(r"%k=%v\n")
    assert pair.parse(b"a=b=c") == ProducerRecord(b"b=c", b"a", ())
    assert pair.parse(b"=") == ProducerRecord(b"", b"", ())
    assert InputFormat("%k:%v;%T").parse(b"a:b:c;1") == ProducerRecord(b"b:c", b"a", (), None, 1)


@pytest.mark.parametrize(
    ("template", "line", "message"),
    [
        ("%k=%v", b"none", "does not look like '%k=%v'"),
        ("<%v>", b"<", "does not look like"),
        ("aa%vaa", b"aaa", "does not look like"),
        ("%p %v", b"x y", "%p: expected a whole number, got 'x'"),
        ("%T %v", b"-1 y", "%T: expected a whole number"),
        ("%h %v", b"a y", "%h: expected name=value"),
        ("%h %v", b"\xff=1 y", "%h: expected name=value"),
    ],
)
def test_a_line_that_does_not_fit_is_refused(template: str, line: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputFormat(template).parse(line)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("%k%v", "%k%v: a separator is needed between them"),
        ("%v %s", "has %v twice"),
        ("plain", "has no field"),
        ("", "has no field"),
        (r"%k\n%v", "may stand at the end only"),
        ("%o", "there is no %o; valid are %k key, "),
        ("%h{%k}", "does not look like"),
    ],
)
def test_a_template_for_input_that_cannot_work_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputFormat(template).parse(b"")
