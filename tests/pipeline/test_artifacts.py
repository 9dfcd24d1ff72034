"""The verbs: list, show, lineage, verify, reproduce, repair, tag; test_diff and test_garbage have the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# --- looking -------------------------------------------------------------------------------------------------


def test_list_says_what_there_is_and_what_it_is_called(chain: Any) -> None:
    chain.bench.store.tag("mine", chain.corpus)

    lines = chain.bench.artifacts("list").out.splitlines()

    assert [line.split()[0] for line in lines] == [chain.corpus.short, chain.shards.short, chain.tokenizer.short]
    assert lines[0].split()[1] == "mine"
    assert " documents, 0.0 MB, 0 rejected" in lines[0]


def test_list_of_a_kind_leaves_out_the_others(chain: Any) -> None:
    [row] = json.loads(chain.bench.artifacts("list", "--kind", "tokenizer", "--json").out)

    assert (row["reference"], row["digest"]) == (chain.tokenizer.reference, chain.tokenizer.digest)
    assert row["summary"].startswith("320 ids, ")


def test_list_of_an_empty_store_says_so(bench: Any) -> None:
    ended = bench.artifacts("list")

    assert (ended.code, "nothing is published" in ended.out) == (0, True)


def test_list_of_no_such_kind_names_the_kinds(bench: Any) -> None:
    ended = bench.artifacts("list", "--kind", "corpora")

    assert (ended.code, "corpus, tokenizer, shards" in ended.err) == (66, True)


def test_show_says_how_it_was_made_and_what_is_in_it(chain: Any) -> None:
    shown = chain.bench.artifacts("show", chain.tokenizer.short).out

    assert chain.tokenizer.digest in shown
    assert "made by pipeline.tokenizer (version 3)" in shown
    assert "  vocab_size: 320" in shown
    assert "tokenizer.json" in shown
    assert f"next: python -m pipeline.shards --corpus {chain.corpus.short} --tokenizer {chain.tokenizer.short}" in shown


def test_show_as_json_is_the_manifest(chain: Any) -> None:
    page = json.loads(chain.bench.artifacts("show", chain.shards.short, "--json").out)

    assert page["manifest"] == json.loads(json.dumps(chain.shards.manifest.as_json()))
    assert page["path"] == str(chain.shards.path)
    assert page["provenance"]["command"]


def test_lineage_goes_down_to_the_raw_file_its_hash_and_its_licence(chain: Any) -> None:
    lines = chain.bench.artifacts("lineage", chain.shards.short).out.splitlines()

    assert lines[0].startswith(chain.shards.short)
    assert f"├── corpus: {chain.corpus.short}" in lines[1]
    assert "raw: " in lines[2] and "raw.jsonl" in lines[2] and "[unknown]" in lines[2]
    assert "given by the user" in lines[3]
    assert f"└── tokenizer: {chain.tokenizer.short}" in lines[4]
    assert lines[5].strip().endswith(f"corpus: {chain.corpus.short}  (above)")


def test_lineage_as_json_holds_the_digests(chain: Any) -> None:
    tree = json.loads(chain.bench.artifacts("lineage", chain.shards.short, "--json").out)

    assert {node["role"]: node["digest"] for node in tree["inputs"]} == {
        "corpus": chain.corpus.digest,
        "tokenizer": chain.tokenizer.digest,
    }
    assert tree["inputs"][0]["sources"][0]["sha256"] == chain.corpus.manifest.recipe.config["sources"][0]["sha256"]


def test_lineage_shows_an_input_that_is_gone_as_missing(chain: Any) -> None:
    shutil.rmtree(chain.corpus.path)

    ended = chain.bench.artifacts("lineage", chain.shards.short)

    assert (ended.code, f"{chain.corpus.short}  not in this store" in ended.out) == (0, True)


def test_a_name_is_given_and_used(chain: Any) -> None:
    given = chain.bench.artifacts("tag", chain.corpus.short, "stories")

    assert (given.code, given.out.strip()) == (0, chain.corpus.reference)
    assert json.loads(chain.bench.artifacts("show", "stories", "--json").out)["manifest"]["id"] == chain.corpus.id


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "corpus:zzz"), 66),
        (("verify", "no-such-name"), 66),
        (("tag", "corpus:", "x"), 66),
        (("repair", "corpus:zzz"), 66),
        (("reproduce", "latest"), 66),
        (("tag", "CORPUS", "a:b"), 2),
        (("show",), 2),
        (("nonsense",), 2),
        (("list", "--nonsense"), 2),
    ],
)
def test_a_mistake_has_its_exit_code_and_a_sentence(chain: Any, arguments: tuple[str, ...], code: int) -> None:
    ended = chain.bench.artifacts(*(chain.corpus.short if a == "CORPUS" else a for a in arguments))

    assert (ended.code, ended.err != "", "Traceback" in ended.err) == (code, True, False)


# --- checking and mending ------------------------------------------------------------------------------------

PAYLOADS = {
    "corpus": ["sources.jsonl", "steps.json", "train-00000-of-00001.arrow", "validation-00000-of-00001.arrow"],
    "tokenizer": ["report.json", "tokenizer.json", "tokenizer_config.json"],
    "shards": ["index.json", "train-00000-of-00001.arrow", "validation-00000-of-00001.arrow"],
    "messages": [f"{split}-00000-of-00001.arrow" for split in ("test", "train", "validation")],
    "dialogues": ["train-00000-of-00001.arrow", "validation-00000-of-00001.arrow"],
}
FILES = [(step, name) for step, names in PAYLOADS.items() for name in names]
NEXT_STAGE: dict[str, tuple[str, ...]] = {
    "corpus": ("pipeline.tokenizer", "--corpus", "tiny.corpus"),
    "tokenizer": ("pipeline.shards", "--corpus", "tiny.corpus", "--tokenizer", "tiny.tokenizer"),
    "shards": ("train.pretrain", "--shards", "tiny.shards"),
    "messages": ("train.classify", "--examples", "tiny.messages"),
    "dialogues": ("train.instruct", "--examples", "tiny.dialogues"),
}


@pytest.mark.parametrize("step", PAYLOADS)
def test_the_files_that_are_flipped_below_are_all_there_are(tiny: Any, step: str) -> None:
    assert [entry.path for entry in tiny[step].manifest.files] == PAYLOADS[step]


@pytest.mark.parametrize(("step", "name"), FILES)
def test_one_flipped_bit_is_refused_by_verify_and_the_next_stage_and_mended_by_repair(
    cheap: Any, flip: Callable[[Path], None], step: str, name: str
) -> None:
    artifact = cheap.store.find(f"tiny.{step}")
    assert artifact.verify() > 0  # as a run before the damage did; the stamps must not hide it
    flip(artifact.payload / name)

    verified = cheap.artifacts("verify")
    used = cheap(*NEXT_STAGE[step])
    repaired = cheap.artifacts("repair", f"tiny.{step}", "--json")

    assert verified.code == used.code == 71
    cure = f"Run `python -m pipeline.artifacts repair {artifact.short}` to rebuild it."
    assert all(f"{artifact.payload / name} has sha256" in ended.err and cure in ended.err for ended in (verified, used))
    assert (repaired.code, json.loads(repaired.out)["digest"]) == (0, artifact.digest), repaired.err
    assert cheap.artifacts("verify").code == 0
    [moved] = (cheap.store.root / "quarantine").iterdir()
    assert json.loads(repaired.out)["quarantine"] == str(moved)


def test_verify_goes_on_after_the_first_damaged_artifact(chain: Any, flip: Callable[[Path], None]) -> None:
    for artifact in (chain.corpus, chain.shards):
        flip(artifact.files()[0])

    ended = chain.bench.artifacts("verify", "--json")

    rows = {row["reference"]: row["ok"] for row in json.loads(ended.out)}
    assert rows == {
        chain.corpus.reference: False,
        chain.shards.reference: False,
        chain.tokenizer.reference: True,
    }
    assert ended.code == 71


def test_verify_sees_a_manifest_that_was_edited(chain: Any) -> None:
    path = chain.corpus.path / "manifest.json"
    path.write_text(path.read_text().replace('"block_bytes"', '"block_bites"'))

    ended = chain.bench.artifacts("verify")

    assert (ended.code, str(path) in ended.err) == (71, True)


def test_a_damaged_manifest_hides_nothing_and_repair_moves_it_so_that_the_same_command_builds_it(chain: Any) -> None:
    (chain.corpus.path / "manifest.json").write_text("{")

    listed = chain.bench.artifacts("list").out
    repaired = chain.bench.artifacts("repair", chain.corpus.short)

    assert "its manifest is damaged: repair it" in listed and chain.tokenizer.short in listed
    assert repaired.code == 71 and "no longer says how it was made" in repaired.err
    assert not chain.corpus.path.exists()
    assert [path.name.split("-")[1] for path in (chain.bench.store.root / "quarantine").iterdir()] == [chain.corpus.id]


def test_repair_leaves_a_whole_artifact_alone(chain: Any) -> None:
    before = (chain.corpus.path / "manifest.json").stat()

    ended = chain.bench.artifacts("repair", chain.corpus.short)

    assert (ended.code, "was intact" in ended.err) == (0, True)
    assert (chain.corpus.path / "manifest.json").stat() == before


def test_repair_without_the_input_says_which_one_is_gone_and_moves_nothing(
    chain: Any, flip: Callable[[Path], None]
) -> None:
    flip(chain.tokenizer.files()[1])
    shutil.rmtree(chain.corpus.path)

    ended = chain.bench.artifacts("repair", chain.tokenizer.short)

    assert (ended.code, chain.corpus.short in ended.err) == (66, True)
    assert chain.tokenizer.path.exists()


def test_repair_when_the_source_changed_says_so_and_keeps_the_damaged_bytes(
    bench: Any, text_file: Path, flip: Callable[[Path], None]
) -> None:
    corpus = bench.corpus(text_file)
    flip(corpus.files("train-")[0])
    text_file.write_text("Another text.\n\nAltogether.\n")

    ended = bench.artifacts("repair", corpus.short)

    assert (ended.code, f"{text_file} has sha256" in ended.err) == (71, True)
    assert len([*bench.store.root.glob("quarantine/*"), *bench.store.root.glob("corpus/*")]) == 1


# --- making again --------------------------------------------------------------------------------------------

SURROUNDINGS = {
    "1": {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
    "3": {"TZ": "America/St_Johns", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "4242"},
}


@pytest.mark.slow
@pytest.mark.parametrize("workers", SURROUNDINGS)
def test_what_tiny_made_before_any_weights_is_made_again_to_the_byte_in_other_surroundings(
    cheap: Any, program: Callable[..., Any], tmp_path: Path, workers: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    steps = [f"tiny.{step}" for step in PAYLOADS]

    ended = program(
        *("-m", "pipeline.artifacts", "reproduce", *steps, "--workers", workers, "--json"),
        store=cheap.store.root,
        TMPDIR=str(tmp_path / "elsewhere"),
        **SURROUNDINGS[workers],
    )

    assert ended.code == 0, ended.err
    assert [row["verdict"] for row in json.loads(ended.out)] == ["MATCH"] * 5


# If one of these changes on purpose, raise the `version` of that stage first: the same question then has another id.
GOLDEN = {
    "corpus": (
        "d1df005aeb71922d7d12c8073c7bf06fecf1af3b5b02a09eb19c7e03f55167fd",
        "9ed89184fd7185243cb56d5457177de87b2c141bb4b783a674219764913524cb",
    ),
    "tokenizer": (
        "c0e1596c97641d6526c304ca9702dc200aa45558eee3852f054bec78755fc0b0",
        "1d71d27cafe1ae417afeb66baf3b9e4fc0efbc377712cce938c3035890e98c3b",
    ),
    "shards": (
        "c08ecb99c8817a87a4f86128a3f8d05c6836b8fdc8fe0c611988c9ab053a1706",
        "25943412ca2903862eb60b2ac3366bfcd129051e560131204e465b5a5ce22f62",
    ),
    "messages": (
        "0c3b607c0e103ca008c25bba0ef435e0945912cc6ff9fcc09c5bd15b81c320ec",
        "b21132510db4a4f9c645fc36d2c0f875bb5c4a980f53ce24490b691bbddc7013",
    ),
    "dialogues": (
        "c4bca7b89ea6e04fec874510f02536ffec53d9e1c199d224244f41fef17f830b",
        "845f7d137038059926a1878cabeac2a5a5c236cf67d6dd75e2a246b305f35540",
    ),
}
GOLDEN_TOOLS = {"unicode": "14.0.0", "pyarrow": "26.0", "tokenizers": "0.23", "datasets": "5.2"}


@pytest.mark.parametrize("step", GOLDEN)
def test_the_same_question_has_the_answer_it_always_had(tiny: Any, step: str) -> None:
    artifact = tiny[step]
    tools = artifact.manifest.recipe.toolchain
    if any(GOLDEN_TOOLS[name] != version for name, version in tools.items()):
        pytest.skip(f"the answer is pinned for {GOLDEN_TOOLS}, and this is {tools}: another question")

    assert (artifact.id, artifact.digest) == GOLDEN[step]


def test_reproduce_says_which_file_differs_first(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.tokenization.text_encoder import TextEncoder

    encode = TextEncoder.encode_batch
    monkeypatch.setattr(TextEncoder, "encode_batch", lambda self, texts: [[*i[:-1], 7] for i in encode(self, texts)])

    ended = chain.bench.artifacts("reproduce", chain.shards.short, "--workers", "1")

    assert (ended.code, ended.out.split()[0]) == (71, "MISMATCH")
    assert "first difference in train-00000-of-" in ended.out
    assert chain.bench.store.find(chain.shards.reference).verify(rehash=True) > 0


def test_reproduce_with_another_version_of_the_stage_says_so(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from pipeline import shards

    monkeypatch.setattr(shards, "STAGE", dataclasses.replace(shards.STAGE, version=99))

    ended = chain.bench.artifacts("reproduce", chain.shards.short)

    assert (ended.code, ended.out.split()[:2]) == (0, ["VERSION", "DIFFERS"])
    assert "stale: made by version 3; this is version 99" in ended.out


def test_reproduce_leaves_the_store_as_it_was(chain: Any) -> None:
    before = sorted(chain.bench.store.folders())

    ended = chain.bench.artifacts("reproduce", chain.corpus.short, chain.tokenizer.short)

    assert ended.out.count("MATCH") == 2
    assert sorted(chain.bench.store.folders()) == before
    assert list((chain.bench.store.root / "tmp").iterdir()) == []


# --- cards ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["corpus", "shards", "messages", "dialogues"])
def test_datasets_opens_a_published_folder_with_the_right_rows(cheap: Any, tmp_path: Path, step: str) -> None:
    from datasets import load_dataset

    from pipeline.tables.arrow import read_batch

    artifact = cheap.store.find(f"tiny.{step}")

    opened = load_dataset(str(artifact.path), cache_dir=str(tmp_path / "cache"))

    present = {path.name.partition("-")[0] for path in artifact.files() if path.suffix == ".arrow"}
    assert set(opened) == present and present >= {"train", "validation"}
    for split, rows in opened.items():
        assert rows.to_list() == [row for path in artifact.files(f"{split}-") for row in read_batch(path).to_pylist()]
    artifact.verify(rehash=True)


@pytest.mark.parametrize("step", ["corpus", "shards"])
def test_every_published_table_says_its_features_as_datasets_does(cheap: Any, step: str) -> None:
    from datasets import Features

    from pipeline.tables.arrow import read_batch

    artifact = cheap.store.find(f"tiny.{step}")

    schemas = [read_batch(path).schema for path in artifact.files() if path.suffix == ".arrow"]

    assert schemas
    for schema in schemas:
        assert schema.metadata == Features.from_arrow_schema(schema.remove_metadata()).arrow_schema.metadata


def test_datasets_opens_the_rejects_of_a_corpus(bench: Any, tmp_path: Path) -> None:
    from datasets import load_dataset

    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "one"}\n{"text": "two"}\n')
    artifact = bench.corpus(tmp_path / "a.jsonl")

    rows = load_dataset(str(artifact.path), "rejects", split="rejects", cache_dir=str(tmp_path / "cache"))

    assert [(row["place"], row["reason"]) for row in rows] == [("a.jsonl:2", "exact duplicate")]


@pytest.mark.parametrize("step", PAYLOADS)
def test_the_card_of_an_artifact_is_a_dataset_card_that_names_its_licences(tiny: Any, step: str) -> None:
    from huggingface_hub import DatasetCard

    artifact = tiny[step]

    card = DatasetCard.load(artifact.path / "README.md")

    assert card.data.license == "cc0-1.0"
    assert all(entry.attribution in card.text for entry in artifact.manifest.licenses)
    assert artifact.digest[:12] in card.text
