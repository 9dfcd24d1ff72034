"""Somebody else's tokenizer: the same ids as tiktoken's, and a sentence for what cannot be represented."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import CairnError, ConfigError, DataError, IntegrityError, MissingError
from pipeline.tokenization.importing import (
    RANKS,
    build_tokenizer,
    files_at,
    find_tokenizer,
    pattern_of_ranks,
    read_files,
    read_tokenizer,
)
from pipeline.tokenization.text_encoder import CONTROL_TOKENS, TextEncoder, byte_of_symbol

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
TEXTS = [
    "",
    "It's the café owner's 1984th story.\n\n  🦊 <|endoftext|>",
    "\x00 é e\u0301 👩‍👩‍👧 \u088f",
    "the " * 50,
    "\r\n\t x",
]


@pytest.fixture(scope="module")
def gpt2_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary in GPT-2's two files, in GPT-2's order of bytes, and as tiktoken's ranks."""
    from pipeline.tokenizer import TokenizerConfig, train

    folder = tmp_path_factory.mktemp("gpt2")
    texts = [f"The café owner's {i} stories: it's 19{i} again, they're told.\n\n  {i}" for i in range(10, 90)]
    trained = json.loads(train(texts, TokenizerConfig(vocab_size=400)).to_str())["model"]
    merges = [" ".join(pair) for pair in trained["merges"]]
    tokens = [*byte_of_symbol(), *("".join(pair) for pair in trained["merges"])]
    assert tokens[0] == "!"  # not the order of the byte values
    page = {token: i for i, token in enumerate([*tokens, "<|endoftext|>"])}
    (folder / "encoder.json").write_text(json.dumps(page))
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    symbols = byte_of_symbol()
    ranks = [base64.b64encode(bytes(symbols[c] for c in token)).decode() for token in tokens]
    (folder / "small.tiktoken").write_text("".join(f"{token} {i}\n" for i, token in enumerate(ranks)))
    return folder


@pytest.fixture(scope="module")
def oracle(gpt2_files: Path) -> Any:
    """tiktoken with the same ranks."""
    tiktoken = pytest.importorskip("tiktoken")
    lines = (gpt2_files / "small.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
    return tiktoken.Encoding("small", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)})


# --- the same ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encoder.json", "small.tiktoken"])
def test_an_imported_tokenizer_gives_the_ids_of_tiktoken(gpt2_files: Path, oracle: Any, name: str) -> None:
    tokenizer = build_tokenizer(read_files(files_at(gpt2_files / name), "gpt2"))

    for text in TEXTS:
        assert tokenizer.encode(text).ids == oracle.encode_ordinary(text)
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_merges_follow_from_the_ranks(gpt2_files: Path) -> None:
    from_ranks = read_files([gpt2_files / "small.tiktoken"], "gpt2")
    from_files = read_files([gpt2_files / "encoder.json", gpt2_files / "vocab.bpe"], "gpt2")

    assert from_ranks.merges == from_files.merges
    assert from_ranks.ids == from_files.ids


def test_the_file_of_tokenizers_is_imported_as_it_is(encoder_folder: Path) -> None:
    found = build_tokenizer(read_files([encoder_folder / "tokenizer.json"], "gpt2"))

    assert json.loads(found.to_str()) == json.loads((encoder_folder / "tokenizer.json").read_text())


def test_importing_makes_an_artifact_without_a_corpus(bench: Any, gpt2_files: Path, oracle: Any) -> None:
    artifact = bench.make("pipeline.tokenizer", "--import", str(gpt2_files))

    encoder = TextEncoder.of(artifact)
    assert [encoder.encode(text) for text in TEXTS] == [oracle.encode_ordinary(text) for text in TEXTS]
    assert encoder.end_of_text == oracle.eot_token == encoder.text_size
    assert encoder.vocab_size == encoder.text_size + len(CONTROL_TOKENS)
    assert artifact.read_json("report.json")["left_out"] == ["<|endoftext|>"]
    assert artifact.manifest.licenses[0].license == "unknown"


def test_an_imported_tokenizer_is_reported_and_encodes_a_corpus(bench: Any, gpt2_files: Path, text_file: Path) -> None:
    corpus = bench.corpus(text_file)
    artifact = bench.make("pipeline.tokenizer", "--import", str(gpt2_files), "--corpus", corpus.reference)
    shards = bench.make(
        "pipeline.shards", "--corpus", corpus.reference, "--tokenizer", artifact.reference, "--workers", "1"
    )

    assert artifact.facts["bytes_per_token"] > 1
    assert list(artifact.read_json("report.json")["sources"]) == ["stories"]
    assert shards.facts["vocab_size"] == artifact.facts["vocab_size"]


