"""The charset of a page is found, and its bytes read, as the HTML and Encoding standards say."""

from __future__ import annotations

import pytest

from processors.extraction.charset import decode

E = "é".encode()


@pytest.mark.parametrize(
    ("body", "header", "text", "encoding"),
    [
        pytest.param(b"\xef\xbb\xbf" + E, "text/html; charset=koi8-r", "é", "utf-8", id="a mark beats the header"),
        pytest.param(b"\xfe\xff\x00\xe9", None, "é", "utf-16-be", id="a mark of UTF-16"),
        pytest.param(b"\xe9\x00", "text/html; charset=utf-16", "é", "utf-16-le", id="UTF-16 is little-endian"),
        pytest.param(E, 'text/html; x=1; charset="UTF-8"', "é", "utf-8", id="a quoted parameter"),
        pytest.param(b"<meta charset=koi8-r>\xc1", "text/html;charset=latin1", None, "cp1252", id="the header first"),
        pytest.param(b"<meta charset=utf-16>" + E, None, None, "utf-8", id="a meta of UTF-16 is UTF-8"),
        pytest.param(b"<meta charset=utf-16be>" + E, None, None, "utf-8", id="in either order"),
        pytest.param(b"<meta charset=x-user-defined>\xe9", None, None, "cp1252", id="a meta of x-user-defined"),
        pytest.param(b"<!-- <meta charset=koi8-r> -->" + E, None, None, "utf-8", id="a meta in a comment"),
        pytest.param(b"<!--><meta charset=koi8-r>-->\xc1", None, None, "koi8-r", id="a comment that ends at once"),
        pytest.param(b"<p title='<meta charset=koi8-r>'>" + E, None, None, "utf-8", id="a meta in an attribute"),
        pytest.param(b"<META/CHARSET = 'koi8-r' >\xc1", None, None, "koi8-r", id="any case and spaces"),
        pytest.param(b"<meta charset=nonsense><meta charset=koi8-r>\xc1", None, None, "koi8-r", id="the first known"),
        pytest.param(
            b"<meta http-equiv=Content-Type content='text/html; charset=koi8-r'>\xc1",
            None,
            None,
            "koi8-r",
            id="http-equiv",
        ),
        pytest.param(b"<meta content='text/html; charset=koi8-r'>" + E, None, None, "utf-8", id="no http-equiv"),
        pytest.param(b"<?xml version='1.0' encoding='koi8-r'?>\xc1", None, None, "koi8-r", id="an XML declaration"),
        pytest.param(b"\x80\x81", "text/html; charset=iso-8859-1", "€\x81", "cp1252", id="Latin-1 is Windows-1252"),
        pytest.param(b"\x87\x40", "text/html; charset=shift_jis", "①", "cp932", id="Shift_JIS as Windows has it"),
        pytest.param(b"\xa2\xe3", "text/html; charset=gb2312", "€", "gb18030", id="GB2312 is GB18030"),
        pytest.param(b"\xd9", "text/html; charset=windows-1255", "\ufffd", "cp1255", id="a byte that is none"),
        pytest.param(b"<script>", "text/html; charset=iso-2022-kr", "\ufffd", "utf-8", id="an encoding that hides"),
        pytest.param(b"\x80a", "text/html; charset=x-user-defined", "\uf780a", "x-user-defined", id="user-defined"),
    ],
)
def test_a_charset_is_found_as_browsers_find_it(
    body: bytes, header: str | None, text: str | None, encoding: str
) -> None:
    """Mark, header, the page's first bytes, UTF-8 if it is, Windows-1252; labels mean what browsers take them for."""
    found, by = decode(body, header)
    assert by == encoding
    assert text is None or found == text
