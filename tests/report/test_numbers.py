import pytest

from edgegen.report import numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.milliseconds(0.0456), "45.6 µs"), (numbers.milliseconds(5.123), "5.12 ms"),
        (numbers.milliseconds(87.84), "87.8 ms"), (numbers.milliseconds(999.6), "1000 ms"),
        (numbers.milliseconds(12_345), "12.3 s"),
        (numbers.seconds(0.42), "0.42 s"), (numbers.seconds(1123.4), "18 min 43 s"), (numbers.seconds(3845), "1 h 04 min"),
        (numbers.seconds(59.99), "1 min 00 s"),
        (numbers.size(512), "512 B"), (numbers.size(262_144), "256 KiB"), (numbers.size(4 << 20), "4.00 MiB"),
        (numbers.size((1 << 20) - 1), "1.00 MiB"),
        (numbers.amount(999), "999"), (numbers.amount(175_000), "175 k"), (numbers.amount(1_570_000_000, "MAC"), "1.57 GMAC"),
        (numbers.amount(0, "MAC"), "0 MAC"),
        (numbers.decibel(36.14), "36.1 dB"), (numbers.score(0.66712), "0.667"), (numbers.percent(0.931), "93.1 %"),
        (numbers.percent(0.0004), "0.04 %"), (numbers.times(17.148), "17.1×"), (numbers.times(1.0), "1.00×"),
    ],
)  # fmt: skip
def test_numbers_carry_units_and_about_three_figures(text, expected):
    assert text.replace("\u202f", " ") == expected


@pytest.mark.parametrize(
    "shown", [numbers.milliseconds, numbers.seconds, numbers.size, numbers.amount, numbers.decibel, numbers.score]
)
def test_unknown_is_a_dash(shown):
    assert shown(None) == "–"


def test_an_error_carries_its_sign() -> None:
    shown = [numbers.deviation(value).replace("\u202f", " ") for value in (0.0412, -0.123, 0.0, None)]
    assert shown == ["+4.1 %", "−12 %", "+0 %", "–"]


@pytest.mark.parametrize(("before", "after"), [(None, 1.0), (1.0, None), (1.0, 0.0), (None, None)])
def test_a_ratio_with_an_unknown_part_is_unknown(before, after):
    assert numbers.ratio(before, after) is None
    assert numbers.times(numbers.ratio(before, after)) == "–"
