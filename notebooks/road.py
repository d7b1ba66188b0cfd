# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The whole road, in ten cells
#
# From an archive to a draft report, on a phantom hospital that is made in the first cell. **Every patient here is
# simulated, and the training is far too short to be good**: about two minutes on two cores, to show how the parts fit.
# `make demo` trains longer. Nothing is sent anywhere.

# %%
import tempfile
from pathlib import Path

import medvlm

work = Path(tempfile.mkdtemp(prefix="medvlm-road-"))
print(medvlm.simulate(work / "hospital", studies=120, seed=11, workers=1).text())

# %% [markdown]
# The archive becomes a catalog. What was repaired or refused is a row in it, not a line in a log. The truth of the
# phantom lies in a folder of its own, which ingest never reads.

# %%
summary = medvlm.ingest([work / "hospital" / "dicom"], [work / "hospital" / "messages"], work / "catalog.db", workers=1)
print(summary.text())

# %%
catalog = medvlm.Catalog.open(work / "catalog.db")
for split in ("train", "validation", "test"):
    print(f"{split:>10}: {len(catalog.studies(split=split, modality='xray'))} studies")
print("audit:", catalog.audit() or "no patient, image or report is shared between splits")

# %% [markdown]
# First the two towers, which learn what is true of an image; then the writer, which learns to say it. A recipe is a
# YAML file; any value of it can be changed.

# %%
medvlm.train("film_contrastive", work / "catalog.db", work / "towers", ["trainer.max_steps=40", "data.batch_size=16"])
start = f"start.run={work / 'towers'}"
medvlm.train("film_report", work / "catalog.db", work / "model", [start, "trainer.max_steps=80", "data.batch_size=12"])
model = medvlm.load_model(work / "model")

# %% [markdown]
# Zero-shot diagnosis: a probability per finding, or an abstention.

# %%
row = catalog.studies(split="test", modality="xray")[0]
study = catalog.study(row.study_uid)
print(medvlm.diagnose(study, model, ["pleural effusion", "pneumothorax", "cardiomegaly"]).text())

# %% [markdown]
# Search: the studies for which a phrase is most likely true, with what their own reports say.

# %%
hits = medvlm.search("large right pleural effusion", model, work / "catalog.db", k=3)
for hit in hits:
    print(f"{hit.score:6.2f}  {hit.study_uid[-12:]}  {hit.excerpt[:80]}")

# %% [markdown]
# Where is it? A region in pixels of the original film and in millimetres, or nowhere.

# %%
for asked in (catalog.study(hits[0].study_uid), study):
    print(asked.study_uid[-12:], medvlm.ground(asked, "right pleural effusion", model).text())

# %% [markdown]
# A draft: each sentence with its verdict and its evidence.

# %%
draft = medvlm.draft_report(study, model)
for sentence in draft.sentences:
    print(f"[{sentence.verdict:>12}] {sentence.text}")
    for evidence in sentence.evidence:
        print(f"{'':15}{evidence.kind}: {evidence.text}")

# %%
page = medvlm.render(draft, "html")
(work / "draft.html").write_text(page, encoding="utf-8")
print(f"draft.html: {len(page) / 1024:.0f} KiB, one file, opens without a network")

# %% [markdown]
# The score card: every number with its n and an interval over patients. With so little training the intervals are
# wide and the numbers are near chance, and that is what they should say.

# %%
medvlm.evaluate(model, work / "catalog.db", split="test", truth=work / "hospital" / "truth", out=work / "card")
print((work / "card" / "card.json").read_text()[:600])
