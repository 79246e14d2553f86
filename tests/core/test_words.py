"""Words to tokens, and the alignments of Prompt-to-Prompt, for a word-level and a byte-pair tokenizer."""

from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.testing import assert_close
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from course.core.words import align_prompts, check_prompt, replace_words, token_positions, word_positions

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = [
    "a",
    "red",
    "blue",
    "orange",
    "car",
    "cat",
    "dog",
    "on",
    "grass",
    "before",
    "brick",
    "wall",
    "checkered",
    "and",
    "the",
    "left",
    "of",
    ",",
    "'",
    "s",
]


def word_level(unknown: str | None = "<unk>") -> PreTrainedTokenizerFast:
    """The layout of the sticker model's tokenizer: words, 24 positions, spare words <new1> to <new16>."""
    spare = [f"<new{i}>" for i in range(1, 17)]
    specials = list(dict.fromkeys([START, END, *([unknown] if unknown else [])]))
    vocabulary = {word: i for i, word in enumerate([*specials, *WORDS, *spare])}
    inner = Tokenizer(models.WordLevel(vocabulary, **({"unk_token": unknown} if unknown else {})))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(s, vocabulary[s]) for s in (START, END)]
    )
    inner.add_tokens([AddedToken(word) for word in spare])
    more = {"unk_token": unknown} if unknown else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=START, eos_token=END, pad_token=END, model_max_length=24, **more
    )


