"""task=rollback: make an older version of a catalogue the current one."""

import logging
from collections.abc import Sequence

from omegaconf import DictConfig

from fashion.errors import FashionError
from fashion.search.manifest import is_intact
from fashion.search.remaking import made_anew
from fashion.search.store import PATIENCE, Store
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class RollbackOptions(Options):
    catalog: str
    version: int | None


def run(cfg: DictConfig) -> int:
    """Go back to `version`, by default the one that the current one was made from; returns its number."""
    options = read_options(cfg, RollbackOptions)
    store = Store(options.catalog, patience=PATIENCE)
    if store.current() is None:
        raise FashionError(f"{store.folder} is no catalogue; name one that task=index wrote.")
    with store.writer():
        ancestors = store.ancestors()
        # Without ancestors the current version is lost: then the last one that is left.
        older = ancestors[1:] if ancestors else store.others()
        if options.version is None and not older:
            raise FashionError(
                f"{store.folder} keeps no version before {store.number()}; make it anew with {made_anew(store.folder)}."
            )
        number = options.version
        if number is None:
            number = _intact(store, older)
        elif number in store.numbers() and not is_intact(store, number):
            stays = f"it stays at {store.number()}" if store.number() else "name another one"
            raise FashionError(f"Version {number} of {store.folder} is damaged; {stays} (kept: {store.listed()}).")
        store.use(number)
    log.info("%s is at version %d again (kept: %s)", store.folder, store.number(), store.listed())
    return store.number()


def _intact(store: Store, older: Sequence[int]) -> int:
    """The first of these versions whose files are what was written; going back should not lead from bad to worse."""
    for number in older:
        if is_intact(store, number):
            return number
        log.warning("Version %d is damaged; it is passed over.", number)
    number = store.number()
    fine = is_intact(store, number)
    way = f"it stays at {number}" if fine else f"make it anew with {made_anew(store.folder)}"
    raise FashionError(f"{store.folder} keeps no other version that is intact; {way}.")
