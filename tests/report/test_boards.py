"""The page that compares devices: everything is on it, nothing can break out of it."""

from edgegen.report.boards import BoardRow, render_boards

ROWS = (
    BoardRow("kitchen", "raspberry-pi-5", "Raspberry Pi 5", "litert 2.3.0", 41.2, 8.0, 8.5, None, 7.9, 20.0, 50 << 20, True),
    BoardRow("desk", "host", "some CPU", "litert 2.3.0", 41.2, 16.0, 17.0, None, 15.0, 30.0, 90 << 20, False, "run times vary"),
    BoardRow("attic", None, problem="<script>alert(1)</script>"),
)


def test_devices_stand_with_their_times_and_what_is_wrong() -> None:
    page = render_boards("bundle", ROWS)
    assert "2 of 3 measured" in page and "width: 50.0%" in page and "width: 100.0%" in page
    assert "✓ valid" in page and "! not valid" in page and "✕ failed" in page and "run times vary" in page
    assert page == render_boards("bundle", ROWS)


def test_what_a_board_says_is_text_and_nothing_is_loaded() -> None:
    page = render_boards("bundle", ROWS)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "http://" not in page and "https://" not in page


def test_a_fleet_that_failed_as_a_whole_still_has_a_page() -> None:
    assert "0 of 1 measured" in render_boards("bundle", ROWS[2:])
