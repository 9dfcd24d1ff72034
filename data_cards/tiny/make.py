"""Program: make the tiny data (stories, messages, dialogues) from the words of grammar.toml.

The output is a pure function of grammar.toml and SEED: `python data_cards/tiny/make.py` writes the three
files beside this one, `--check` says whether they are what it makes. Standard library only, so that the
data can be made before anything is installed.
"""

import argparse
import csv
import io
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
SEED = 1851
STORIES, STORY_WORDS = 600, range(60, 151)
MESSAGES = 1200
REFERENCE = re.compile(r"\{(an? |An? |on |On )?(\w+)\}")
NUMBERS = "no one two three four five six seven eight nine ten".split()

Words = dict[str, Any]  # a name -> the list it is drawn from
Grammar = dict[str, Any]


def pick(rng: Random, options: list[str]) -> str:
    """Choose evenly. Only `random()` is promised to be the same in every Python, so nothing else is used."""
    return options[int(rng.random() * len(options))]


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(text: str) -> str:
    return ("an " if text[0].lower() in "aeiou" else "a ") + text


def with_on(day: str) -> str:
    """Say "on Friday", but "tomorrow"."""
    return f"on {day}" if day.endswith("day") else day


class Teller:
    """Fill templates; a name is drawn once and then stays the same, so one Teller tells one text."""

    def __init__(self, rng: Random, words: Words, **known: str) -> None:
        self.rng, self.words, self.known = rng, words, known

    def word(self, name: str) -> str:
        if name not in self.known:
            self.known[name] = self.fill(pick(self.rng, self.words[name]))
        return self.known[name]

    def fill(self, template: str) -> str:
        return REFERENCE.sub(self._replace, template)

    def _replace(self, match: re.Match[str]) -> str:
        before, name = match[1] or "", match[2]
        text = self.word(name.lower())
        if before:
            text = with_on(text) if before.lower() == "on " else with_article(text)
        return upper_first(text) if (before or name)[0].isupper() else text


def hero(rng: Random, grammar: Grammar) -> dict[str, str]:
    """Choose who the story is about, with the pronouns that go with it."""
    heroes, home = grammar["heroes"], grammar["home"]
    she = rng.random() < 0.5
    pronouns = ("she", "her", "her", "herself") if she else ("he", "him", "his", "himself")
    who = dict(zip(("he", "him", "his", "himself"), pronouns, strict=True))
    if rng.random() < 0.4:
        names, kind, homes = heroes["nicknames"], pick(rng, heroes["animals"]), home["animal"]
    else:
        kind, homes = "girl" if she else "boy", home["child"]
        names = heroes[f"{kind}s"]
    return who | {"hero": pick(rng, names), "kind": kind, "home": pick(rng, homes)}


def story(rng: Random, grammar: Grammar) -> str:
    """Tell one story: a character, a wish, an obstacle, a helper, an ending."""
    plot = grammar["plot"][int(rng.random() * len(grammar["plot"]))]
    teller = Teller(rng, grammar["story"] | plot, **hero(rng, grammar))
    if "mixed" in plot:
        teller.known["recipe"] = teller.fill(grammar["mix"][teller.word("mixed")][0])
    if "many" in plot:
        teller.known["counted"] = teller.fill(grammar["sums"][teller.word("many")][0])
    return teller.word("shape")


def unique(make: Callable[[], str], count: int) -> Iterator[str]:
    """Call `make` until it has given `count` different texts."""
    seen: set[str] = set()
    while len(seen) < count:
        text = make()
        if text not in seen:
            seen.add(text)
            yield text


def make_stories(grammar: Grammar) -> str:
    rng = Random(SEED)

    def one() -> str:
        while len((text := story(rng, grammar)).split()) not in STORY_WORDS:
            pass
        return text

    return "\n***\n".join(unique(one, STORIES)) + "\n"


def message(rng: Random, words: Words, label: str) -> str:
    """Write one message. Most sentences could stand in either kind; some messages have no others."""
    first = int(rng.random() * (len(words["name"]) - 2))
    names = words["name"][first : first + 3]
    teller = Teller(rng, words, **dict(zip(("name", "name2", "name3"), names, strict=True)))

    def sentence(part: str, own: float) -> str:
        return teller.fill(pick(rng, words[f"{label if rng.random() < own else 'both'}_{part}"]))

    parts = [sentence("open", 0.15), sentence("fact", 0.0), sentence("close", 0.15)]
    if rng.random() < 0.85:
        parts.insert(1 + int(rng.random() * 2), sentence("hint", 1.0))
    return " ".join(parts)


def make_messages(grammar: Grammar) -> str:
    rng, out = Random(SEED + 1), io.StringIO()
    labels: dict[str, str] = {}
    while len(labels) < MESSAGES:
        label = pick(rng, ["invitation", "advert"])
        labels.setdefault(message(rng, grammar["message"], label), label)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([("label", "text"), *((label, text) for text, label in labels.items())])
    return out.getvalue()


