"""
Where a caption names a class: class names, synonyms and plurals.

A class is named by its own name and by the words of SYNONYMS, in the singular or the
plural, in any case, as whole words; of names that overlap the longest counts ("hot dog"
is no dog, "teddy bear" no bear, "baseball bat" no bat of another kind). Words that
often mean something else are left out on purpose: "glass" alone (a window's), "orange"
before a noun (a colour), "monitor", "mouse" of an animal.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

__all__ = ["Mention", "Names", "plurals_of", "SYNONYMS"]

# What captions call the classes of COCO, beside their names.
SYNONYMS: Mapping[str, Sequence[str]] = {
    "person": (
        "man woman boy girl child kid baby toddler guy lady gentleman adult player "
        "skier surfer snowboarder skateboarder rider biker cyclist motorcyclist "
        "pedestrian passenger chef cook policeman officer soldier batter catcher "
        "pitcher umpire worker tourist student teenager bride groom".split()
        + [f"{game} player" for game in ("baseball", "tennis", "soccer", "football")]
    ),
    "bicycle": ("bike", "cycle"),
    "car": ("sedan", "suv", "taxi", "cab", "minivan", "automobile"),
    "motorcycle": ("motorbike", "moped", "motor bike", "dirt bike", "motor scooter"),
    "airplane": (
        "plane",
        "passenger plane",
        "jet",
        "passenger jet",
        "aeroplane",
        "aircraft",
        "airliner",
        "jetliner",
    ),
    "bus": ("double decker", "double decker bus", "coach bus", "school bus"),
    "train": ("locomotive", "subway train", "passenger train"),
    "truck": ("pickup", "lorry", "semi", "fire engine", "pick up truck"),
    "boat": ("ship", "sailboat", "canoe", "kayak", "rowboat", "ferry", "yacht"),
    "traffic light": ("stoplight", "stop light", "traffic signal", "street signal"),
    "fire hydrant": ("hydrant", "fireplug"),
    "stop sign": (),
    "parking meter": (),
    "bench": (),
    "bird": (
        "pigeon seagull gull duck goose owl parrot eagle hawk pelican swan sparrow "
        "crow heron flamingo penguin chicken rooster".split()
    ),
    "cat": ("kitten", "kitty", "feline"),
    "dog": ("puppy", "pup", "puppies", "canine", "terrier", "poodle", "labrador"),
    "horse": ("pony", "foal", "colt", "mare", "stallion"),
    "sheep": ("lamb", "ram", "ewe"),
    "cow": ("cattle", "bull", "calf", "ox", "steer", "heifer"),
    "elephant": (),
    "bear": ("polar bear", "grizzly", "cub"),
    "zebra": (),
    "giraffe": (),
    "backpack": ("rucksack", "knapsack", "back pack"),
    "umbrella": ("parasol",),
    "handbag": ("purse", "hand bag"),
    "tie": ("necktie", "bow tie", "bowtie"),
    "suitcase": ("luggage", "suit case"),
    "frisbee": ("flying disc",),
    "skis": ("ski",),
    "snowboard": ("snow board",),
    "sports ball": (
        "baseball",
        "soccer ball",
        "tennis ball",
        "basketball",
        "football",
        "volleyball",
        "ball",
    ),
    "kite": (),
    "baseball bat": ("bat",),
    "baseball glove": ("mitt", "catcher's mitt", "baseball mitt"),
    "skateboard": ("skate board",),
    "surfboard": ("surf board",),
    "tennis racket": ("racket", "racquet", "tennis racquet"),
    "bottle": ("wine bottle", "beer bottle", "water bottle"),
    "wine glass": ("glass of wine", "wineglass"),
    "cup": ("mug", "coffee cup", "teacup"),
    "fork": (),
    "knife": (),
    "spoon": (),
    "bowl": (),
    "banana": (),
    "apple": (),
    "sandwich": ("burger", "hamburger", "cheeseburger", "sub sandwich"),
    "orange": ("oranges",),
    "broccoli": (),
    "carrot": (),
    "hot dog": ("hotdog",),
    "pizza": (),
    "donut": ("doughnut",),
    "cake": ("cupcake", "birthday cake", "wedding cake", "cheesecake"),
    "chair": ("armchair", "stool", "recliner"),
    "couch": ("sofa", "loveseat"),
    "potted plant": ("houseplant", "house plant", "plant"),
    "bed": ("bunk bed",),
    "dining table": ("table", "kitchen table"),
    "toilet": ("urinal", "commode"),
    "tv": ("television", "tv set", "television set", "flat screen"),
    "laptop": ("laptop computer", "notebook computer", "macbook"),
    "mouse": ("computer mouse",),
    "remote": ("remote control", "wii remote", "wiimote", "game controller"),
    "keyboard": ("computer keyboard",),
    "cell phone": ("cellphone", "phone", "smartphone", "mobile phone", "iphone"),
    "microwave": ("microwave oven",),
    "oven": ("stove",),
    "toaster": (),
    "sink": ("basin", "washbasin"),
    "refrigerator": ("fridge", "freezer"),
    "book": ("novel",),
    "clock": ("clock tower", "clock face"),
    "vase": (),
    "scissors": (),
    "teddy bear": ("stuffed bear", "teddy", "teddybear"),
    "hair drier": ("hair dryer", "blow dryer", "hairdryer"),
    "toothbrush": ("tooth brush",),
}
# Names of something else that hold a class's name: found, and no class.
_OTHERS = (
    "hot dog",
    "car seat",
    "train station",
    "train track",
    "train tracks",
    "bus stop",
    "bus station",
    "dog bed",
    "cat bed",
    "bed of",
    "book shelf",
    "book case",
    "table cloth",
    "table tennis",
    "tennis table",
    "cup holder",
    "boat dock",
    "bike rack",
    "bear hug",
    "ski lift",
    "ski slope",
    "ski resort",
    "pizza box",
    "pizza oven",
    "toilet paper",
    "baseball field",
    "baseball game",
    "baseball uniform",
    "baseball diamond",
    "baseball team",
    "football field",
    "football game",
    "tennis ball machine",
    "power plant",
    "phone booth",
    "horse drawn",
    "cow boy",
)
_IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "policeman": "policemen",
    "gentleman": "gentlemen",
    "mouse": "mice",
    "goose": "geese",
    "knife": "knives",
    "calf": "calves",
    "ox": "oxen",
    "sheep": "sheep",
    "cattle": "cattle",
    "aircraft": "aircraft",
    "luggage": "luggage",
    "scissors": "scissors",
    "skis": "skis",
    "broccoli": "broccoli",
    "shelf": "shelves",
    "loaf": "loaves",
}


class Mention(NamedTuple):
    """
    A place where a text names a class.

    Args:
        start, end: half-open character offsets.
        label: the class.
        is_plural: whether it is named in the plural.
    """

    start: int
    end: int
    label: str
    is_plural: bool


def plurals_of(name: str) -> tuple[str, ...]:
    """A name's plural; of what ends in "o" or "f" the two forms in use."""
    head, space, last = name.rpartition(" ")
    if last in _IRREGULAR:
        return (f"{head}{space}{_IRREGULAR[last]}",)
    if re.search(r"[^aeiou]y$", last):
        return (name[:-1] + "ies",)
    if re.search(r"(s|x|z|ch|sh)$", last):
        return (name + "es",)
    if re.search(r"[^aeiou]o$", last):
        return name + "es", name + "s"
    return (name + "s",)


