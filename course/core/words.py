"""Which tokens a prompt's words become, and which tokens of two prompts belong together.

Positions count in the sequence the text encoder sees: start token, words, end token, padding, n =
`tokenizer.model_max_length` in all. Every function takes a fast tokenizer (all of transformers 5 are),
word-level or byte-pair, and raises ValueError for a prompt that has an unknown word or does not fit into n
tokens.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

_PIECE = re.compile(r"<[^<>\s]+>|\w+|[^\w\s]")  # words and marks, as they are named in messages


def check_prompt(tokenizer: Any, prompt: str) -> None:
    """Raises ValueError for a word the tokenizer does not know, naming close ones, and for too long a prompt.

    A byte-level tokenizer, such as CLIP's, knows every word.
    """
    _tokens(tokenizer, prompt)


def word_positions(tokenizer: Any, prompt: str) -> list[tuple[str, list[int]]]:
    """Each word of the prompt, as separated by white space, with the positions of its tokens, in order."""
    tokens = _tokens(tokenizer, prompt)
    return [(found.group(), tokens.within(*found.span())) for found in re.finditer(r"\S+", prompt)]


def token_positions(tokenizer: Any, prompt: str, word: str) -> list[int]:
    """Positions of the tokens of `word`, ascending; of all its occurrences where the prompt repeats it.

    word: one word or several in a row ("brick wall"), in any case. Only whole words are found: "car" is not
    in "carpet", but is in "car's" and "car,". Raises ValueError when the prompt does not have it.
    """
    tokens = _tokens(tokenizer, prompt)
    phrase = r"\s+".join(map(re.escape, word.split()))
    spans = [found.span() for found in re.finditer(rf"(?<!\w){phrase}(?!\w)", prompt, re.IGNORECASE)]
    if not phrase or not spans:
        raise ValueError(
            f"{word!r} is not in the prompt, whose words are: {', '.join(_PIECE.findall(prompt))}"
        )
    return sorted({position for span in spans for position in tokens.within(*span)})


@dataclass(frozen=True, eq=False)
class Alignment:
    """For each position of the target prompt, its partner in the source prompt.

    source_of: int64 [n], the partner's position, -1 where there is none (a new token).
    kept: float32 [n], 1 where there is a partner, 0 where there is none.
    """

    source_of: Tensor
    kept: Tensor

    @property
    def new(self) -> list[int]:
        """Positions of the target's tokens that have no partner."""
        return (self.source_of < 0).nonzero().flatten().tolist()


def align_prompts(tokenizer: Any, source: str, target: str) -> Alignment:
    """Pairs equal tokens in order, as many as can be. Prompt-to-Prompt's refinement, Hertz et al. 2022.

    Needleman-Wunsch with gap 0, match 1, mismatch -1, where the official code takes a new target token before
    a dropped source token before a match. Its padding takes the source's at the same position; here, where
    that is a word because the source prompt is longer, the source's first padding instead.
    """
    a, b = _tokens(tokenizer, source), _tokens(tokenizer, target)
    source_of = torch.arange(a.n).clamp(min=min(len(a.ids), a.n - 1))
    source_of[: len(b.ids)] = torch.tensor(_align(a.ids, b.ids))
    return Alignment(source_of, (source_of >= 0).float())


@dataclass(frozen=True, eq=False)
class Replacement:
    """How attention to the source's tokens is handed to the target's: probs [... n] @ mapper -> [... n].

    mapper: float32 [n source, n target]; each row sums to 1, so no attention is made or lost.
    words: the pairs (source word, target word) that differ.
    """

    mapper: Tensor
    words: tuple[tuple[str, str], ...]


