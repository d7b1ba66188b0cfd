"""Groups of a test set: sex, age band, site, scanner and view of each study, as the files' headers say."""

from __future__ import annotations

from evaluation.subgroups import age_band
from medvlm.testset import TestSet
from volumes.acquisition import read_acquisition

ATTRIBUTES = ("sex", "age", "site", "scanner", "view")


def study_groups(test: TestSet) -> dict[str, list[str]]:
    """Attribute to one value for each study, "" where unknown; an attribute that no study knows is left out.

    Sex and age are also taken from the truth of a phantom hospital where the header is silent.
    """
    rows: list[dict[str, str]] = []
    for place, example in enumerate(test.examples):
        told = read_acquisition(example.paths[0])
        truth = test.truth[place] if test.truth else {}
        years = told.age_years if told.age_years is not None else truth.get("age")
        sex = told.sex or {"M": "male", "F": "female"}.get(str(truth.get("sex")), "")
        view = "" if example.view == "unknown" else example.view
        rows.append({"sex": sex, "age": age_band(years), "site": told.site, "scanner": told.scanner, "view": view})
    return {name: [row[name] for row in rows] for name in ATTRIBUTES if any(row[name] for row in rows)}
