"""Machinery: read somebody else's byte-level BPE: tokenizer.json, encoder.json + vocab.bpe, or tiktoken's ranks.

What is taken over is the vocabulary, the merges and the name of a pattern we know; everything else is built anew, so
nothing that a stranger's file says is ever run.  What would make other ids or other text is refused in a sentence.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError, IntegrityError, MissingError
from pipeline.runtime.hash_cache import HashMemory
from pipeline.runtime.hashing import JSON, sha256_of_file
from pipeline.tokenization.pretokenizers import KNOWN, build_pretokenizer, name_of
from pipeline.tokenization.text_encoder import byte_of_symbol

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_BYTES = 2**28
RANKS = {
    "gpt2": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "cl100k": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""SHA-256 of tiktoken's published files, r50k_base and cl100k_base, by the name of their pattern"""
_PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))


@dataclass(frozen=True, kw_only=True)
class TokenizerFile:
    """A file of somebody else's tokenizer; all of it is in the id."""

    location: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A byte-level BPE as a value."""

    ids: dict[str, int]
    """id of each text token, written in byte symbols; dense from 0"""
    merges: list[tuple[str, str]]
    """pairs in the order in which they are merged"""
    pattern: str
    """a name in `pretokenizers.KNOWN`"""
    ignore_merges: bool = False
    """a pre-token that is a token is that token, whatever the merges say (tiktoken does so)"""
    left_out: tuple[str, ...] = ()
    """control and added tokens of the original, which text never becomes here"""


# --- finding -------------------------------------------------------------------------------------------------


def find_tokenizer(path: Path, store: Store) -> tuple[TokenizerFile, ...]:
    """Return the files of the tokenizer at `path`, a file or a folder, with their hashes.

    Raises MissingError when there is none.
    """
    files = files_at(path.expanduser().absolute())
    with HashMemory(store.root / "sources" / "hashes.sqlite") as memory:
        return tuple(TokenizerFile(location=str(file), sha256=memory.sha256(file)) for file in files)


def files_at(path: Path) -> list[Path]:
    """Return the file, or the two files, of the tokenizer at `path`."""
    if not path.exists():
        raise MissingError(f"{path} does not exist.")
    folder = path if path.is_dir() else path.parent
    pairs = [[folder / name for name in pair] for pair in _PAIRS if path.is_dir() or path.name in pair]
    if path.is_file() and not pairs:
        return [path]
    single = [folder / "tokenizer.json"] if path.is_dir() else []
    ranks = sorted(folder.glob("*.tiktoken")) if path.is_dir() else []
    for files in [single, *pairs, ranks[:1] if len(ranks) == 1 else []]:
        if files and all(file.is_file() for file in files):
            return files
    raise MissingError(
        f"{path} is no tokenizer: there is neither a tokenizer.json, nor encoder.json with vocab.bpe (or vocab.json "
        "with merges.txt), nor one file of ranks ending in .tiktoken. Name the file itself if it is called otherwise."
    )


def read_tokenizer(files: Sequence[TokenizerFile], pattern: str) -> Vocabulary:
    """Read the files that `find_tokenizer` found; `pattern` is for the formats that do not say theirs.

    Raises IntegrityError when a file is no longer what was hashed, DataError when it cannot be represented.
    """
    for file in files:
        if (found := sha256_of_file(Path(file.location))) != file.sha256:
            raise IntegrityError(
                f"{file.location} has sha256 {found[:SHORT]} instead of {file.sha256[:SHORT]}: it changed since it was "
                "described. Restore it, or import it again."
            )
    return read_files([Path(file.location) for file in files], pattern)


def read_files(paths: Sequence[Path], pattern: str) -> Vocabulary:
    """Read the file, or the two files, of a tokenizer."""
    for path in paths:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has more than {_MOST_BYTES >> 20} MiB; that is no tokenizer.")
    if len(paths) == 2:
        return _read_pair(paths[0], paths[1], pattern)
    if paths[0].suffix == ".json":
        return _read_tokenizer_json(paths[0])
    if (published := pattern_of_ranks(paths[0])) not in (None, pattern):
        raise ConfigError(f"{paths[0]} belongs to the pattern {published}, not {pattern}: add --pattern {published}.")
    return _read_ranks(paths[0], pattern)


# --- the three formats ---------------------------------------------------------------------------------------


def pattern_of_ranks(path: Path) -> str | None:
    """Return the pattern that belongs to a published file of ranks, None for any other file."""
    found = sha256_of_file(path)
    return next((name for name, sha256 in RANKS.items() if sha256 == found), None)


def _read_pair(vocabulary: Path, merges: Path, pattern: str) -> Vocabulary:
    """Read GPT-2's two files: {token: id}, and a merge per line after a first line with the version."""
    ids = _ids_of(_read_json(vocabulary), vocabulary)
    lines = _read_text(merges).split("\n")
    start = 1 if lines[0].startswith("#version") else 0
    pairs = [_pair_of(line, merges, n) for n, line in enumerate(lines[start:], start + 1) if line]
    made = {left + right for left, right in pairs}
    extra = {token for token in ids if len(token) > 1 and token not in made}
    return _checked(ids, pairs, pattern, extra, vocabulary)


