"""What people put on scrape.urls: understood, or refused with the reason; and the identity that a job gets from it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.errors import BadRecord
from processors.http.url import MAX_URL_CHARS
from processors.messages.scrape_request import (
    MAX_JOB_ID_CHARS,
    ScrapeRequest,
    canonical_url,
    check_job_id,
    content_hash,
    derived_job_id,
    encode_request,
    read_request,
)
from processors.saga.plan import Identity
from schemas.codec import codec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.builds(
    ScrapeRequest,
    url=TEXT,
    pipeline=st.none() | TEXT,
    job_id=st.none() | TEXT,
    payload=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
    label=st.none() | TEXT,
)


# --- reading ---------------------------------------------------------------------------------------------------------


@given(REQUESTS)
def test_avro_and_json_say_the_same(request: ScrapeRequest) -> None:
    """A request in Avro and the same in JSON are one request."""
    assert read_request(encode_request(request), None) == request
    assert read_request(msgspec.json.encode(request), None) == request


def test_a_bare_url_is_a_request() -> None:
    """What `echo URL | kcat -P` sends is understood, with the newline that it ends in."""
    assert read_request(b"https://shop.example/1\n", b"any key") == ScrapeRequest(url="https://shop.example/1")


def test_json_may_be_surrounded_by_space() -> None:
    """Pretty-printed JSON is JSON."""
    assert read_request(b'\n  {"url": "http://x/"}\n', None).url == "http://x/"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "empty record"),
        (b"", "empty record"),
        (b"shop.example/1", "expected a ScrapeRequest"),
        (b"ftp://shop.example/", "expected a ScrapeRequest"),
        (b'"http://x/"', "expected a ScrapeRequest"),
        (b"[1]", "expected a ScrapeRequest"),
        (b"{", "not a ScrapeRequest"),
        (b"{}", "url"),
        (b'{"url": 1}', "url"),
        (b'{"url": "http://x/", "pipline": "p"}', "pipline"),
        (b'{"url": "http://x/", "payload": []}', "payload"),
        (b'{"url": "http://x/\xff"}', "not a ScrapeRequest"),
        (b"http://x/\xff", "not UTF-8"),
        (b"\xc3\x01", "not a ScrapeRequest"),
        (b"\xc3\x01\0\0\0\0\0\0\0\0", "not a ScrapeRequest"),
        (b"\0\0\0\0\1abc", "SCRAPESAGA_SCHEMA_REGISTRY_URL"),
    ],
)
def test_what_is_no_request_is_refused(value: bytes | None, says: str) -> None:
    """Each refusal names what was wrong."""
    with pytest.raises(BadRecord, match=says):
        read_request(value, None)


@pytest.mark.parametrize("payload", ["[1]", "{", "1", "null"])
def test_an_avro_payload_that_is_no_object_is_refused(payload: str) -> None:
    """The payload travels as JSON text inside Avro; it has to be an object there, too."""
    fields = {"url": "http://x/", "pipeline": None, "job_id": None, "payload": payload, "label": None}
    with pytest.raises(BadRecord, match="not a ScrapeRequest"):
        read_request(codec("scrape_request").encode(fields), None)


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    """Nothing that lies on the topic raises anything but BadRecord."""
    for candidate in (value, b"{" + value, b"http://" + value, b"\xc3\x01" + value):
        try:
            read_request(candidate, None)
        except BadRecord as error:
            assert str(error)


@pytest.mark.parametrize("levels", [5_000, 400_000])
def test_a_payload_nested_without_end_is_refused(levels: int) -> None:
    """One hostile record must not stop intake: it is set aside like any other that can't be read."""
    payload = '{"a":' + "[" * levels + "]" * levels + "}"
    with pytest.raises(BadRecord, match="nested too deep"):
        read_request(f'{{"url": "http://x/", "payload": {payload}}}'.encode(), None)
    fields = {"url": "http://x/", "pipeline": None, "job_id": None, "payload": payload, "label": None}
    with pytest.raises(BadRecord, match="nested too deep"):
        read_request(codec("scrape_request").encode(fields), None)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@x:99999999/",
        "//me:hunter2@x/",
        "me:hunter2@x",
        "ftp://x/?token=hunter2",
        "http://[::x/?hunter2",
    ],
)
def test_a_refusal_shows_no_password_and_no_query(url: str) -> None:
    """What a URL carries besides scheme, host and path may be a secret, and refusals are logged."""
    with pytest.raises(BadRecord) as refusal:
        canonical_url(url)
    assert "hunter2" not in str(refusal.value)


