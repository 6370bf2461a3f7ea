"""Every shipped configuration composes, and what it names exists."""

import importlib
import subprocess
import sys

import pytest
from helpers import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.utils import get_class
from omegaconf import OmegaConf

from fashion.errors import FashionError
from fashion.quoting import TEXT, keep_text
from fashion.tasks import TASKS, run_task
from fashion.tasks.multirun import settings_key
from fashion.tasks.options import Options, read_options

CONF = ROOT / "conf"


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def targets(node) -> list[str]:
    if OmegaConf.is_dict(node):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [target for key in node if not OmegaConf.is_missing(node, key) for target in targets(node[key])]
    return []


@pytest.mark.parametrize("task", choices("task"))
def test_every_task_composes_and_can_be_dispatched(composed, task):
    cfg = composed(f"task={task}")
    assert cfg.task.name == task
    assert task in TASKS
    for target in targets(cfg):
        assert get_class(target)


@pytest.mark.parametrize(
    ("task", "group"),
    [("classify", "model"), ("classify", "data"), ("classify", "trainer"), ("triplet", "loss"), ("index", "index")],
)
def test_every_choice_of_every_group_composes(composed, task, group):
    for choice in choices(group):
        cfg = composed(f"task={task}", f"{group}={choice}")
        assert group in cfg
        for target in targets(cfg):
            assert get_class(target)


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes(composed, experiment):
    assert composed(f"experiment={experiment}").task.name in TASKS


@pytest.mark.parametrize("sweep", choices("sweep"))
def test_every_sweep_composes(composed, sweep):
    assert composed("task=triplet" if sweep == "loss" else "task=classify", f"sweep={sweep}")


@pytest.mark.parametrize(
    "override", ["modle=base", "model.stemm=3", "data.sauce=x", "task.lr=1", "trainer.max_epoch=3", "task.module.lrr=1"]
)
def test_a_misspelt_key_is_refused(composed, override):
    with pytest.raises(ConfigCompositionException, match=override.split("=")[0].split(".")[-1]):
        composed("task=classify", override)


def test_a_group_that_a_task_does_not_use_is_refused(composed):
    with pytest.raises(ConfigCompositionException, match="trainer"):
        composed("task=search", "trainer=cpu")


def test_a_picked_group_beats_the_tasks_default(composed):
    assert composed("task=classify", "model=tiny").model.name == "tiny"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("task=search", "k=0"), "k is 0"),
        (("task=search", "k=many"), "k is 'many'"),
        (("task=evaluate", "encoder=x", "split=tset"), "split is 'tset'"),
        (("task=classify", "data=synthetic", "task.ema=1.5"), "task.ema is 1.5"),
        (("task=classify", "data=synthetic", "seed=-1"), "seed is -1"),
        (("task=classify", "data=synthetic", "+task.emma=0.9"), "emma"),
        (("task=summary", "image_size=50"), "image_size is 50"),
    ],
)
def test_a_bad_value_is_named(composed, overrides, words):
    with pytest.raises(FashionError, match=words):
        run_task(composed(*overrides))


def test_a_value_without_default_is_asked_for(composed):
    with pytest.raises(FashionError, match="run has no default; add run="):
        run_task(composed("task=compare"))
    with pytest.raises(FashionError, match="data.source has no default"):
        run_task(composed("task=classify", "data=folder"))


def test_options_know_the_keys_that_all_tasks_share(composed):
    assert read_options(composed("task=help"), Options).seed == 1


def test_a_task_whose_libraries_are_missing_names_the_extra(composed, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "fashion.tasks.summary", None)  # as an import of it without torch ends
    monkeypatch.delitem(sys.modules, "fashion.tasks.summary")
    monkeypatch.setitem(sys.modules, "torch.utils.flop_counter", None)
    with pytest.raises(FashionError, match="needs the `train` extra"):
        run_task(composed("task=summary"))


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("delete=12_3", "delete='12_3'"),  # or item 123 would go
        ("delete=[a,12_3,'b,1_0', true,5]", "delete=[a,'12_3','b,1_0','true',5]"),
        ("delete=1_0,2", "delete='1_0',2"),
        ("data.source=2026_01", "data.source='2026_01'"),
        ("pictures=2024.10", "pictures='2024.10'"),
        ("server.api_key=12345e67", "server.api_key='12345e67'"),
        *(
            (same, same)
            for same in ("like=12", "k=1_0", "+columns.price=1e5", "query=null", "query='1_0'", "note=at 1e5")
        ),
    ],
)
def test_text_that_looks_like_a_number_stays_as_it_was_typed(typed, kept):
    assert keep_text(typed) == kept
    read, quoted = (OverridesParser.create().parse_override(text).value() for text in (typed, kept))
    assert typed == kept or read != quoted


def test_all_options_that_take_text_are_known(composed):
    for name in TASKS:
        module = importlib.import_module(f"fashion.tasks.{name}")
        own = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Options)]
        for key, field in [pair for kind in own for pair in kind.model_fields.items()]:
            if field.annotation in (str, str | None, list[str], str | list[str] | None):
                assert key in TEXT | {"name", "precision"}, f"{name}: {key}"


def test_a_folder_named_like_a_number_is_looked_for(tmp_path):
    command = [sys.executable, str(ROOT / "run.py"), "task=index", "pictures=2026_01", f"hydra.run.dir={tmp_path}/out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "2026_01: no such folder" in done.stderr


def test_a_key_is_never_printed_nor_taken_for_a_number(composed):
    from fashion.tasks.serve import ServeOptions

    with pytest.raises(FashionError, match="server.api_key: .*8 characters") as caught:
        read_options(composed("task=serve", "server.api_key=hushhus"), ServeOptions)
    assert "hushhus" not in str(caught.value)
    options = read_options(composed("task=serve", "server.api_key=12345678"), ServeOptions)
    assert options.server.api_key == "12345678"
    assert read_options(composed("task=serve", "server.api_key=''"), ServeOptions).server.api_key is None


def test_the_help_says_how_to_quote(composed):
    """Hydra's own message, raised before any task runs, does not."""
    from hydra import compose

    assert """query="'plain (1).jpg'" """.strip() in compose("config", [], return_hydra_config=True).hydra.help.header
    assert composed("task=search", "query='plain (1).jpg'").query == "plain (1).jpg"


def test_a_study_is_of_one_problem(tmp_path):
    """Whatever is not searched over makes another study; where things are kept does not."""
    OmegaConf.register_new_resolver("settings_key", settings_key, replace=True)

    def name(*overrides: str) -> str:
        given = ["task=classify", "sweep=optuna", "data=folder", "data.source=shop", *overrides]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose("config", given, return_hydra_config=True).hydra.sweeper.study_name

    same = name()
    assert same.startswith("classify-folder-")
    assert same == name(f"cache_dir={tmp_path}", "sweep_name=x", "hydra.sweeper.n_trials=3", "hydra/launcher=joblib")
    others = [
        "data.classes=[a,b]", "data.image_size=96", "data.batch_size=32", "seed=2", "trainer.precision=bf16-mixed",
        "task.pretrained=run", "task.module.mixup=0.1", "task.module.mixup=0.2",
        "+hydra.sweeper.params.seed='choice(1,2)'",
    ]  # fmt: skip
    assert len({same, *map(name, others)}) == 1 + len(others)
