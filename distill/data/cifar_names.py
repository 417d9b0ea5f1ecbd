"""Words for the classes of CIFAR-100, to make captions from."""

KINDS = {
    "aquatic mammal": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flower": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food container": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit or vegetable": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household electrical device": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insect": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large carnivore": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large man-made outdoor thing": ("bridge", "castle", "house", "road", "skyscraper"),
    "large natural outdoor scene": ("cloud", "forest", "mountain", "plain", "sea"),
    "large omnivore or herbivore": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium-sized mammal": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect invertebrate": ("crab", "lobster", "snail", "spider", "worm"),
    "person": ("baby", "boy", "girl", "man", "woman"),
    "reptile": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small mammal": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "tree": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "road or rail vehicle": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicle": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""The 20 coarse classes in the singular, in the order of the data, with the names of their fine ones."""
COARSE = {fine: coarse for coarse, inner in KINDS.items() for fine in inner}
"""Coarse name by the fine one."""