class Names:
    """
    Class names, looked for in texts.

    Args:
        labels: the classes.
        synonyms: by class, what else it is called; those of classes that are not among
            the labels are passed over. Default: SYNONYMS
    """

    def __init__(
        self,
        labels: Iterable[str],
        synonyms: Mapping[str, Sequence[str]] = SYNONYMS,
    ) -> None:
        self.labels = tuple(dict.fromkeys(labels))
        self.synonyms = synonyms

    @cached_property
    def _known(self) -> dict[str, tuple[str, bool]]:
        """By what is written, the class and whether it is a plural; what two classes
        are called ("bow") names neither."""
        known: dict[str, dict[str, bool]] = {}
        for label in self.labels:
            for name in (_plain(label), *self.synonyms.get(label, ())):
                known.setdefault(name, {})[label] = False
                for plural in plurals_of(name):
                    known.setdefault(plural, {}).setdefault(label, plural != name)
        return {
            name: next(iter(of.items())) for name, of in known.items() if len(of) == 1
        }

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = {*self._known, *(o for o in _OTHERS if o not in self._known)}
        longest_first = sorted(names, key=lambda name: (-len(name), name))
        written = "|".join(
            r"[\s-]+".join(map(re.escape, name.split())) for name in longest_first
        )
        return re.compile(rf"(?<![\w'])(?:{written})(?![\w])", re.IGNORECASE)

    def find(self, text: str) -> Iterator[Mention]:
        """Where a text names classes, from its beginning."""
        for match in self._pattern.finditer(text):
            name = " ".join(re.split(r"[\s-]+", match[0].lower()))
            if name in self._known:
                label, is_plural = self._known[name]
                yield Mention(*match.span(), label, is_plural)


def _plain(label: str) -> str:
    """As captions write a class name: LVIS has "bottle_cap" and "bow_(weapon)"."""
    return re.sub(r"\(.*?\)", " ", label.replace("_", " ")).strip().lower() or label
