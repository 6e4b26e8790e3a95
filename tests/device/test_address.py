"""Addresses of devices: what is meant, and a sentence for everything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.device import Address, Scheme, parse_address
from edgegen.errors import DeviceError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("local:", Address(Scheme.LOCAL)),
        ("ssh://board", Address(Scheme.SSH, "board")),
        ("ssh://pi@kitchen.local:2222", Address(Scheme.SSH, "kitchen.local", "pi", 2222)),
        ("ssh://pi@[fe80::1%eth0]:22", Address(Scheme.SSH, "[fe80::1%eth0]", "pi", 22)),
        ("ssh://pi@[::1]", Address(Scheme.SSH, "[::1]", "pi")),
        (
            "ssh://b?python=/opt/v/bin/python&folder=/data/e",
            Address(Scheme.SSH, "b", python="/opt/v/bin/python", folder="/data/e"),
        ),
        ("local:?python=python3.11", Address(Scheme.LOCAL, python="python3.11")),
        ("adb://R5CT10ABCDE", Address(Scheme.ADB, "R5CT10ABCDE")),
        ("adb://127.0.0.1:5555", Address(Scheme.ADB, "127.0.0.1:5555")),
        ("fake:board.json", Address(Scheme.FAKE, "board.json")),
    ],
)
def test_an_address_says_how_and_where(url: str, address: Address) -> None:
    assert parse_address(url) == address
    assert str(address) == url.partition("?")[0]


@pytest.mark.parametrize(
    ("url", "sentence", "hint"),
    [
        ("board", "is not the address of a device", "ssh://user@host"),
        ("shh://board", "the scheme 'shh' is unknown", "did you mean 'ssh'"),
        ("ssh:board", "lacks the //", "ssh://user@host"),
        ("ssh://-oProxyCommand=evil", "no valid host name", "ssh://"),
        ("ssh://-l@board", "no valid user name", "ssh://"),
        ("ssh://pi@board;reboot", "no valid host name", "ssh://"),
        ("ssh://pi@board:99999", "has the port 99999", "from 1 to 65535"),
        ("ssh://pi@board:x", "no valid port", "from 1 to 65535"),
        ("ssh://pi:secret@board", "holds a password", "ssh-agent"),
        ("ssh://pi@board/srv", "has a path (/srv)", "?folder="),
        ("ssh://board?pyton=/x", "pyton is not a key", "did you mean 'python'"),
        ("ssh://board?python=../x", "python is '../x'", "absolute path"),
        ("ssh://board?python=/a&python=/b", "names python twice", "ssh://"),
        ("adb:", "has no serial", "adb devices"),
        ("local:here", "names something after local:", "local:"),
    ],
)
def test_what_is_no_address_is_refused_with_the_way_out(url: str, sentence: str, hint: str) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_address(url)
    assert sentence in caught.value.message and hint in caught.value.hint
    assert "secret" not in caught.value.message


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ssh:/@[]?%&=.-\x1b\n a1", max_size=40).map(lambda t: "ssh://" + t)))
def test_any_text_is_an_address_or_a_refusal_that_can_be_printed(url: str) -> None:
    try:
        address = parse_address(url)
    except DeviceError as refused:
        assert refused.message.isprintable()
    else:
        assert not address.host.startswith("-") and str(address).isprintable() or address.scheme is Scheme.FAKE
