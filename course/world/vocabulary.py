"""What the sticker world is made of, and the words for it."""

SIZE = 64  # pixels a side
CELL = 4  # pixels: sampled stickers lie on this grid, which is also the autoencoder's

KINDS = (
    "apple", "car", "cat", "dog", "fish", "butterfly", "tulip", "tree", "house", "umbrella",
    "balloon", "book", "cup", "star", "heart", "mushroom", "penguin", "duck", "frog", "boat",
    "rocket", "guitar", "key", "bell", "gift", "hat", "crown", "airplane", "horse", "rabbit",
)  # fmt: skip
NEW_SUBJECTS = ("robot", "teapot", "octopus", "snail", "cactus", "tractor", "owl", "hammer")
"""Kinds that no training picture shows: the new subjects of the personalisation chapters."""

COLOURS = ("natural", "red", "orange", "yellow", "green", "blue", "purple", "pink")
NATURAL_COLOUR = {
    "apple": "red", "car": "red", "cat": "yellow", "fish": "blue", "butterfly": "orange", "tulip": "pink",
    "tree": "green", "umbrella": "purple", "balloon": "red", "book": "red", "star": "yellow",
    "heart": "red", "frog": "green", "guitar": "red", "key": "yellow", "bell": "yellow", "gift": "red",
    "crown": "yellow", "horse": "orange",
}  # fmt: skip
"""Kinds whose natural look is one of the colours: a natural apple *is* the red apple."""

BACKGROUNDS = (
    "grass", "sand", "snow", "the sea", "a night sky", "a brick wall", "a sunset", "a checkered floor",
)  # fmt: skip
PREPOSITION = {
    "the sea": "in",
    "a night sky": "in",
    "a brick wall": "before",
    "a sunset": "before",
}  # else "on"
STYLES = ("photo", "sketch", "watercolor", "pixel art")

NEW_WORDS = tuple(f"<new{i}>" for i in range(1, 17))
"""Spare words of the tokenizer, without meaning until a personalisation method gives them one."""

_GRAMMAR = "a an the photo sketch watercolor pixel art of on in before and to left right"
_INSTRUCTION = "make turn into change background it add remove move replace with"
WORDS = tuple(
    dict.fromkeys(
        " ".join((_GRAMMAR, *BACKGROUNDS, *COLOURS[1:], *KINDS, *NEW_SUBJECTS, _INSTRUCTION)).split()
    )
)
"""Every word of the captions and instructions, in the order of their token numbers."""


def check(value: str, allowed: tuple[str, ...], what: str) -> None:
    """Raise ValueError unless `value` is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}; got {value!r}")