def replace_words(tokenizer: Any, source: str, target: str) -> Replacement:
    """Prompt-to-Prompt's word swap between prompts of as many words, Hertz et al. 2022.

    A replaced word's attention is shared equally among the tokens of the word in its place; all other tokens
    keep theirs, wherever they have moved to. (The official mapper keeps, after the last replaced word, the
    target's position in place of the source's: wrong as soon as the two words differ in tokens, and attention
    is lost at the end of the sequence. Here what falls off the end goes to the last position.)
    Raises ValueError when the prompts differ in their number of words.
    """
    a, b = _tokens(tokenizer, source), _tokens(tokenizer, target)
    from_words, to_words = word_positions(tokenizer, source), word_positions(tokenizer, target)
    if len(from_words) != len(to_words):
        counts = f"{source!r} has {len(from_words)} words and {target!r} {len(to_words)}"
        raise ValueError(f"a word swap needs as many words: {counts}; for added words there is align_prompts")
    mapper = torch.zeros(a.n, b.n)
    changed = []
    for (word, rows), (other, columns) in zip(from_words, to_words, strict=True):
        one_to_one = len(rows) == len(columns)
        shares = torch.eye(len(rows)) if one_to_one else torch.tensor(1 / len(columns))
        mapper[torch.tensor(rows)[:, None], torch.tensor(columns)] = shares
        if [a.ids[i] for i in rows] != [b.ids[j] for j in columns]:
            changed.append((word, other))
    shift = len(b.ids) - len(a.ids)  # of the end token and the padding
    mapper[0, 0] = 1.0
    for i in range(len(a.ids) - 1, a.n):
        mapper[i, min(i + shift, b.n - 1)] = 1.0
    return Replacement(mapper, tuple(changed))


@dataclass(frozen=True)
class _Tokens:
    """A prompt's token ids, start and end token included, with the characters each covers, and n."""

    ids: list[int]
    spans: list[tuple[int, int]]
    n: int

    def within(self, start: int, end: int) -> list[int]:
        """Positions of the tokens that cover any of these characters."""
        return [i for i, (a, b) in enumerate(self.spans) if a < b and a < end and b > start]


def _tokens(tokenizer: Any, prompt: str) -> _Tokens:
    if not isinstance(prompt, str):
        raise ValueError(f"a prompt is a string, not {type(prompt).__name__}")
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} does not say what a token covers: use a fast tokenizer")
    if tokenizer.padding_side != "right":
        raise ValueError("positions are those of a prompt padded on the right: set tokenizer.padding_side")
    try:
        encoded = tokenizer(prompt, return_offsets_mapping=True, verbose=False)
    except Exception as error:  # tokenizers raises nothing narrower
        if "[UNK]" not in str(error):
            raise
        known = tokenizer.get_vocab()
        raise _unknown(tokenizer, [w for w in _PIECE.findall(prompt) if w.lower() not in known]) from None
    ids, spans, n = encoded["input_ids"], encoded["offset_mapping"], tokenizer.model_max_length
    # CLIP's unknown token is its end token, which covers no character unless it was typed.
    lost = [(a, b) for i, (a, b) in zip(ids, spans, strict=True) if i == tokenizer.unk_token_id and a < b]
    if lost := [(a, b) for a, b in lost if prompt[a:b] != tokenizer.unk_token]:
        pieces = [w for w in _PIECE.finditer(prompt) if any(a < w.end() and b > w.start() for a, b in lost)]
        raise _unknown(tokenizer, [w.group() for w in pieces])
    if n > 10**6:  # transformers' stand-in for "not set"
        raise ValueError("the tokenizer has no length: set tokenizer.model_max_length to the text encoder's")
    if len(ids) > n:
        raise ValueError(f"the prompt takes {len(ids)} tokens, and the model reads {n}: shorten {prompt!r}")
    return _Tokens(ids, spans, n)


def _unknown(tokenizer: Any, words: list[str]) -> ValueError:
    known = sorted(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    hints = []
    for word in dict.fromkeys(words):
        close = get_close_matches(word.lower(), known, n=3)
        hints.append(repr(word) + (f" (did you mean {' or '.join(close)}?)" if close else ""))
    plain = [word for word in known if not word.startswith("<")]
    some = ", ".join(plain[:: max(1, len(plain) // 12)][:12])
    knows = f"it knows {len(known)} words, such as {some}"
    return ValueError(f"the tokenizer does not know {', '.join(hints)}; {knows}")


def _align(source: list[int], target: list[int]) -> list[int]:
    """For each target id its source position or -1, by Needleman-Wunsch: gap 0, match 1, mismatch -1."""
    # best[i][j] is the score of the first i source ids against the first j target ids.
    best = [[0] * (len(target) + 1) for _ in range(len(source) + 1)]

    def diagonal(i: int, j: int) -> int:
        return best[i - 1][j - 1] + (1 if source[i - 1] == target[j - 1] else -1)

    for i in range(1, len(source) + 1):
        for j in range(1, len(target) + 1):
            best[i][j] = max(best[i][j - 1], best[i - 1][j], diagonal(i, j))
    found = [-1] * len(target)
    i, j = len(source), len(target)
    while i > 0 and j > 0:
        if best[i][j] == best[i][j - 1]:
            j -= 1
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found[j] = i
    return found
