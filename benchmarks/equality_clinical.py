"""Our clinical metrics beside their originals: label F1, CheXbert-F1, RadGraph-F1, RaTEScore, RadCliQ.

    python benchmarks/equality_clinical.py [FOLDER]

FOLDER holds `openi_cxr_reports.csv` (default `../shared/data/reports` beside the repository); its reports are paired by
a seeded shuffle, labelled and read by our rules. Labels and graphs are drawn at random besides. Originals are used
where they are installed: scikit-learn always, and of `pip install --no-deps radgraph RaTEScore f1chexbert` only the
files that do arithmetic, which need no weights. GREEN, RadFact and CXR-Report-Metric are on no package index: their
arithmetic is checked by hand-worked cases in the tests.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import math
import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluation.chexbert import CHEXBERT5, CHEXBERT14, chexbert_f1
from evaluation.fact_graph import fact_graph
from evaluation.finding_labels import BLANK, LabelTable, label_f1
from evaluation.label_classes import class_f1
from evaluation.radcliq import original_coefficients, radcliq
from evaluation.radgraph import LEVELS, Entity, Graph, report_f1
from evaluation.ratescore import TYPES, Affinity, Typed, pair_score
from reports.findings import find
from reports.labels import label_findings
from reports.schemes import CHEXPERT14

ROOT = Path(__file__).resolve().parent.parent
SEED = 20


class Row(NamedTuple):
    """One comparison; `difference` is the largest over all values, None where the original is not installed."""

    name: str
    n: int
    ours: float
    original: float | None
    difference: float | None


class Data(NamedTuple):
    """Labels and graphs of two sides of the same pairs, and where they come from."""

    pred: LabelTable
    ref: LabelTable
    graphs: list[tuple[Graph, Graph]]
    source: str


def main(folder: Path = ROOT.parent / "shared/data/reports") -> Iterator[Row]:
    """All rows, one original after the other."""
    path = folder / "openi_cxr_reports.csv"
    for data in (*([real_pairs(path)] if path.is_file() else []), random_pairs()):
        yield from label_rows(data)
        yield from class_rows(data)
        yield from chexbert_rows(data)
        yield from radgraph_rows(data)
    yield from ratescore_rows()
    yield from radcliq_rows()


def real_pairs(path: Path) -> Data:
    with path.open(newline="", encoding="utf-8") as stream:
        texts = [f"FINDINGS: {row['findings']}\nIMPRESSION: {row['impression']}" for row in csv.DictReader(stream)]
    order = np.random.default_rng(SEED).permutation(len(texts)).tolist()
    facts = [find(text) for text in texts]
    table = LabelTable.of(
        [label_findings(found, "chexpert14", text) for found, text in zip(facts, texts, strict=True)], CHEXPERT14
    )
    graphs = [fact_graph(found) for found in facts]
    pairs = [(graphs[other], graphs[at]) for at, other in enumerate(order)]
    return Data(LabelTable(CHEXPERT14, table.codes[order]), table, pairs, "real reports, shuffled")


def random_pairs(n: int = 2000) -> Data:
    generator = np.random.default_rng(SEED)
    first, second = (generator.choice(np.array([1, 0, -1, BLANK], np.int8), (n, 14)) for _ in range(2))
    words, labels = ("left", "effusion", "Edema", "edema"), ("OBS-DP", "OBS-DA", "ANAT-DP")

    def graph() -> Graph:
        size = int(generator.integers(0, 5))
        return Graph(
            {
                str(at): Entity(
                    words[generator.integers(4)],
                    labels[generator.integers(3)],
                    tuple(("modify", str(generator.integers(size))) for _ in range(generator.integers(0, 3))),
                )
                for at in range(size)
            }
        )

    pairs = [(graph(), graph()) for _ in range(n)]
    return Data(LabelTable(CHEXPERT14, first), LabelTable(CHEXPERT14, second), pairs, "random labels and graphs")


def label_rows(data: Data) -> Iterator[Row]:
    from sklearn.metrics import classification_report

    for uncertain in ("positive", "negative"):
        for no_finding in (True, False):
            found = label_f1(data.pred, data.ref, "our rules", uncertain, no_finding)  # type: ignore[arg-type]
            kept = [k for k, name in enumerate(CHEXPERT14) if no_finding or name != "No Finding"]
            codes = [1, -1] if uncertain == "positive" else [1]
            said, true = (np.isin(table.codes[:, kept], codes).astype(int) for table in (data.pred, data.ref))
            report = classification_report(true, said, output_dict=True, zero_division=0)
            names = {"micro": "micro", "macro": "macro", "weighted": "weighted", "example": "samples"}
            for ours, theirs in names.items():
                which = f"uncertain as {uncertain}, {len(kept)} labels"
                name = f"label F1 {ours}, {which}, {data.source} | {_version('scikit-learn')}"
                yield _row(name, found.n, [getattr(found, ours)], [report[f"{theirs} avg"]["f1-score"]])
            theirs_each = [report[str(at)]["f1-score"] for at in range(len(kept))]
            name = f"label F1 of each label, {which}, {data.source} | {_version('scikit-learn')}"
            yield _row(name, found.n, list(found.per_label.values()), theirs_each)


def class_rows(data: Data) -> Iterator[Row]:
    from sklearn.metrics import cohen_kappa_score, f1_score

    found = class_f1(data.pred, data.ref, "our rules")
    classes = {"positive": 1, "negation": 0, "uncertain": -1, "blank": BLANK}
    columns = list(zip(data.ref.codes.T, data.pred.codes.T, strict=True))
    for which, code in classes.items():
        theirs = [f1_score(true == code, said == code, zero_division=0) for true, said in columns]
        name = f"F1 of {which}, each label, {data.source} | {_version('scikit-learn')}"
        yield _row(name, found.n, getattr(found, which).tolist(), theirs)
    kappas = [cohen_kappa_score(true, said) for true, said in columns]
    yield _row(f"kappa, each label, {data.source} | {_version('scikit-learn')}", found.n, found.kappa.tolist(), kappas)


def chexbert_rows(data: Data) -> Iterator[Row]:
    """The package's `forward` on an object whose labels are ours instead of its model's."""
    found = chexbert_f1(data.pred, data.ref, "our rules")
    scorer = _labelled_f1chexbert(data)
    report = None
    if scorer is not None:
        accuracy, _, report, report_5 = scorer.forward(
            [f"h{row}" for row in range(found.n)], [f"r{row}" for row in range(found.n)]
        )
    for name in ("micro", "macro", "weighted", "samples"):
        for count in (14, 5):
            theirs = None if report is None else (report if count == 14 else report_5)[f"{name} avg"]["f1-score"]
            title = f"CheXbert-F1 arithmetic {name} {count}, {data.source} | {_version('f1chexbert')}"
            yield _row(title, found.n, [found.scores[f"{name}_{count}"]], None if theirs is None else [theirs])
    title = f"CheXbert-F1 arithmetic accuracy 5, {data.source} | {_version('f1chexbert')}"
    yield _row(title, found.n, [found.scores["accuracy_5"]], None if report is None else [accuracy])


def _labelled_f1chexbert(data: Data) -> Any:
    if _file_of("f1chexbert", "f1chexbert.py") is None:
        return None
    try:
        module = importlib.import_module("f1chexbert.f1chexbert")
    except ImportError:
        return None
    _mend(module)
    scorer = module.F1CheXbert.__new__(module.F1CheXbert)
    module.nn.Module.__init__(scorer)
    scorer.refs_filename = scorer.hyps_filename = None
    scorer.target_names, scorer.target_names_5 = list(CHEXBERT14), list(CHEXBERT5)
    scorer.target_names_5_index = np.where(np.isin(CHEXBERT14, CHEXBERT5))[0]
    tables = {"h": data.pred.only(CHEXBERT14).codes, "r": data.ref.only(CHEXBERT14).codes}
    scorer.get_label = lambda text: np.isin(tables[text[0]][int(text[1:])], [1, -1]).astype(int).tolist()
    return scorer


def _mend(module: Any) -> None:
    """Version 0.0.2 of the package uses two private functions of scikit-learn that have changed since.

    They only serve its accuracy of each report, which is not compared.
    """
    module._check_targets = lambda true, said: ("", np.asarray(true), np.asarray(said))
    module.count_nonzero = lambda matrix, axis: np.count_nonzero(matrix, axis=axis)


def radgraph_rows(data: Data) -> Iterator[Row]:
    path = _file_of("radgraph", "rewards.py")
    rewards = None if path is None else _load("radgraph_rewards", path)
    for level in LEVELS:
        ours = [report_f1(said, true, level) for said, true in data.graphs]
        name = f"RadGraph-F1 arithmetic {level}, graphs of {data.source} | {_version('radgraph')}"
        theirs = rewards and [rewards.compute_reward(a.to_dict(), b.to_dict(), level) for a, b in data.graphs]
        yield _row(name, len(ours), ours, theirs)


def ratescore_rows(n: int = 500) -> Iterator[Row]:
    """Random entities: types and embeddings drawn, five on average."""
    generator = np.random.default_rng(SEED)
    weights = {f"{a}_{b}".lower(): float(generator.uniform()) for a in TYPES for b in TYPES} | {"neg_weight": 0.6}

    def entities() -> Typed:
        size = int(generator.integers(1, 10))
        return Typed(tuple(TYPES[k] for k in generator.integers(0, 5, size)), generator.normal(0.5, size=(size, 16)))

    pairs = [(entities(), entities()) for _ in range(n)]
    affinity = Affinity.of(weights, "random weights")
    ours = [pair_score(said, true, affinity) for said, true in pairs]
    path = _file_of("RaTEScore", "utils.py")
    theirs = None
    if path is not None:
        import torch

        compute = _with_stub("medspacy", "ratescore_utils", path).compute
        matrix = {tuple(key.upper().split("_")): value for key, value in weights.items()}
        theirs = []
        for said, true in pairs:
            a, b = (torch.from_numpy(one.vectors) for one in (said, true))
            there, back = compute(b, a, true.types, said.types, matrix), compute(a, b, said.types, true.types, matrix)
            theirs.append(2 * there * back / (there + back) if there + back else 0.0)
    yield _row(f"RaTEScore arithmetic, random entities | {_version('RaTEScore')}", n, ours, theirs)


def radcliq_rows(n: int = 500) -> Iterator[Row]:
    """Coefficients fitted here, written as the authors write theirs, read without unpickling."""
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import MinMaxScaler

    generator = np.random.default_rng(SEED)
    scores, errors = generator.uniform(size=(n, 4)), generator.uniform(0, 5, n)
    scaler = MinMaxScaler().fit(scores)
    model = LinearRegression().fit(scaler.transform(scores), errors)
    with tempfile.TemporaryDirectory() as folder:
        for name, one in (("normalizer.pkl", scaler), ("composite_metric_model.pkl", model)):
            (Path(folder) / name).write_bytes(pickle.dumps(one, protocol=3))
        ours = radcliq(scores, original_coefficients(Path(folder), "v0"), "random scores").per_report
    theirs = model.predict(scaler.transform(scores))
    name = f"RadCliQ-v0 arithmetic, fitted coefficients | {_version('scikit-learn')}"
    yield _row(name, n, ours.tolist(), theirs.tolist())


def _row(name: str, n: int, ours: Sequence[float], theirs: Sequence[float] | None) -> Row:
    """Means, and the largest difference; nan on both sides is no difference."""
    mine = np.asarray(ours, float)
    if theirs is None:
        return Row(name, n, float(np.nanmean(mine)), None, None)
    other = np.asarray(theirs, float)
    apart = np.where(np.isnan(mine) & np.isnan(other), 0.0, np.abs(mine - other))
    return Row(name, n, float(np.nanmean(mine)), float(np.nanmean(other)), float(apart.max()))


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def _file_of(package: str, name: str) -> Path | None:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = Path(places[0]) / name if places else None
    return path if path is not None and path.is_file() else None


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _with_stub(stub: str, name: str, path: Path) -> Any:
    """The module, with a stand-in for a package that it loads at import and that its arithmetic does not use."""
    stand_in: Any = ModuleType(stub)
    stand_in.load = lambda **_: None
    here = sys.modules.get(stub)
    sys.modules[stub] = stand_in
    try:
        return _load(name, path)
    finally:
        sys.modules.pop(stub) if here is None else sys.modules.__setitem__(stub, here)


def shown(row: Row) -> str:
    """One line of a table."""
    if row.original is None or row.difference is None:
        return f"| {row.name} | {row.n} | {row.ours:.6f} | original not installed | |"
    return f"| {row.name} | {row.n} | {row.ours:.6f} | {row.original:.6f} | {row.difference:.1e} |"


if __name__ == "__main__":
    print("| metric and original | n | ours | original | largest difference |\n|---|---:|---:|---:|---:|")
    rows = list(main(*(Path(argument) for argument in sys.argv[1:2])))
    print("\n".join(shown(row) for row in rows))
    if any(row.difference is not None and not math.isclose(row.difference, 0, abs_tol=1e-6) for row in rows):
        sys.exit("a metric differs from its original by more than 1e-6")
