"""task=evaluate: what a trained model is worth on a split, with intervals."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field

from fashion.baselines import Embed, baseline
from fashion.config import as_dict, flat
from fashion.data.arrays import PictureArray
from fashion.data.datamodules import queries_and_gallery
from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.evaluation import Evaluation, evaluate, write_metrics
from fashion.metrics import SEARCH, check_names, select
from fashion.protocols import PREFIX, check_protocols, searched
from fashion.quoting import briefly
from fashion.report.confusion import confusion_picture
from fashion.report.evaluation import Searches, evaluation_sections, gallery_name, per_class_rows
from fashion.report.html import Section, write_page
from fashion.report.pictures import save_picture
from fashion.report.tables import metrics_table, plain_table, search_table, show
from fashion.report.training import settings_section
from fashion.tasks.options import Options, note_unused, read_options
from fashion.tasks.run_data import data_used, with_data_of
from fashion.tasks.shown import data_shown_to, note_splits, note_training_only

log = logging.getLogger(__name__)
SHOWN_OF_BASELINES = ("top1", "top5", "map", "mrr")


class EvaluateOptions(Options):
    encoder: str
    split: Literal["train", "validation", "test"]
    protocols: list[Literal["gallery", "leave-one-out", "filtered"]] = Field(min_length=1)
    relevance: str
    baselines: list[str]
    metrics: list[str] | None
    match_precision: float = Field(gt=0, le=1)


def run(cfg: DictConfig) -> float:
    """Print and write the figures; returns the accuracy, or a search figure where there is none."""
    options = read_options(cfg, EvaluateOptions)
    note_training_only()
    check_names(options.metrics or ())
    check_protocols(options.metrics or (), options.protocols)
    if "gallery" not in options.protocols:
        note_unused(["match_precision"], "without gallery among the protocols, which the threshold is taken from")
    if options.protocols == ["filtered"]:
        note_unused(["baselines"], "with protocols=[filtered] alone: they name no class to filter by")
    beside = {name: baseline(name) for name in options.baselines}
    encoder = load_encoder(Path(options.encoder))
    cfg = with_data_of(encoder, cfg)
    data = data_shown_to(encoder, cfg)
    note_splits(data.source)
    strangers = [name for name in data.class_names if name not in encoder.class_names]
    if strangers:
        check_strangers(options, strangers)
        log.info("%s does not know %s: searches alone are evaluated.", encoder.source, briefly(strangers))
    queries, gallery = queries_and_gallery(data, options.split, options.protocols == ["leave-one-out"])
    result = evaluate(
        encoder, queries, gallery, split=options.split, class_names=data.class_names, protocols=options.protocols,
        relevance=options.relevance,
    )  # fmt: skip
    note_unanswerable(result, options, gallery_name(gallery))
    folder = Path(HydraConfig.get().runtime.output_dir)
    compared = compare_baselines(beside, options, queries, gallery)
    facts = {
        "encoder": str(encoder.source), "fingerprint": encoder.fingerprint, "relevance": options.relevance,
        "data": data_used(cfg) | {"image_size": encoder.image_size, "centre": encoder.centre}, "baselines": compared,
    }  # fmt: skip
    write_metrics(folder / "metrics.json", result, facts, options.match_precision)
    shown = select(result.metrics, options.metrics)
    confusion = confusion_picture(result.confusion, result.class_names)
    save_picture(confusion, folder / "confusion.png")
    title = f"{encoder.source} on {options.split} ({len(queries.labels)} pictures)"
    naming = {name: value for name, value in shown.items() if "/" not in name}
    if naming:
        show(metrics_table(title, naming, result.intervals))
    if len(naming) < len(shown):
        show(search_table(shown, result.intervals, gallery_name(gallery)))
    if options.metrics is None and result.per_class:
        show(plain_table("Per class", *per_class_rows(result.per_class)))
    searches = Searches(result, queries, gallery, data.source.root, options.relevance)
    sections = evaluation_sections(searches, confusion, shown)
    beside_them = SHOWN_OF_BASELINES if options.metrics is None else SEARCH
    own = {name: value for name, value in shown.items() if name.partition("/")[2] in beside_them}
    if compared and own:
        columns = list(own)
        rows = [[name, *(f"{figures[c]:.3f}" if c in figures else "" for c in columns)]
                for name, figures in {"this model": own, **compared}.items()]  # fmt: skip
        show(plain_table("Beside what nobody trained", ["", *columns], rows))
        sections.insert(1, Section("Beside what nobody trained", table=(["", *columns], rows)))
    sections.append(settings_section(flat(as_dict(cfg))))
    write_page(folder / "report.html", f"Evaluation: {title}", sections)
    log.info("Written to %s: report.html, metrics.json, confusion.png", folder)
    return next(iter(result.metrics.values()))


def check_strangers(options: EvaluateOptions, strangers: Sequence[str]) -> None:
    """Raise FashionError if what is asked for needs a model that knows these classes."""
    naming = [name for name in options.metrics or () if name.split("_")[0] in ("accuracy", "precision", "recall", "f1")]
    if naming or "filtered" in options.protocols:
        what = f"metrics names {naming[0]!r}" if naming else "protocols names 'filtered'"
        raise FashionError(
            f"{what}, which needs a model that knows {briefly(strangers)}; leave it out, or choose data.classes."
        )


def note_unanswerable(result: Evaluation, options: EvaluateOptions, gallery: str) -> None:
    """Say of which protocols there are no figures, as no query has anything to find; `gallery`: its name."""
    places = {"gallery": f"in the {gallery}", "leave-one-out": "among the other queries"}
    others = {"gallery": "leave-one-out", "leave-one-out": "gallery"}
    for protocol, place in places.items():
        if protocol in result.retrievals and not result.retrievals[protocol].relevant.any():
            other = others[protocol]
            hint = "" if other in options.protocols else f"; try 'protocols=[{other}]'"
            log.warning("No query has a picture of its %s %s%s.", options.relevance, place, hint)


def compare_baselines(
    beside: Mapping[str, Embed], options: EvaluateOptions, queries: PictureArray, gallery: PictureArray
) -> dict[str, dict[str, float]]:
    """baseline → search figure → value."""
    protocols = [name for name in options.protocols if name != "filtered"]  # which needs a class that a query is named
    table: dict[str, dict[str, float]] = {}
    for name, embed in beside.items():
        embeddings, in_gallery = embed(queries.pictures), None
        if "gallery" in protocols:
            in_gallery = embeddings if gallery is queries else embed(gallery.pictures)
        found = searched(queries, embeddings, gallery, in_gallery, protocols, options.relevance)
        table[name] = {}
        for protocol, searches in found.items():
            table[name] |= searches.summary(f"{PREFIX[protocol]}/")
    return table
