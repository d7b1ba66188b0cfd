from __future__ import annotations

import pytest

from reports.measurements import Measurement, measurements


def brief(one: Measurement) -> tuple[tuple[float, ...], str, str, bool]:
    return one.values, one.unit, one.kind, one.prior


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 6 mm nodule", ((6.0,), "mm", "size", False)),
        ("12 x 8 mm", ((12.0, 8.0), "mm", "size", False)),
        ("2.3 × 1.9 × 1.4 cm", ((23.0, 19.0, 14.0), "mm", "size", False)),
        ("3.4 cm by 5.1 cm", ((34.0, 51.0), "mm", "size", False)),
        ("1,2 cm", ((12.0,), "mm", "size", False)),
        ("a 14-mm nodule", ((14.0,), "mm", "size", False)),
        ("nodules of 4-5 mm", ((4.0, 5.0), "mm", "range", False)),
        ("ranging from 5 to 7 mm", ((5.0, 7.0), "mm", "range", False)),
        ("between 3 and 5 mm", ((3.0, 5.0), "mm", "range", False)),
        ("smaller than 4 mm", ((4.0,), "mm", "bound", False)),
        ("tip 4 cm above the carina", ((40.0,), "mm", "distance", False)),
        ("3 cm from the pleura", ((30.0,), "mm", "distance", False)),
        ("5 mm thick slices", ((5.0,), "mm", "slice", False)),
        ("8 mm on the prior study", ((8.0,), "mm", "size", True)),
        ("unchanged from the prior 0.8 cm", ((8.0,), "mm", "size", True)),
        ("6 mm three months ago", ((6.0,), "mm", "size", True)),
        ("attenuation of -20 HU", ((-20.0,), "HU", "attenuation", False)),
        ("10-12 HU", ((10.0, 12.0), "HU", "attenuation", False)),
        ("SUVmax of 4.5", ((4.5,), "SUV", "uptake", False)),
        ("350 ml of fluid", ((350.0,), "ml", "volume", False)),
        ("1.5 liters", ((1500.0,), "ml", "volume", False)),
    ],
)
def test_one_measurement_is_typed(text: str, expected: tuple[tuple[float, ...], str, str, bool]) -> None:
    (found,) = measurements(text)
    assert brief(found) == expected


@pytest.mark.parametrize(
    ("text", "prior", "now"),
    [
        ("previously 8 mm, now 11 mm", 8.0, 11.0),
        ("11 mm (previously 8 mm)", 8.0, 11.0),
        ("grown from 8 to 11 mm", 8.0, 11.0),
        ("shrunk from 5.1 cm to 3.0 cm", 51.0, 30.0),
        ("decreased to 2.5 cm from 4.0 cm", 40.0, 25.0),
        ("8 mm, compared with 6 mm in 2019", 6.0, 8.0),
    ],
)
def test_an_old_value_is_told_from_the_present_one(text: str, prior: float, now: float) -> None:
    assert {(one.largest, one.prior) for one in measurements(text)} == {(prior, True), (now, False)}


def test_two_sizes_joined_by_and_are_two() -> None:
    assert [one.values for one in measurements("nodules of 5 and 7 mm")] == [(5.0,), (7.0,)]


def test_numbers_that_measure_nothing_and_places_in_the_text() -> None:
    assert measurements("series 4, image 57, on 5/7/2011, T10-11, 2 views") == ()
    text = "Nodule (image 57) of 6.5 mm."
    (found,) = measurements(text)
    assert text[found.start : found.stop] == "6.5 mm"
