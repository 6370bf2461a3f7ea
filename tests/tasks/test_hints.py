"""What Hydra refuses is said in one sentence, with what was probably meant."""

import shlex
import subprocess

import pytest
from helpers import ROOT, command
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException

from fashion.quoting import as_typed, as_typed_list
from fashion.tasks.hints import hint


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lr=0.1", "there is no key lr; did you mean task.module.lr? --help lists all."),
        ("task.epoch=3", "there is no key task.epoch; did you mean task.epochs? --help lists all."),
        ("~task.epoch", "there is no key task.epoch; did you mean task.epochs? --help lists all."),
        ("nothing.like.it=3", "there is no key nothing.like.it; --help lists all."),
        (
            "data.batchsize=8",
            "there is no key data.batchsize; did you mean data.batch_size? --help lists all; an argument of its class "
            "that is not listed is added as +data.batchsize=….",
        ),
        ("trainer=gpus", "there is no trainer=gpus; did you mean gpu? there are cpu, ddp, gpu, smoke."),
        ("task=sync", "there is no task=sync; did you mean index? there are audit, "),
        ("task=delete", "there is no task=delete; did you mean items? there are audit, "),
        ("task=package", "there is no task=package; there are audit, "),
        ("task=the", "there is no task=the; there are audit, "),
        ("~data.batchsize", "there is no key data.batchsize; did you mean data.batch_size? --help lists all."),
        ("loss=triplet", "loss is no part of this task's configuration; --help says what is."),
        ("hydra.launcher.batchsize=2", "there is no key hydra.launcher.batchsize; --cfg hydra lists those of Hydra."),
        ("model=my/net", "there is no model=my/net; there are base, "),
        ("hydra.job.chdir=maybe", "Error merging override hydra.job.chdir=maybe Value 'maybe' "),
        ("+model.blocks.width=3", "'width' is no part of a list; they are numbered from 0, as in model.blocks.0=[…]."),
        ("+task.epochs=3", "Could not append to config. An item is already at 'task.epochs'. Either remove + prefix: "),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(override, sentence):
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        pytest.raises(CompactHydraException) as caught,
    ):
        compose("config", ["task=classify", override], return_hydra_config=True)
    said = hint(caught.value, ROOT / "conf", ["-m", "", "task=classify", "model=tiny,small", override])
    assert "\n" not in said
    assert said == sentence or (sentence.endswith(" ") and said.startswith(sentence))


@pytest.mark.parametrize("override", ["model.blocks.width=3", "model.blocks.width.last=3"])
def test_parts_of_a_list_have_numbers(tmp_path, override):
    done = command("task=summary", override, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: 'width' is no part of a list; they are numbered from 0, as in model.blocks.0=[…].\n"


def test_keys_are_those_of_the_chosen_task():
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        pytest.raises(CompactHydraException) as caught,
    ):
        compose("config", ["task=search", "miner=hard"])
    assert "did you mean" not in hint(caught.value, ROOT / "conf", ["task=search"])
    assert "did you mean loss.miner?" in hint(caught.value, ROOT / "conf", ["task=triplet"])
    assert "did you mean" not in hint(caught.value, ROOT / "conf", ["task=nonsense"])


def test_a_key_that_is_the_users_to_name_is_added():
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        pytest.raises(CompactHydraException) as caught,
    ):
        compose("config", ["task=items", "columns.price=3"])
    said = hint(caught.value, ROOT / "conf", ["task=items", "columns.price=3"])
    assert said == "there is no key columns.price yet; add it as +columns.price=…"


def test_what_is_put_into_an_empty_part_is_added(tmp_path):
    done = command("task=items", "catalog=c", "update=A1", "columns={price: 3}", cwd=tmp_path)
    assert done.stderr == "error: columns is empty, and what is put into it is added: +columns={…}\n"


def test_a_group_is_not_null(tmp_path):
    done = command("task=triplet", "loss=null", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1, "error: a group cannot be null; name one of its choices (--help lists them), or leave it out.\n",
    )  # fmt: skip


def test_the_command_line_says_it(tmp_path):
    done = command("task=classify", "lr=0.1", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: there is no key lr; did you mean task.module.lr? --help lists all.\n"


@pytest.mark.parametrize("asked", [("--cfg", "job"), ("--cfg=job",), ("-c", "hydra"), ("-cjob",), ("--info",)])
def test_one_configuration_is_shown_not_many(tmp_path, asked):
    done = command("-m", "task=classify", "model=tiny", *asked, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: --cfg and --info show the configuration of one run, and -m makes many; leave -m out.\n"
    )


@pytest.mark.slow
def test_a_folder_of_configurations_is_no_showing(tmp_path):
    (tmp_path / "own").mkdir()
    assert command("-m", "-cd", "own", "task=summary", "model=tiny", cwd=tmp_path).returncode == 0


def test_of_a_list_each_value_is_quoted(tmp_path):
    said = command("task=audit", "data.classes=[42,Größe_ß,T-shirt 1]", cwd=tmp_path).stderr
    (typed,) = shlex.split(said.partition("once for the shell: ")[2])
    override = OverridesParser.create().parse_override(typed)
    assert (override.key_or_group, list(map(str, override.value()))) == ("data.classes", ["42", "Größe_ß", "T-shirt 1"])
    typed = shlex.split(as_typed_list("data.classes", ["dress", "men's", "été"]))[0]
    assert list(map(str, OverridesParser.create().parse_override(typed).value())) == ["dress", "men's", "été"]


TYPED = ["plain/path-1.csv", "men's shoes", "a, b=c: {d}", 'the "$HOME" `of` them', "été", "null", "1e5", "12",
         "a\\", "a\\\\b", "a\\'b", 'a\\"; touch it #', "\\'"]  # fmt: skip


@pytest.mark.parametrize("value", TYPED)
def test_a_command_in_a_message_can_be_typed(value):
    shell = subprocess.run(
        ["sh", "-c", f"printf %s {as_typed('catalog', value)}"], capture_output=True, text=True, check=True
    )
    assert OverridesParser.create().parse_override(shell.stdout).value() == value