# --- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://x", "http://x/"),
        ("HTTP://Shop.Example/A", "http://shop.example/A"),
        ("http://x:80/", "http://x/"),
        ("https://x:443/a", "https://x/a"),
        ("https://x:80/", "https://x:80/"),
        ("http://x:8080/", "http://x:8080/"),
        ("http://x:/", "http://x/"),
        ("http://[::1]:80/", "http://[::1]/"),
        ("http://[::1]/", "http://[::1]/"),
        ("http://x/?b=2&a=1", "http://x/?b=2&a=1"),
        ("http://x/?a=", "http://x/?a="),
        ("http://x/#part", "http://x/"),
        (" http://x/ ", "http://x/"),
        ("http://x/ä b", "http://x/%C3%A4%20b"),
        ("http://x/%7euser", "http://x/%7euser"),
    ],
)
def test_one_form_of_a_url(url: str, canonical: str) -> None:
    """Spellings of one URL are one job. These forms are frozen: changing one makes known pages look new."""
    assert canonical_url(url) == canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://x/p?id=2&id=1", "http://x/p?id=1&id=2"),
        ("http://x/p?z=1&a=2&sig=H", "http://x/p?a=2&sig=H&z=1"),
        ("http://x/index.pl?Action=Zoom;TicketID=7", "http://x/index.pl?Action=Zoom%3BTicketID%3D7"),
        ("http://x/x%2By", "http://x/x+y"),
        ("http://x/s?1800", "http://x/s?1800="),
        ("http://x/s?", "http://x/s"),
        ("http://x/a%2fb", "http://x/a%2Fb"),
        ("http://x/a%2Fb", "http://x/a/b"),
        ("http://x/~user", "http://x/%7Euser"),
        ("http://x/a//b", "http://x/a/b"),
        ("http://x/A", "http://x/a"),
        ("http://x/a/", "http://x/a"),
        ("http://x/?q=a+b", "http://x/?q=a%20b"),
        ("http://x/?a=1&&b=2", "http://x/?a=1&b=2"),
        ("http://x/?a=1&amp;b=2", "http://x/?a=1&b=2"),
        ("http://straße.example/", "http://strasse.example/"),
        ("http://x./", "http://x/"),
        ("http://x:8080/", "http://x/"),
        ("http://x/", "https://x/"),
    ],
)
def test_what_a_server_may_tell_apart_is_two_jobs(one: str, other: str) -> None:
    """Order, escapes, empty values: each is a request of its own, and what is requested is what was submitted."""
    assert canonical_url(one) != canonical_url(other)


@pytest.mark.parametrize(
    ("submitted", "requested"),
    [
        ("http://straße.example/", "http://xn--strae-oqa.example/"),
        ("http://MÜNCHEN.example/", "http://xn--mnchen-3ya.example/"),
        ("http://日本語。jp/", "http://xn--wgv71a119e.jp/"),
        ("http://☃.net/", "http://xn--n3h.net/"),
        ("http://ex%41mple.com/", "http://example.com/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://x/a/../b/./%2e%2e/c", "http://x/c"),
        ("http://x\\a", "http://x/a"),
        ("http://x/?q=ä&r='|^", "http://x/?q=%C3%A4&r=%27|^"),
    ],
)
def test_addresses_are_read_as_browsers_read_them(submitted: str, requested: str) -> None:
    """The WHATWG's URL standard, host names by IDNA 2008, not transitional."""
    assert canonical_url(submitted) == requested


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://xn--a.example/", "host name"),
        ("http://a b/", "host name"),
        ("http://256.1.1.1/", "host name"),
        ("http://x:4294967376/", "no port 4294967376"),
        ("http://x:" + "9" * 5000 + "/", "no port"),
        ("http://x:0/", "no port 0"),
        ("http://x:٨٠/", "no number"),
        ("http://" + "a" * 64 + ".example/", "longer than DNS"),
        ("http://" + "ab." * 90 + "example/", "longer than DNS"),
        ("http://a..b/", "empty label"),
        ("http://x/\ud800", "UTF-8"),
        ("http://x/" + "日" * 2000, "once it is encoded"),
    ],
)
def test_addresses_that_no_resolver_takes_are_refused(url: str, says: str) -> None:
    """IDNA errors, ports beyond 16 bits and names beyond DNS are bad input with a reason, not an unexpected error later."""
    with pytest.raises(BadRecord, match=says):
        canonical_url(url)