def test_importing_twice_is_up_to_date_and_another_file_is_another_question(
    bench: Any, gpt2_files: Path, tmp_path: Path
) -> None:
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / name).write_bytes((gpt2_files / name).read_bytes())
    first = bench("pipeline.tokenizer", "--import", str(tmp_path))
    again = bench("pipeline.tokenizer", "--import", str(tmp_path / "vocab.bpe"))
    (tmp_path / "vocab.bpe").write_text((tmp_path / "vocab.bpe").read_text() + "\n")
    changed = bench("pipeline.tokenizer", "--import", str(tmp_path), "--plan")

    assert again.out == first.out and "is up to date" in again.err
    assert "never built" in changed.out and changed.out.split()[0] not in first.out


def test_an_imported_artifact_is_reproduced(bench: Any, gpt2_files: Path) -> None:
    artifact = bench.make("pipeline.tokenizer", "--import", str(gpt2_files))

    assert bench.artifacts("reproduce", artifact.reference).out.split()[0] == "MATCH"


def test_the_id_holds_the_files_that_were_found_and_not_the_path_that_was_given(bench: Any, gpt2_files: Path) -> None:
    config = bench.make("pipeline.tokenizer", "--import", str(gpt2_files)).manifest.recipe.config

    assert "import_from" not in config
    assert [Path(file["location"]).name for file in config["imported"]] == ["encoder.json", "vocab.bpe"]
    assert all(len(file["sha256"]) == 64 for file in config["imported"])


def test_a_recipe_may_import(bench: Any, gpt2_files: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'[tokenizer]\nimport_from = "{gpt2_files}"\n')

    assert bench("pipeline.tokenizer", "--recipe", str(recipe)).code == 0


def test_a_recipe_whose_corpus_is_not_there_yet_waits_for_it(bench: Any, tmp_path: Path, text_file: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'[corpus]\nsource = "{text_file}"\n[tokenizer]\ninputs = {{ corpus = "corpus" }}\n')

    plan = bench("pipeline.tokenizer", "--recipe", str(recipe), "--plan")
    ended = bench("pipeline.tokenizer", "--recipe", str(recipe))

    assert plan.out.split()[1:] == ["pending:", "corpus"]
    assert (ended.code, "Run `python -m pipeline.corpus --recipe" in ended.err) == (66, True)