Pairs = Iterator[tuple[str, str]]


def fixed_pairs(grammar: Grammar) -> Pairs:
    """Give the pairs that are listed rather than drawn."""
    words = grammar["dialogue"]
    yield from grammar["talk"].items()
    for one, other in words["opposites"]:
        yield f"What is the opposite of {one}?", f"The opposite of {one} is {other}."
        yield f"What is the opposite of {other}?", f"The opposite of {other} is {one}."
    for one, many in words["plurals"]:
        yield f"What is the plural of {one}?", f"The plural of {one} is {many}."
    for animal, sound in words["sounds"]:
        yield f"What does {with_article(animal)} say?", f"{sound}!"
    for thing, colour in words["colours"]:
        yield f"What colour is {thing}?", f"{upper_first(thing)} is {colour}."
    for one, other, both in words["mixed"]:
        yield f"What do you get when you mix {one} and {other}?", f"You get {both}."


def lists(grammar: Grammar) -> Pairs:
    for things, examples in grammar["dialogue"]["lists"].items():
        for count in (2, 3, 4):
            rows = "\n".join(f"{i}. {upper_first(x)}" for i, x in enumerate(examples[:count], start=1))
            yield f"Name {NUMBERS[count]} {things}.", rows


def counting(teller: Teller) -> tuple[str, str]:
    have, more = 2 + int(teller.rng.random() * 5), 1 + int(teller.rng.random() * 4)
    teller.known |= {"have": NUMBERS[have], "more": NUMBERS[more], "less": NUMBERS[min(more, have)]}
    if teller.rng.random() < 0.5:
        result = have + more
        ask = "{Name} has {have} {fruit} and gets {more} more. How many {fruit} does {name} have?"
    else:
        result = have - min(more, have)
        ask = "{Name} has {have} {fruit} and gives {less} away. How many are left?"
    fruit = teller.word("fruit")
    return teller.fill(ask), f"{upper_first(NUMBERS[result])} {fruit[:-1] if result == 1 else fruit}."


def giving(teller: Teller) -> tuple[str, str]:
    told = teller.word("gave")
    question, answer = [
        ("Who gave the {thing}?", "{Name} gave the {thing}."),
        ("Who has the {thing} now?", "The {animal} has the {thing} now."),
        ("What did the {animal} get?", "The {animal} got the {thing}."),
    ][int(teller.rng.random() * 3)]
    return f"{told} {teller.fill(question)}", teller.fill(answer)


def staying(teller: Teller) -> tuple[str, str]:
    told = teller.word("where")
    question, answer = [
        ("Where was the {animal}?", "The {animal} was {spot}."),
        ("Why was the {animal} there?", "Because {reason}."),
        ("Who was {spot}?", "The {animal} was {spot}."),
    ][int(teller.rng.random() * 3)]
    return f"{told} {teller.fill(question)}", teller.fill(answer)


def past(teller: Teller) -> tuple[str, str]:
    verbs = teller.words["past"]
    now, then = verbs[int(teller.rng.random() * len(verbs))]
    who = pick(teller.rng, ["{Name}", "The {animal}"])
    ask, answer = f"Put this into the past: {who} {now} the {{thing}}.", f"{who} {then} the {{thing}}."
    return teller.fill(ask), teller.fill(answer)


def tale(teller: Teller) -> tuple[str, str]:
    told = teller.word("tale")
    asks = ["Tell me a story about {a animal}.", "Tell me about {name} and the {animal}."]
    return teller.fill(pick(teller.rng, asks)), told


DRAWN = {counting: 130, giving: 150, staying: 130, past: 110, tale: 90}


def make_dialogues(grammar: Grammar) -> str:
    rng, words = Random(SEED + 2), grammar["dialogue"]
    replies = dict([*fixed_pairs(grammar), *lists(grammar)])
    for kind, count in DRAWN.items():
        goal = len(replies) + count
        while len(replies) < goal:
            prompt, reply = kind(Teller(rng, words))
            replies.setdefault(prompt, reply)
    rows = [{"prompt": prompt, "reply": reply} for prompt, reply in replies.items()]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


MAKERS: dict[str, Callable[[Grammar], str]] = {
    "stories.txt": make_stories,
    "messages.csv": make_messages,
    "dialogues.jsonl": make_dialogues,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the tiny data from grammar.toml, or check it.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a file differs")
    check = parser.parse_args(argv).check
    grammar = tomllib.loads((HERE / "grammar.toml").read_text(encoding="utf-8"))
    stale = 0
    for name, make in MAKERS.items():
        made, path = make(grammar).encode(), HERE / name
        same = path.is_file() and path.read_bytes() == made
        if not check and not same:
            path.write_bytes(made)
        stale += check and not same
        print(f"{name}: {len(made):,} bytes, {'as made' if same else 'DIFFERS' if check else 'written'}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