def _read_tokenizer_json(path: Path) -> Vocabulary:
    """Read the file of `tokenizers`: a BPE whose steps around it are those of a byte-level one."""
    page = _read_json(path)
    model = page.get("model") if isinstance(page, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("merges"), list):
        raise DataError(f"{path} is not a BPE of `tokenizers`: `model` must have the type BPE, a vocab and merges.")
    pattern = _check_steps(page, model, path)
    ids = _ids_of(model.get("vocab"), path)
    pairs = [_pair_of(entry, path, n) for n, entry in enumerate(model["merges"], 1)]
    added = [entry.get("content") for entry in page.get("added_tokens") or [] if isinstance(entry, dict)]
    ignore_merges = model.get("ignore_merges") is True
    return _checked(ids, pairs, pattern, {str(token) for token in added}, path, ignore_merges=ignore_merges)


def _check_steps(page: dict[str, Any], model: dict[str, Any], path: Path) -> str:
    """Return the pattern; DataError for any step that would change the text or cut it in a way we do not know."""
    if page.get("normalizer") is not None:
        raise DataError(
            f"{path} has a normalizer ({_type_of(page['normalizer'])}): it changes text before it is encoded."
        )
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            raise DataError(f"{path} is not a plain byte-level BPE: its model has {name} = {str(model[name])[:40]!r}.")
    pattern = name_of(page.get("pre_tokenizer"))
    if pattern is None:
        raise DataError(
            f"{path} has a pre-tokenizer ({_type_of(page.get('pre_tokenizer'))}) that is none of those we know: "
            f"{', '.join(KNOWN)}, each without a space put before the text."
        )
    if _type_of(page.get("decoder")) not in ("ByteLevel", "none"):
        raise DataError(f"{path} has a decoder ({_type_of(page['decoder'])}) that is not that of a byte-level BPE.")
    return pattern


def _read_ranks(path: Path, pattern: str) -> Vocabulary:
    """Read tiktoken's file: a token in base64 and its rank per line; the merges follow from the ranks."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        token, _, rank = line.partition(" ")
        try:
            data = base64.b64decode(token, validate=True)
            rank_of_token = int(rank)
        except (ValueError, binascii.Error):
            raise DataError(f"{path}:{number} is not `BASE64 RANK`: {line[:40]!r}.") from None
        if data in ranks:
            raise DataError(f"{path}:{number} names the token {data!r} a second time.")
        ranks[data] = rank_of_token
    symbols = {byte: symbol for symbol, byte in byte_of_symbol().items()}

    def written(data: bytes) -> str:
        return "".join(symbols[byte] for byte in data)

    ids = {written(data): rank for data, rank in ranks.items()}
    pairs = [(written(left), written(right)) for left, right in _merges_of(ranks, path)]
    return _checked(ids, pairs, pattern, set(), path, ignore_merges=True)


def _merges_of(ranks: dict[bytes, int], path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two sides that each token is merged from, in the order of the ranks.

    They are what is left of the token's bytes when the pair of the lowest rank is merged as long as that rank is
    below the token's own.
    """
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            sides = _merged(token, ranks, rank)
            if len(sides) != 2:
                raise DataError(f"{path}: no two tokens of lower rank make the token {token!r} (rank {rank}).")
            yield sides[0], sides[1]


