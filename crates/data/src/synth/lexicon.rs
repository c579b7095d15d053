//! The words that stories draw from: who, where, when and what.

pub(super) const GIRLS: &[&str] = &[
    "Lily", "Mia", "Anna", "Lucy", "Emma", "Zoe", "Ella", "Rose", "Nora", "Ruby", "Ivy", "Clara",
    "Maya", "Sara", "Amy", "Kate", "Jane", "June", "Molly", "Daisy",
];
pub(super) const BOYS: &[&str] = &[
    "Tom", "Ben", "Max", "Sam", "Leo", "Jack", "Tim", "Finn", "Noah", "Oscar", "Theo", "Ned",
    "Dan", "Henry", "Luke", "Eli", "Owen", "Adam", "Hugo", "Milo",
];
pub(super) const SHE_ANIMALS: &[&str] =
    &["Hazel", "Poppy", "Dot", "Willow", "Bella", "Penny", "Honey", "Tilly"];
pub(super) const HE_ANIMALS: &[&str] =
    &["Pip", "Bruno", "Rusty", "Toby", "Chip", "Oliver", "Sunny", "Bob"];

pub(super) const ANIMALS: &[&str] =
    &["rabbit", "fox", "bear", "mouse", "duck", "squirrel", "hedgehog", "frog", "otter", "owl"];
pub(super) const ANIMAL_LOOKS: &[&str] = &["little", "small", "gray", "brown", "young", "tiny"];

/// Where somebody lives, and the places that are close enough to walk to: phrase with its
/// preposition, then the bare place.
pub(super) struct Home {
    pub(super) phrase: &'static str,
    pub(super) places: &'static [(&'static str, &'static str)],
}

pub(super) const CHILD_HOMES: &[Home] = &[
    Home {
        phrase: "by the sea",
        places: &[("at the beach", "the beach"), ("in the garden", "the garden")],
    },
    Home {
        phrase: "in a small village",
        places: &[("in the meadow", "the meadow"), ("on the green hill", "the green hill")],
    },
    Home {
        phrase: "in a busy town",
        places: &[("in the park", "the park"), ("in the school yard", "the school yard")],
    },
    Home {
        phrase: "on a quiet farm",
        places: &[("in the orchard", "the orchard"), ("in the field", "the field")],
    },
    Home {
        phrase: "near a big forest",
        places: &[("in the forest", "the forest"), ("by the stream", "the stream")],
    },
];
pub(super) const ANIMAL_HOMES: &[Home] = &[
    Home {
        phrase: "under an old oak tree",
        places: &[("in the forest", "the forest"), ("in the meadow", "the meadow")],
    },
    Home {
        phrase: "beside a little river",
        places: &[("by the river", "the river"), ("in the meadow", "the meadow")],
    },
    Home {
        phrase: "at the edge of the woods",
        places: &[("in the woods", "the woods"), ("on the green hill", "the green hill")],
    },
];

pub(super) const PASTIMES: &[&str] = &[
    "sing funny songs",
    "paint bright pictures",
    "play outside all day",
    "listen to stories",
    "dance in the kitchen",
    "collect smooth stones",
    "look at the stars",
    "count the clouds",
    "pick flowers",
    "make up new games",
];

pub(super) const COLORS: &[&str] =
    &["red", "blue", "green", "yellow", "orange", "purple", "white", "golden", "pink", "silver"];

/// Things that a child can carry and would miss.
pub(super) const TOYS: &[&str] = &[
    "ball",
    "doll",
    "drum",
    "toy boat",
    "toy train",
    "teddy bear",
    "book",
    "kite",
    "puzzle",
    "toy car",
];

/// One food, several of it, and what somebody who eats it might say of it.
pub(super) const FOODS: &[(&str, &str, &str)] = &[
    ("apple", "apples", "crisp and sweet"),
    ("cookie", "cookies", "warm and soft"),
    ("pear", "pears", "ripe and juicy"),
    ("plum", "plums", "dark and sweet"),
    ("muffin", "muffins", "fresh and warm"),
    ("orange", "oranges", "round and juicy"),
    ("sandwich", "sandwiches", "big and tasty"),
    ("honey cake", "honey cakes", "sweet and sticky"),
];

/// Grown-ups, used as names.
pub(super) const GROWN_UPS: &[(&str, bool)] =
    &[("Mom", true), ("Dad", false), ("Grandma", true), ("Grandpa", false)];

/// Weather: the adjective of the day and what could be seen of it.
pub(super) const WEATHER: &[(&str, &[&str])] = &[
    (
        "sunny",
        &[
            "The sun was shining and the birds were singing.",
            "The sky was blue and the air was warm.",
            "There was not one cloud in the sky.",
        ],
    ),
    (
        "windy",
        &[
            "The wind was strong and the leaves were dancing.",
            "The trees were bending in the wind.",
            "The wind whistled around the corners.",
        ],
    ),
    (
        "rainy",
        &[
            "The rain was tapping on the roofs.",
            "There were puddles everywhere.",
            "Big drops of rain were falling.",
        ],
    ),
    ("cloudy", &["Gray clouds were hiding the sun.", "The sky was gray and the air was still."]),
    (
        "snowy",
        &[
            "The ground was white and the air was cold.",
            "Soft snow was falling on the roofs.",
            "The snow was deep and clean.",
        ],
    ),
    (
        "foggy",
        &["The fog was thick and the trees looked like giants.", "A gray fog lay on the ground."],
    ),
];
