"""Addresses of receivers: how they may be written, and where they may lead."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhooks.addresses import (
    CheckedResolver,
    NotPublic,
    check_address,
    host_of,
    is_public,
)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "ff02::1"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2130706433", "0x7f.1", "0177.1"),
        *("127.1", "localhost", "localhost.", "0", "100.64.0.1", "::7f00:1", "fec0::1", "fc00::1"),
        *("64:ff9b:1::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.88.99.1", "240.0.0.1"),
        *("198.18.0.1", "192.0.2.1", "2001:db8::1", "255.255.255.255", "::", "3fff::1", "5f00::1"),
        *("192.0.0.192", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.1.1"),
        *("::ffff:0:127.0.0.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "fe80::1%lo"),
    ],
)
async def test_address_that_is_not_public_is_refused_in_every_spelling(host: str) -> None:
    resolver = CheckedResolver(False)
    with pytest.raises((NotPublic, OSError)) as refused:
        await resolver.resolve(host, 80)
    # A name server may not be there: then the spelling of an address would be no name either.
    assert refused.type is NotPublic or not host[0].isdigit(), refused.value
    resolver.close()


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "192.0.1.1", "168.63.129.17", "100.128.0.1"],
)
def test_public_address_is_one(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://a/b", "http://", "//host/x", "http://u:p@host/", "http://u@h/"),
        *("http://h/" + "x" * 2000, "http://h/\r\nX: y", "http://h:" + "9" * 30, "http://h:0/"),
        *("http://h:70000/", "http://h:-1/", "http://[::1", "http://[::1%25lo]/", "http://a..b/"),
        *(
            "http://h/\ud800",
            "http://h/ x",
            "http://h\\@evil/",
            "http://\u00e4.example/",
            "http://h:x/",
        ),
        *("http://" + "a" * 64 + "/", "http://" + "a." * 150 + "b/", "javascript:alert(1)"),
        *(
            "http://a.example[::1]/",
            "http://[::1]a.example/",
            "http://[::1]x:80/",
            "http://[v1.a]/",
        ),
        *("http://[1.2.3.4]/", "http://[]/", "http://[::1]:+80/", "http://h:80:80/"),
    ],
)
def test_bad_callback_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="callback_url"):
        check_address("callback_url", url)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://a.example:8443/x?y=%20#z",
        "http://[2606:4700::1]:80/",
        "http://1.2.3.4/",
    ],
)
def test_good_callback_address_is_taken(url: str) -> None:
    check_address("callback_url", url)


@given(st.text() | st.text(st.sampled_from("htp:/[]@.%1a\\")).map(lambda text: "http://" + text))
def test_any_text_is_a_callback_address_or_a_clear_refusal(url: str) -> None:
    with contextlib.suppress(ValueError):
        check_address("callback_url", url)


def test_host_has_one_spelling() -> None:
    assert {host_of(f"http://{name}:8/x") for name in ("H.example", "h.EXAMPLE.")} == {"h.example"}
