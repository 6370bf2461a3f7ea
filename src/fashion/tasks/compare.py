"""task=compare: do two models differ on the same pictures, beyond chance?"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig, open_dict

from fashion.comparison import mcnemar, paired_bootstrap
from fashion.config import as_dict
from fashion.data.arrays import PictureArray, rows_of
from fashion.data.datamodules import ImageDataModule, queries_and_gallery
from fashion.encoder import Encoder, load_encoder
from fashion.errors import FashionError
from fashion.evaluation import Evaluation, evaluate, groups_of
from fashion.files import write_text
from fashion.protocols import PREFIX, PROTOCOLS
from fashion.quoting import CHOICES, as_typed_list, briefly
from fashion.report.evaluation import Searches
from fashion.report.html import Section, write_page
from fashion.report.tables import plain_table, show
from fashion.tasks.options import Options, read_options
from fashion.tasks.run_data import data_settings, data_used, whole, with_data_of
from fashion.tasks.shown import data_of, data_shown_to, note_splits, note_training_only

log = logging.getLogger(__name__)
SHOWN = 12

DIVIDING = ("classes", "fold", "validation_fraction")
"""Settings of data that say which of a source's pictures are trained on."""


class TrainedOn(NamedTuple):
    """Pictures (path and box) that a run was trained on, and the settings that say so."""

    settings: str
    pictures: set[tuple[str, tuple[float, ...] | None]]


class CompareOptions(Options):
    run: str
    run_b: str
    split: Literal["train", "validation", "test"]


def run(cfg: DictConfig) -> float:
    """Print and write the tests; returns the difference in accuracy (run_b − run)."""
    options = read_options(cfg, CompareOptions)
    note_training_only()
    results: list[Evaluation] = []
    encoders = [load_encoder(Path(one)) for one in (options.run, options.run_b)]
    cfg = with_data_of(encoders[0], cfg)
    trained = {name: trained_on(encoder, cfg) for name, encoder in zip(("run", "run_b"), encoders, strict=True)}
    for encoder in encoders:
        data = data_for(encoder, cfg)
        queries, gallery = queries_and_gallery(data, options.split)
        if options.split != "train":  # else training pictures are what is asked for
            queries = untrained(queries, trained)
        results.append(evaluate(encoder, queries, gallery, split=options.split))
    note_splits(data.source)
    rights = [result.predicted == queries.labels for result in results]
    groups = groups_of(queries)
    table, naming = compared(results, rights, groups), mcnemar(*rights)
    rows = [[name, *(f"{row[key]:.3f}" if key in row else "" for key in ("a", "b", "difference", "low", "high", "p"))]
            for name, row in table.items()]  # fmt: skip
    columns = ["figure", "run", "run_b", "difference", "95% from", "to", "p"]
    named = f"run = {options.run}, run_b = {options.run_b}, on {len(queries.labels)} {options.split} pictures"
    show(plain_table(named, columns, rows))
    sentence = f"{naming['only_first']} pictures are named right by run alone, {naming['only_second']} by run_b alone"
    ps = [table["accuracy"]["p"]] if "p" in table["accuracy"] else []
    if groups is None:
        sentence += f" (McNemar: p = {naming['p']:.3f})."
        ps.append(naming["p"])
    else:  # McNemar's test takes pictures as independent, and would find differences where there are none
        sentence += f".  Pictures are drawn by their {len(np.unique(groups))} groups; McNemar's test knows none."
    log.info("%s", sentence)
    log.info("%s", verdict(ps))
    folder = Path(HydraConfig.get().runtime.output_dir)
    content = {"run": options.run, "run_b": options.run_b, "split": options.split, "data": data_used(cfg),
               "paired_bootstrap": table, "mcnemar": naming if groups is None else None}  # fmt: skip
    write_text(folder / "comparison.json", json.dumps(content, indent=2) + "\n")
    sections = [Section("Figures", text=f"{named}, of {data.source.root}.  {sentence}", table=(columns, rows))]
    for title, mine, other in (("Only run is right", 0, 1), ("Only run_b is right", 1, 0)):
        at = np.flatnonzero(rights[mine] & ~rights[other])[:SHOWN]
        if len(at):
            wrong = Searches(results[other], queries, gallery, data.source.root)
            caption = "As the other one names and searches them."
            sections.append(Section(title, picture=wrong.grid(at), caption=caption))
    write_page(folder / "report.html", "Do they differ?", sections)
    log.info("Written to %s: report.html, comparison.json", folder)
    return table["accuracy"]["difference"]