def byte_pair() -> CLIPTokenizer:
    """CLIP's tokenizer with 256 bytes, 256 that end a word, two specials, a few merges, and 77 positions."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    units = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("r", "e"), ("re", "d</w>")]
    vocabulary = [*units, *(u + "</w>" for u in units), *map("".join, merges), START, END]
    return CLIPTokenizer(
        vocab={unit: i for i, unit in enumerate(vocabulary)}, merges=merges, model_max_length=77
    )


TOKENIZERS = {"words": word_level(), "bytes": byte_pair()}
both = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
prompts = st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=8).map(" ".join)


def decoded(tokenizer: Any, prompt: str, positions: list[int]) -> str:
    ids = tokenizer(prompt, padding="max_length")["input_ids"]
    return tokenizer.decode([ids[p] for p in positions]).replace(" ", "")


@both
@settings(max_examples=25, deadline=None)
@given(prompt=prompts, data=st.data())
def test_the_tokens_of_a_word_spell_every_occurrence_of_it(
    tokenizer: Any, prompt: str, data: st.DataObject
) -> None:
    words = prompt.split()
    start = data.draw(st.integers(0, len(words) - 1))
    phrase = words[start : start + data.draw(st.integers(1, 2))]
    positions = token_positions(tokenizer, prompt.title(), " ".join(phrase).upper())
    starts = [i for i in range(len(words)) if words[i : i + len(phrase)] == phrase]
    starts = [s for k, s in enumerate(starts) if not k or s >= starts[k - 1] + len(phrase)]
    if len(phrase) == 1:  # of "a a a", two-word phrases are found from the left, without overlap
        assert decoded(tokenizer, prompt.title(), positions) == "".join(phrase) * len(starts)
    assert positions == sorted(set(positions)) and 0 not in positions


@both
@settings(max_examples=25, deadline=None)
@given(prompt=prompts)
def test_the_words_positions_cover_the_prompt_in_order(tokenizer: Any, prompt: str) -> None:
    found = word_positions(tokenizer, prompt)
    assert [word for word, _ in found] == prompt.split()
    count = len(tokenizer(prompt)["input_ids"])
    assert [p for _, positions in found for p in positions] == list(range(1, count - 1))
    assert all(decoded(tokenizer, prompt, positions) == word for word, positions in found)


def test_positions_by_hand() -> None:
    words, pairs = word_level(), byte_pair()
    assert token_positions(words, "A red cat before a brick  wall", "Brick wall") == [6, 7]
    assert token_positions(words, "a red cat and a red dog", "red") == [2, 6]
    assert token_positions(words, "a red cat and a red dog", "red dog") == [6, 7]
    assert token_positions(words, "a <new3> cat's car, red", "<new3>") == [2]
    assert token_positions(words, "a <new3> cat's car, red", "cat") == [3]
    assert token_positions(words, "a <new3> cat's car, red", "car") == [6]
    # start a red c-a-r cat: "car" takes two tokens, "ca" and "r</w>"
    assert token_positions(pairs, "a red car cat", "car") == [3, 4]
    assert token_positions(pairs, "a red car cat", "car cat") == [3, 4, 5]
    # each byte of é is a token
    assert token_positions(pairs, "a café cat", "café") == [2, 3, 4, 5]
    assert token_positions(pairs, "a café cat", "cat") == [6]


@both
@pytest.mark.parametrize("word", ["ca", "wall", "", " ", "cat a", "cat red"])
def test_a_word_that_is_not_there_is_refused_with_those_that_are(tokenizer: Any, word: str) -> None:
    with pytest.raises(ValueError, match="is not in the prompt, whose words are: a, red, cat"):
        token_positions(tokenizer, "a red cat", word)


def test_an_unknown_word_is_named_with_close_ones() -> None:
    with pytest.raises(ValueError, match=r"'carr' \(did you mean car") as caught:
        check_prompt(word_level(), "a carr on grass")
    assert "it knows 36 words, such as" in str(caught.value) and "<" not in str(caught.value)
    with pytest.raises(ValueError, match=r"'ZEBRA', '<new99>' \(did you mean <new"):
        check_prompt(word_level(), "a ZEBRA and <new99>")
    for function in (token_positions, align_prompts, replace_words):
        with pytest.raises(ValueError, match="'zebra'"):
            function(word_level(), "a zebra", "a")


@pytest.mark.parametrize("unknown", ["<unk>", None, END])
def test_whatever_stands_for_unknown_words(unknown: str | None) -> None:
    tokenizer = word_level(unknown)
    with pytest.raises(ValueError, match="does not know 'zebra'"):
        check_prompt(tokenizer, "a red zebra")
    for known in ("", "a red car , on grass", "A RED <new16>"):
        check_prompt(tokenizer, known)


def test_a_clip_tokenizer_whose_vocabulary_was_lost_knows_nothing() -> None:
    # transformers 5 takes no vocab_file here, and every word would silently become the end token
    with pytest.raises(ValueError, match="does not know 'a', 'cat'"):
        check_prompt(CLIPTokenizer(vocab_file="ignored", model_max_length=77), "a cat")


@settings(max_examples=30, deadline=None)
@given(prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_bytes_know_every_word(prompt: str) -> None:
    check_prompt(TOKENIZERS["bytes"], prompt)


@both
def test_too_long_a_prompt_is_refused_with_both_lengths(tokenizer: Any) -> None:
    n = tokenizer.model_max_length
    check_prompt(tokenizer, "a " * (n - 2))
    with pytest.raises(ValueError, match=f"takes {n + 1} tokens, and the model reads {n}"):
        check_prompt(tokenizer, "a " * (n - 1))


def test_what_cannot_be_placed_is_refused() -> None:
    for attribute, value, message in (
        ("padding_side", "left", "padded on the right"),
        ("model_max_length", int(1e30), "model_max_length"),
    ):
        tokenizer = word_level()
        setattr(tokenizer, attribute, value)
        with pytest.raises(ValueError, match=message):
            check_prompt(tokenizer, "a cat")
    with pytest.raises(ValueError, match="a string, not list"):
        check_prompt(word_level(), ["a cat"])  # type: ignore[arg-type]


def test_alignment_by_hand() -> None:
    tokenizer = word_level()
    more = align_prompts(tokenizer, "a cat on grass", "a red cat on blue grass")
    assert more.source_of.tolist() == [0, 1, -1, 2, 3, -1, 4, 5, *range(8, 24)]
    assert more.new == [2, 5]
    assert more.kept.tolist() == [0.0 if i in (2, 5) else 1.0 for i in range(24)]
    fewer = align_prompts(tokenizer, "a red cat on blue grass", "a cat on grass")
    # The padding at 6 and 7 has words of the source in its place: it takes the source's first padding, 8.
    assert fewer.source_of.tolist() == [0, 1, 3, 4, 6, 7, 8, 8, *range(8, 24)]
    swapped = align_prompts(tokenizer, "a red cat", "a blue cat")
    assert swapped.new == [2]


def longest_common(a: list[int], b: list[int]) -> int:
    """By trying all subsequences of `a`, longest first."""

    def is_within(part: tuple[int, ...]) -> bool:
        rest = iter(b)
        return all(token in rest for token in part)

    return next(k for k in range(len(a), -1, -1) if any(map(is_within, combinations(a, k))))


@both
@settings(max_examples=25, deadline=None)
@given(
    source=st.lists(st.sampled_from(["a", "s", "red", "cat"]), max_size=5).map(" ".join),
    target=st.lists(st.sampled_from(["a", "s", "red", "cat"]), max_size=5).map(" ".join),
)
def test_alignment_pairs_as_many_tokens_as_there_are_in_common(
    tokenizer: Any, source: str, target: str
) -> None:
    a, b = (tokenizer(prompt)["input_ids"] for prompt in (source, target))
    padded_a, padded_b = (tokenizer(prompt, padding="max_length")["input_ids"] for prompt in (source, target))
    alignment = align_prompts(tokenizer, source, target)
    n = tokenizer.model_max_length
    assert alignment.source_of.shape == alignment.kept.shape == (n,)
    partners = alignment.source_of.tolist()
    assert all(padded_a[i] == padded_b[j] for j, i in enumerate(partners) if i >= 0)
    found = [i for i in partners[: len(b)] if i >= 0]
    assert found == sorted(set(found)) and len(found) == longest_common(a, b)
    assert found[0] == 0 and found[-1] == len(a) - 1
    if source == target:
        assert partners == list(range(n))


def official_replacement(source: list[list[int]], target: list[list[int]], n: int, quirk: bool) -> Tensor:
    """What the official code computes, with its quirk or without, from the tokens of each replaced word."""
    mapper, i, j, k = torch.zeros(n, n), 0, 0, 0
    while i < n and j < n:
        if k < len(source) and source[k][0] == i:
            for row in source[k]:
                for at, column in enumerate(target[k]):
                    same = len(source[k]) == len(target[k])
                    mapper[row, column] = float(source[k].index(row) == at) if same else 1 / len(target[k])
            i, j, k = i + len(source[k]), j + len(target[k]), k + 1
        else:
            mapper[(j, j) if k == len(source) and quirk else (i, j)] = 1
            i, j = i + 1, j + 1
    return mapper


def test_replacement_by_hand() -> None:
    tokenizer = byte_pair()
    # start, a, cat, o, n, end  ->  start, a, do, g, o, n, end
    longer = replace_words(tokenizer, "a cat on", "a dog on")
    assert longer.words == (("cat", "dog"),)
    expected = torch.zeros(77, 77)
    for i, j, share in ((0, 0, 1), (1, 1, 1), (2, 2, 0.5), (2, 3, 0.5), (3, 4, 1), (4, 5, 1), (5, 6, 1)):
        expected[i, j] = share
    for i in range(6, 77):
        expected[i, min(i + 1, 76)] = 1
    assert_close(longer.mapper, expected)
    shorter = replace_words(tokenizer, "a dog on", "a cat on").mapper
    assert shorter[[2, 3], 2].tolist() == [1, 1] and shorter[4, 3] == shorter[5, 4] == 1


@settings(max_examples=30, deadline=None)
@given(
    pairs=st.lists(st.tuples(*[st.sampled_from(["a", "red", "car", "cat", "dog", "wall"])] * 2), max_size=8)
)
@both
def test_replacement_keeps_all_attention_and_every_kept_word(
    tokenizer: Any, pairs: list[tuple[str, str]]
) -> None:
    source, target = (" ".join(words) for words in zip(*pairs, strict=True)) if pairs else ("", "")
    replacement = replace_words(tokenizer, source, target)
    mapper = replacement.mapper
    assert_close(mapper.sum(1), torch.ones(tokenizer.model_max_length))
    probs = torch.rand(2, 5, tokenizer.model_max_length, generator=torch.Generator().manual_seed(0))
    handed = probs @ mapper
    a, b = word_positions(tokenizer, source), word_positions(tokenizer, target)
    for (word, rows), (other, columns) in zip(a, b, strict=True):
        assert_close(handed[..., columns].sum(-1), probs[..., rows].sum(-1))
        if word == other:
            assert_close(handed[..., columns], probs[..., rows])
    assert replacement.words == tuple(pair for pair in pairs if pair[0] != pair[1])
    if source == target:
        assert torch.equal(mapper, torch.eye(tokenizer.model_max_length))
    changed = [(x, y) for (word, x), (other, y) in zip(a, b, strict=True) if word != other]
    spans, n = ([x for x, _ in changed], [y for _, y in changed]), tokenizer.model_max_length
    official = official_replacement(*spans, n, quirk=False)
    off_the_end = official.sum(1) == 0
    assert torch.equal(mapper[~off_the_end], official[~off_the_end])
    assert (mapper[off_the_end, -1] == 1).all()
    if all(len(x) == len(y) for x, y in changed):
        assert torch.equal(mapper, official_replacement(*spans, n, quirk=True))


def test_the_official_mapper_is_wrong_after_a_word_of_other_length() -> None:
    ours = replace_words(byte_pair(), "a cat on", "a dog on").mapper
    official = official_replacement([[2]], [[2, 3]], 77, quirk=True)
    assert (
        ours[3, 4] == 1 and official[3, 4] == 0 and official[4, 4] == 1
    )  # "o" is handed the attention of "n"
    assert official.sum(1).min() == 0


@both
def test_prompts_of_other_word_counts_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="'a cat' has 2 words and 'a red cat' 3; for added words"):
        replace_words(tokenizer, "a cat", "a red cat")
