"""The sticker world: pictures whose every fact is known."""

from course.world.captions import caption
from course.world.render import boxes, depth, edges, masks, render, silhouette
from course.world.scene import Dice, Scene, Sticker, is_held_out, sample_scene, scenes
from course.world.tasks import EDITS, EditTask, edit_tasks
from course.world.vocabulary import BACKGROUNDS, COLOURS, KINDS, NEW_SUBJECTS, STYLES

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "EDITS",
    "KINDS",
    "NEW_SUBJECTS",
    "STYLES",
    "Dice",
    "EditTask",
    "Scene",
    "Sticker",
    "boxes",
    "caption",
    "depth",
    "edges",
    "edit_tasks",
    "is_held_out",
    "masks",
    "render",
    "sample_scene",
    "scenes",
    "silhouette",
]
