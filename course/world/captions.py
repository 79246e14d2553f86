"""What to call a scene: a small grammar, in which a caption says all that a picture shows."""

from course.world.scene import Dice, Scene, Sticker
from course.world.vocabulary import COLOURS, PREPOSITION


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def name(sticker: Sticker, plain: bool = False) -> str:
    """ "a red car"; `plain` leaves out a colour that is the kind's own: "a car"."""
    silent = sticker.colour == COLOURS[0] or (plain and sticker.look == "natural")
    return article(sticker.kind if silent else f"{sticker.colour} {sticker.kind}")


def caption(scene: Scene) -> str:
    """The scene's usual caption, such as "a sketch of a blue cat to the left of a red gift on snow"."""
    return _phrase(scene, [name(s) for s in scene.stickers], " to the left of ", named=scene.style != "photo")


def any_caption(scene: Scene, dice: Dice) -> str:
    """One of the captions that are true of the scene, for training."""
    names = [name(s, plain=dice.chance(30)) for s in scene.stickers]
    link = " to the left of " if dice.chance(50) else " and "
    return _phrase(scene, names, link, named=scene.style != "photo" or dice.chance(30))


def _phrase(scene: Scene, names: list[str], link: str, named: bool) -> str:
    where = scene.background
    if names:
        where = f"{PREPOSITION.get(scene.background, 'on')} {scene.background}"
    words = " ".join([link.join(names), where]).strip()
    return f"{article(scene.style)} of {words}" if named else words