def _merged(token: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """Return what is left of a token's bytes when pairs are merged whose rank is below its own, the lowest first."""
    tokens = [token[i : i + 1] for i in range(len(token))]
    while len(tokens) > 1:
        found = [ranks.get(left + right, below) for left, right in pairwise(tokens)]
        lowest = min(found)
        if lowest >= below:
            break
        at = found.index(lowest)
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
    return tokens


# --- checks --------------------------------------------------------------------------------------------------


def _checked(
    ids: dict[str, int],
    merges: list[tuple[str, str]],
    pattern: str,
    extra: Iterable[str],
    path: Path,
    *,
    ignore_merges: bool = False,
) -> Vocabulary:
    """Leave out the `extra` tokens, and check that the rest is a byte-level BPE with ids 0, 1, 2, …"""
    left_out = sorted(set(extra), key=lambda token: ids.get(token, len(ids)))
    ids = {token: i for token, i in sorted(ids.items(), key=lambda item: item[1]) if token not in set(left_out)}
    for expected, (token, i) in enumerate(ids.items()):
        if i != expected:
            what = "two tokens have one id" if i < expected else f"no text token has the id {expected}"
            raise DataError(
                f"{path}: {what} (next is {token!r} with {i}). Text ids must be 0, 1, 2, … without a hole; control "
                f"tokens ({', '.join(left_out[:3]) or 'none here'}) come after them."
            )
    _check_bytes(ids, path)
    for left, right in merges:
        if left not in ids or right not in ids or left + right not in ids:
            raise DataError(
                f"{path}: the merge of {left!r} and {right!r} has a side or a result that is no text token."
            )
    if len(set(merges)) != len(merges):
        raise DataError(f"{path}: a merge is there twice.")
    return Vocabulary(ids=ids, merges=merges, pattern=pattern, ignore_merges=ignore_merges, left_out=tuple(left_out))


def _check_bytes(ids: dict[str, int], path: Path) -> None:
    symbols = byte_of_symbol()
    for token in ids:
        if not token or not all(character in symbols for character in token):
            raise DataError(f"{path}: the token {token!r} is not written in byte symbols; this BPE is not byte-level.")
    if missing := [byte for symbol, byte in symbols.items() if symbol not in ids]:
        raise DataError(f"{path}: no token stands for the byte {min(missing)}; not every text could be encoded.")


def _ids_of(page: JSON, path: Path) -> dict[str, int]:
    if not isinstance(page, dict) or not page:
        raise DataError(f"{path} has no table of tokens and their ids.")
    for token, i in page.items():
        if not isinstance(i, int) or isinstance(i, bool) or i < 0:
            raise DataError(f"{path}: the id of {token!r} must be a whole number from 0 on, got {str(i)[:40]}.")
    return dict(page)


def _pair_of(entry: JSON, path: Path, number: int) -> tuple[str, str]:
    pair = entry.split(" ") if isinstance(entry, str) else entry
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(side, str) and side for side in pair):
        raise DataError(f"{path}: merge {number} is not a pair of tokens: {str(entry)[:40]!r}.")
    return pair[0], pair[1]


def _type_of(page: JSON) -> str:
    return "none" if page is None else str(page.get("type") if isinstance(page, dict) else page)[:40]


# --- reading and building ------------------------------------------------------------------------------------


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}.") from None


def _read_json(path: Path) -> Any:
    """Read strict JSON: a key that is there twice would silently win over the first."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise DataError(f"{path} has the key {twice!r} twice in one table.")
        return table

    try:
        return json.loads(_read_text(path), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON that can be read: {str(error)[:120]}.") from None


def build_tokenizer(vocabulary: Vocabulary) -> "Tokenizer":
    """Return the `tokenizers.Tokenizer` of a vocabulary, without normalizer, added tokens or post-processor."""
    from tokenizers import Tokenizer, decoders, models

    model = models.BPE(vocab=vocabulary.ids, merges=vocabulary.merges, ignore_merges=vocabulary.ignore_merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = build_pretokenizer(vocabulary.pattern)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
