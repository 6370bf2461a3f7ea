"""task=audit: what is wrong with a dataset."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from PIL import Image

from fashion.data.audit import Audit, Pair, audit
from fashion.data.sources import SPLITS
from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.files import write_text
from fashion.report.html import Section, write_page
from fashion.report.pictures import pairs_grid
from fashion.report.tables import plain_table, show
from fashion.tasks.options import Options, read_options
from fashion.tasks.run_data import with_data_of
from fashion.tasks.shown import data_of, data_shown_to, note_splits, note_training_only

log = logging.getLogger(__name__)
SHOWN = 24
"""Pairs and pictures that the page draws; the JSON has all."""


class AuditOptions(Options):
    encoder: str | None


def run(cfg: DictConfig) -> int:
    """Print a summary, write audit.html and audit.json; returns the number of pairs across splits."""
    options = read_options(cfg, AuditOptions)
    note_training_only()
    encoder = load_encoder(Path(options.encoder)) if options.encoder else None
    cfg = with_data_of(encoder, cfg) if encoder else cfg
    # What is unreadable is what an audit looks for.
    lenient: dict[str, Any] = {"on_bad_image": "skip", "digests": None}
    data = data_shown_to(encoder, cfg, **lenient) if encoder else data_of(cfg, **lenient)
    if encoder is not None and data.class_names != encoder.class_names:
        raise FashionError(
            f"{encoder.source} knows other classes than the data; set encoder to a model of these classes, or "
            "encoder=null."
        )
    found = audit({split: data.array(split) for split in SPLITS if data.has(split)}, data.class_names, encoder)
    note_splits(data.source)
    summary = found.summary()
    rows = summary_rows(summary)
    show(plain_table(f"Audit of {data.source.root}", ["", ""], rows))
    folder = Path(HydraConfig.get().runtime.output_dir)
    write_text(folder / "audit.json", json.dumps({"summary": summary, **asdict(found)}, indent=2) + "\n")
    write_page(folder / "audit.html", f"Audit of {data.source.root}", sections(found, data.source.root))
    log.info("Written: %s and audit.json", folder / "audit.html")
    return int(summary["across_splits"])


def summary_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """[what, how many]; of a figure for each split, one after the other."""
    return [
        [
            name.replace("_", " "),
            ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value),
        ]
        for name, value in summary.items()
    ]


def sections(found: Audit, root: Path) -> list[Section]:
    """The page: a summary, then everything that was found, with its pictures."""
    rows = summary_rows(found.summary())
    labels = list(next(iter(found.balance.values()), {}))
    balance = [[label, *(str(found.balance[split][label]) for split in found.balance)] for label in labels]
    page = [
        Section("Summary", table=(["", ""], rows)),
        Section("Classes", table=(["class", *found.balance], balance), text="Pictures of each class in each split."),
    ]
    if found.unreadable:
        page.append(Section("Unreadable", table=(["picture", "reason"], found.unreadable)))
    if found.flat:
        page.append(Section("Nothing to see", table=(["picture"], [[path] for path in found.flat])))
    for title, pairs in (("Duplicates", found.duplicates), ("Near-duplicates", found.near_duplicates)):
        if pairs:
            # Those across splits first: they make a validation figure too good.  Then those that contradict each other.
            order = sorted(pairs, key=lambda p: (p.split == p.other_split, p.label == p.other_label, -p.alike))
            rows = [[*pair[:-1], f"{pair.alike:.3f}"] for pair in order]
            columns = ["picture", "split", "label", "other", "split", "label", "alike"]
            page.append(
                Section(title, picture=_drawn(order, root), caption=f"The first {min(SHOWN, len(order))} pairs.")
            )
            page.append(Section(f"All {title.lower()}", table=(columns, rows)))
    if found.leaked_groups:
        page.append(Section("Groups in more than one split", table=(["group"], [[g] for g in found.leaked_groups])))
    if found.suspicious:
        rows = [[path, split, label, says, f"{p:.3f}"] for path, split, label, says, p in found.suspicious]
        some = [([str(root / row[0])], f"{row[2]}? {row[3]}") for row in found.suspicious[:SHOWN]]
        page.append(Section("Suspicious labels", picture=pairs_grid(some), caption="Label, and what the model says."))
        page.append(
            Section("All suspicious labels", table=(["picture", "split", "label", "model", "probability"], rows))
        )
    return page


def _drawn(pairs: Sequence[Pair], root: Path) -> Image.Image:
    shown = []
    for pair in pairs[:SHOWN]:
        caption = f"{_both(pair.split, pair.other_split)} · {_both(pair.label, pair.other_label)}"
        shown.append(([str(root / pair.path), str(root / pair.other)], caption))
    return pairs_grid(shown)


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one} / {other}"