def test_the_user_says_what_else_is_one_job() -> None:
    """`identity` names arguments that don't count and lets go of their order; the same name twice keeps its order."""
    rule = Identity(sort_query=True, ignore=("utm_*", "gclid"))
    form = "http://x/p?a=2&id=2&id=1"
    for url in (
        "http://x/p?id=2&id=1&a=2",
        "http://x/p?a=2&utm_source=m&id=2&gclid=9&id=1",
        "http://x/p?utm%5Fid=1&" + form[11:],
    ):
        assert canonical_url(url, rule) == form
    assert canonical_url("http://x/p?id=1&id=2&a=2", rule) != form
    assert canonical_url("http://x/p?utm_source=m", rule) == "http://x/p"
    assert canonical_url("http://x/p?b=1&a=2", Identity(ignore=("gclid",))) == "http://x/p?b=1&a=2"
    assert canonical_url(form, rule) == form


def test_a_scheme_in_capitals_is_a_url() -> None:
    """A bare URL is known by its scheme, in any case."""
    assert read_request(b"HTTPS://Shop.example/1", None).url == "HTTPS://Shop.example/1"


URLS = st.builds(
    lambda scheme, host, port, path, query: f"{scheme}://{host}{port}/{path}{query}",
    st.sampled_from(["http", "https", "HTTP"]),
    st.sampled_from(["x", "Shop.Example", "[::1]", "127.0.0.1", "münchen.example"]),
    st.sampled_from(["", ":80", ":443", ":8080", ":"]),
    st.text(max_size=12),
    st.builds("?{}={}&{}".format, st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)) | st.just(""),
)


@given(URLS)
@settings(max_examples=300)
def test_the_canonical_form_is_its_own(url: str) -> None:
    """The canonical form of a canonical form is itself, and any URL has one or is refused."""
    try:
        canonical = canonical_url(url)
    except BadRecord:
        return
    assert canonical_url(canonical) == canonical


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """Nothing that somebody calls a URL raises anything but BadRecord."""
    for candidate in (text, "http://" + text):
        try:
            assert canonical_url(candidate).startswith(("http://", "https://"))
        except BadRecord as error:
            assert str(error)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("shop.example/1", "absolute"),
        ("ftp://x/", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("javascript:alert(1)", "absolute"),
        ("http://", "absolute"),
        ("http:///path", "absolute"),
        ("", "absolute"),
        ("http://u:p@x/", "user name or password"),
        ("http://u@x/", "user name or password"),
        ("http://@x/", "user name or password"),
        ("http://:@x/", "user name or password"),
        ("http://x/\n", "control characters"),
        ("http://x/\0", "control characters"),
        ("http://x/\x7f", "control characters"),
        ("http://x:99999/", "not a URL"),
        ("http://x:a/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://x/" + "a" * MAX_URL_CHARS, "at most"),
    ],
)
def test_what_cannot_be_fetched_is_refused(url: str, says: str) -> None:
    """Each refusal names what is wrong with the URL."""
    with pytest.raises(BadRecord, match=says):
        canonical_url(url)


def test_a_derived_id_follows_pipeline_and_url() -> None:
    """The same page in the same pipeline is the same job; in another pipeline it is another. The form is frozen."""
    one = derived_job_id("shop-prices", "http://x/")
    assert one == "shop-prices-190c54e3e57f00babe3c12a8"
    assert one == derived_job_id("shop-prices", "http://x/")
    assert one != derived_job_id("shop-prices", "http://x/a")
    assert one != derived_job_id("shop", "http://x/")
    check_job_id(one)


@pytest.mark.parametrize("job_id", ["a", "abc-123", "ä", "with space", "x" * MAX_JOB_ID_CHARS])
def test_good_ids(job_id: str) -> None:
    """Any printable text is an id."""
    check_job_id(job_id)


@pytest.mark.parametrize("job_id", ["", "x" * (MAX_JOB_ID_CHARS + 1), "a\nb", "a\0", "\ud800", "\u202e"])
def test_bad_ids(job_id: str) -> None:
    """What can't be a key, a header or a log line is refused."""
    with pytest.raises(BadRecord, match="printable"):
        check_job_id(job_id)


@given(TEXT, TEXT, st.binary(max_size=10), TEXT, TEXT, st.binary(max_size=10))
def test_content_tells_requests_apart(p1: str, u1: str, b1: bytes, p2: str, u2: str, b2: bytes) -> None:
    """Requests that differ in pipeline, URL or payload have different content."""
    same = (p1, u1, b1) == (p2, u2, b2)
    no_nul = not any("\0" in text for text in (p1, u1, p2, u2))
    assert not no_nul or (content_hash(p1, u1, b1) == content_hash(p2, u2, b2)) == same
