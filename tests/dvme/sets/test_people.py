from __future__ import annotations

from dvme.sets.people import ages, sexes


def test_ages__in_years_however_they_are_written() -> None:
    cells = ["57", "057Y", "57.0", "0", "000Y", "011M", "025M", "010D", "120", "", "414", "121", "-3", "old", "414"]
    years, said = ages(cells)
    assert years == ["57", "57", "57", "0", "0", "0", "2", "0", "120", "", "", "", "", "", ""]
    assert said == ["5 impossible ages left empty: '414', '121', '-3', ..."]
    assert ages(["3", ""]) == (["3", ""], [])


def test_sexes__two_letters_and_the_rest_is_counted() -> None:
    found, said = sexes(["Male", "F", "female", "m", "Unknown", "O", "O"])
    assert found == ["M", "F", "F", "M", "", "", ""]
    assert said == ["3 images of a patient of unknown sex: 'Unknown', 'O'"]
    assert sexes(["M"]) == (["M"], [])