def trained_on(encoder: Encoder, cfg: DictConfig) -> TrainedOn:
    """What the encoder's run trained on, where its settings divide the configured pictures otherwise."""
    own, configured = data_settings(encoder) or {}, as_dict(cfg.data)
    if _place(own) != _place(configured):
        own = {}
    others = {key: own[key] for key in DIVIDING if key in own and own[key] != configured.get(key)}
    if not others:
        return TrainedOn("", set())
    data = cfg.copy()
    with open_dict(data):
        data.data.update(others)
    try:
        items = data_of(data).source.split("train")
    except FashionError:  # as where there are no settings
        return TrainedOn("", set())
    said = " ".join(f"data.{key}={'null' if value is None else value}" for key, value in others.items())
    return TrainedOn(said, {(item.path, item.box) for item in items})


def untrained(queries: PictureArray, trained: dict[str, TrainedOn]) -> PictureArray:
    """The pictures that no run was trained on; `trained`: of each, by its key.

    Raises:
        FashionError: if there is none.
    """
    pictures = [(item.path, item.box) for item in queries.items]
    kept = np.array([not any(one in run.pictures for run in trained.values()) for one in pictures])
    if kept.all():
        return queries
    why = " and ".join(
        f"{name} was trained on {count} of them ({run.settings})"
        for name, run in trained.items()
        if (count := sum(one in run.pictures for one in pictures))
    )
    if not kept.any():
        raise FashionError(
            f"No picture of {len(kept)} is left: {why}; compare runs of the same data.fold and the like."
        )
    log.info("%d of %d pictures are left out: %s.", (~kept).sum(), len(kept), why)
    return rows_of(queries, np.flatnonzero(kept))


def _place(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """What says which source is meant."""
    return data.get("kind"), whole(data.get("source")), data.get("drawing")


def compared(
    results: list[Evaluation], rights: list[NDArray[np.bool_]], groups: NDArray[np.str_] | None
) -> dict[str, dict[str, float]]:
    """figure → the two means, their difference (second − first), and what `paired_bootstrap` says of it."""
    values = [{"accuracy": right.astype(float)} for right in rights]
    answered = {"accuracy": np.ones(len(rights[0]), bool)}
    for protocol in PROTOCOLS:
        names = {f"{PREFIX[protocol]}/{name}": name for name in ("top1", "top5", "map")}
        for own, result in zip(values, results, strict=True):
            figures = result.retrievals[protocol].per_query()
            own |= {name: figures[plain] for name, plain in names.items()}
        answered |= dict.fromkeys(names, results[0].retrievals[protocol].relevant > 0)
    tests: dict[str, dict[str, float]] = {}
    for queries in {mask.tobytes(): mask for mask in answered.values() if mask.any()}.values():
        same = [name for name, mask in answered.items() if (mask == queries).all()]
        one, other = ({name: own[name] for name in same} for own in values)
        tests |= paired_bootstrap(one, other, groups=None if groups is None else groups[queries])
    means = {name: {"a": float(values[0][name].mean()), "b": float(values[1][name].mean())} for name in tests}
    return {name: means[name] | tests[name] for name in answered if name in tests}


def verdict(ps: Sequence[float]) -> str:
    """The outcome of the tests that there are, in words."""
    if not ps:
        return "All pictures are of one group, or there is but one: whether the difference is chance cannot be tested."
    if max(ps) < 0.05:
        return "They name pictures differently well, at the 5% level."
    if min(ps) < 0.05:
        return "One test says that they name pictures differently well, the other does not: take it for a hint."
    return "They cannot be told apart in naming pictures; the difference may be chance."


def data_for(encoder: Encoder, cfg: DictConfig) -> ImageDataModule:
    """The configured data, at the encoder's picture size.

    Raises:
        FashionError: if its classes are not the encoder's.
    """
    data = data_shown_to(encoder, cfg)
    own = encoder.class_names
    if data.class_names != own:
        typed = f", or {as_typed_list('data.classes', own)}" if len(own) <= CHOICES else ""
        raise FashionError(
            f"The data's classes ({briefly(data.class_names, CHOICES)}) are not those of {encoder.source} "
            f"({briefly(own, CHOICES)}); set data to what it was trained on{typed}."
        )
    return data