def test_neither_a_corpus_nor_a_tokenizer_says_what_to_do(bench: Any) -> None:
    ended = bench("pipeline.tokenizer")

    assert ended.code == 66
    assert "needs --corpus" in ended.err and "--import PATH" in ended.err


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(encoder_folder: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Write a tokenizer.json that was changed: broken(lambda page: page.update(...))."""

    def write(change: Callable[[Any], None]) -> Path:
        page = json.loads((encoder_folder / "tokenizer.json").read_text())
        change(page)
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(page))
        return path

    return write


BOMB = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(.*)*(.*)*(.*)*$"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda p: p.update(normalizer={"type": "Replace", "pattern": {"String": "good"}, "content": "evil"}),
            "changes text",
        ),
        (lambda p: p.update(pre_tokenizer=BOMB), "none of those we know"),
        (lambda p: p["pre_tokenizer"].update(add_prefix_space=True), "none of those we know"),
        (lambda p: p.update(pre_tokenizer=None), "none of those we know"),
        (lambda p: p.update(decoder={"type": "WordPiece"}), "not that of a byte-level BPE"),
        (lambda p: p["model"].update(type="WordPiece"), "is not a BPE"),
        (lambda p: p["model"].update(dropout=0.1), "dropout = '0.1'"),
        (lambda p: p["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
        (lambda p: p["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda p: p["model"]["vocab"].update({"ab" * 9: 10**6}), "no text token has the id"),
        (lambda p: p["model"]["vocab"].update({"ab" * 9: 5}), "two tokens have one id"),
        (lambda p: p["model"]["vocab"].update({"ab": -1}), "whole number from 0"),
        (lambda p: p["model"]["vocab"].update({"ab": True}), "whole number from 0"),
        (lambda p: p["model"]["vocab"].update({"字": len(p["model"]["vocab"])}), "not byte-level"),
        (lambda p: p["model"]["merges"].append(["he", "nowhere"]), "is no text token"),
        (lambda p: p["model"]["merges"].append(p["model"]["merges"][0]), "is there twice"),
        (lambda p: p["model"]["merges"].append(["a", "b", "c"]), "is not a pair"),
        (lambda p: p.update(added_tokens=[{"id": 0, "content": "!"}]), "no text token has the id 0"),
    ],
)
def test_what_cannot_be_represented_is_refused_in_a_sentence(
    broken: Callable[..., Path], change: Callable[[Any], Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_files([broken(change)], "gpt2")


def test_a_refusal_ends_with_65_and_publishes_nothing(bench: Any, broken: Callable[..., Path]) -> None:
    ended = bench("pipeline.tokenizer", "--import", str(broken(lambda page: page.update(pre_tokenizer=BOMB))))

    assert (ended.code, "none of those we know" in ended.err) == (65, True)
    assert bench.store.folders("tokenizer") == []


def test_added_tokens_after_the_text_ids_are_left_out(broken: Callable[..., Path]) -> None:
    def add(page: Any) -> None:
        size = len(page["model"]["vocab"])
        page["model"]["vocab"]["<|im_start|>"] = size
        page["added_tokens"] = [{"id": size, "content": "<|im_start|>", "special": True}]

    found = read_files([broken(add)], "gpt2")

    assert found.left_out == ("<|im_start|>",)
    assert "<|im_start|>" not in found.ids


def test_a_vocabulary_without_a_byte_is_refused(gpt2_files: Path, tmp_path: Path) -> None:
    page = {token: i for i, token in enumerate(symbol for symbol, byte in byte_of_symbol().items() if byte != 7)}
    (tmp_path / "encoder.json").write_text(json.dumps(page))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n")

    with pytest.raises(DataError, match="no token stands for the byte 7"):
        read_files(files_at(tmp_path), "gpt2")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("tokenizer.json", "{", "is not JSON"),
        ("tokenizer.json", "[" * 200_000, "is not JSON"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0, "a": 1}, "merges": []}}', "the key 'a' twice"),
        ("tokenizer.json", "[]", "is not a BPE"),
        ("x.tiktoken", "!!! 0\n", "is not `BASE64 RANK`"),
        ("x.tiktoken", "YQ== 0\nYQ== 1\n", "a second time"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(DataError, match=sentence):
        read_files([tmp_path / name], "gpt2")


def test_ranks_that_no_merges_lead_to_are_refused(tmp_path: Path) -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"abc"]
    lines = "".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in enumerate(tokens))
    (tmp_path / "x.tiktoken").write_text(lines)

    with pytest.raises(DataError, match="no two tokens of lower rank make the token b'abc'"):
        read_files(files_at(tmp_path), "gpt2")


def test_bytes_that_are_no_text_are_refused_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"{\xff}")

    with pytest.raises(DataError, match="not UTF-8 at byte 1"):
        read_files([tmp_path / "tokenizer.json"], "gpt2")


def test_a_file_that_changed_after_it_was_hashed_is_refused(gpt2_files: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.tiktoken"
    path.write_bytes((gpt2_files / "small.tiktoken").read_bytes())
    found = find_tokenizer(path, Store(tmp_path / "store"))
    path.write_text(path.read_text() + "\n")

    with pytest.raises(IntegrityError, match="it changed since it was described"):
        read_tokenizer(found, "gpt2")


def test_published_ranks_want_their_own_pattern(gpt2_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    path = gpt2_files / "small.tiktoken"
    monkeypatch.setitem(RANKS, "cl100k", hashlib.sha256(path.read_bytes()).hexdigest())

    assert pattern_of_ranks(path) == "cl100k"
    with pytest.raises(ConfigError, match="add --pattern cl100k"):
        read_files([path], "gpt2")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--vocab-size", "1000"], 78, "tokenizer.vocab_size is for learning"),
        (["--budget-bytes", "1000"], 78, "tokenizer.budget_bytes is for learning"),
    ],
)
def test_settings_of_learning_beside_an_import_are_refused(
    bench: Any, gpt2_files: Path, arguments: list[str], code: int, sentence: str
) -> None:
    ended = bench("pipeline.tokenizer", "--import", str(gpt2_files), *arguments)

    assert (ended.code, sentence in ended.err) == (code, True), ended.err


def test_a_pattern_that_contradicts_the_file_is_refused(bench: Any, encoder_folder: Path) -> None:
    ended = bench("pipeline.tokenizer", "--import", str(encoder_folder / "tokenizer.json"), "--pattern", "cl100k")

    assert (ended.code, "the file has gpt2" in ended.err) == (78, True)


def test_nothing_to_import_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(MissingError) as caught:
            files_at(path)
        assert isinstance(caught.value, CairnError) and caught.value.exit_code == 66
