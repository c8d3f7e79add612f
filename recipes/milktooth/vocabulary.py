"""The words that make_instructions.py builds its sentences from. All chosen for this recipe."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


def _parts(text: str) -> list[str]:
    return text.split("|")


CATEGORIES: dict[str, list[str]] = {
    "animal": _words("dog cat horse cow goat sheep rabbit fox bear wolf mouse duck hen owl frog snake lion"),
    "fruit": _words("apple pear plum cherry grape lemon orange peach melon banana mango fig"),
    "tool": _words("hammer saw drill spanner chisel ladder rake spade pliers brush"),
    "colour": _words("red blue green yellow black white brown grey purple pink"),
    "drink": _words("tea coffee milk water juice cocoa lemonade cider"),
    "clothing": _words("coat hat scarf shirt sock glove shoe dress jacket belt"),
    "furniture": _words("table chair bed desk shelf sofa bench stool cupboard"),
    "instrument": _words("drum flute violin guitar piano trumpet harp cello"),
    "vehicle": _words("bus train bicycle lorry boat plane tram van sledge"),
    "weather": _words("rain snow wind fog hail thunder sunshine frost"),
    "country": _words("France Kenya Japan Peru Norway Egypt India Chile Canada Greece"),
    "job": _words("baker nurse farmer teacher pilot tailor doctor miner sailor cook"),
}

NAMES = _words("Anna Ben Carla David Ella Finn Grace Hugo Ida Jonas Kate Leo Mina Nora Omar Pia Rosa Sam Uma")
PLACES = _parts(
    "the park|the station|the kitchen|the old mill|the market|the school|the harbour|the garden|"
    "the library|the barn"
)
THINGS = _words("book letter basket kite clock candle box map ball key lamp drum cup stone rope bell bag")
TIMES = _parts(
    "at noon|at six|in the morning|before supper|on Monday|on Friday|after lunch|at midnight|yesterday|"
    "in March"
)
VERBS = _words("found lost bought sold carried painted mended hid borrowed wrapped")
ADJECTIVES = _words("old small heavy broken bright new strange wooden empty round")

OPPOSITES = _parts(
    "hot cold|big small|old young|fast slow|early late|open closed|full empty|wet dry|light dark|happy sad|"
    "loud quiet|rich poor|strong weak|hard soft|near far|high low|clean dirty|right wrong|up down|begin end"
)

# topic -> sentences; {name} is filled in
TOPICS: dict[str, list[str]] = {
    "cooking": [
        "Stir the onions until they turn brown.",
        "The bread needs another ten minutes in the oven.",
        "{name} forgot the salt in the soup again.",
        "how long do you boil an egg",
        "Peel the potatoes and cut them into cubes.",
        "This dough is far too sticky to roll.",
        "grandma's recipe says two spoons of honey",
    ],
    "sport": [
        "{name} scored in the last minute of the match.",
        "Our team lost by three goals.",
        "who won the race on sunday",
        "The goalkeeper hurt her knee during training.",
        "He ran ten miles along the river.",
        "The referee showed a second yellow card.",
        "tickets for the final are sold out",
    ],
    "weather": [
        "It has been raining since Tuesday.",
        "will it snow tonight",
        "A cold wind is blowing from the north.",
        "Thick fog covered the valley this morning.",
        "{name} says the storm will pass by noon.",
        "Tomorrow will be dry with some sunshine.",
        "The roof shook with thunder.",
    ],
    "money": [
        "The rent is due on the first of the month.",
        "{name} owes me twenty crowns.",
        "can i pay by card here",
        "The bank closed my old account.",
        "These shoes cost twice as much last year.",
        "We saved a little every week.",
        "The bill was higher than we thought.",
    ],
    "travel": [
        "The train to the coast leaves at nine.",
        "{name} missed the last bus home.",
        "which gate does our plane leave from",
        "We crossed the border before sunrise.",
        "I booked two beds in a small hotel by the lake.",
        "My suitcase did not come off the belt.",
        "how far is it to the next village",
    ],
    "music": [
        "{name} plays the violin every evening.",
        "turn up that song please",
        "The choir sang without a single mistake.",
        "She wrote the tune in one night.",
        "My guitar has lost two strings.",
        "The drummer was faster than the rest of the band.",
        "what is the name of this waltz",
    ],
    "health": [
        "My throat hurts when I swallow.",
        "{name} has had a fever for two days.",
        "when can i see the doctor",
        "Take one of these pills after each meal.",
        "The cut on his hand is healing well.",
        "She slept badly because of her back.",
        "is it normal to cough this much",
    ],
    "school": [
        "{name} left the homework on the bus.",
        "The exam covers chapters four to six.",
        "when does the lesson start",
        "Our teacher reads to us on Fridays.",
        "He learnt the whole poem by heart.",
        "The pupils in the back row were whispering.",
        "may i borrow your ruler",
    ],
}

# sentiment -> (openings, endings), joined freely
FEELINGS: dict[str, tuple[list[str], list[str]]] = {
    "positive": (
        [
            "What a lovely",
            "I really enjoyed the",
            "Nothing beats this",
            "We were delighted by the",
            "I would gladly pay twice for the",
            "Best thing all year: the",
        ],
        [
            "soup",
            "walk by the sea",
            "little hotel",
            "evening",
            "concert",
            "new bicycle",
            "story",
            "garden tour",
        ],
    ),
    "negative": (
        [
            "I was bored by the",
            "Never again this",
            "What a waste of time, that",
            "I want to complain about the",
            "Nobody should have to put up with such a",
            "Everything went wrong with the",
        ],
        [
            "soup",
            "walk by the sea",
            "little hotel",
            "evening",
            "concert",
            "new bicycle",
            "story",
            "garden tour",
        ],
    ),
}

SMALL_TALK: list[tuple[str, str]] = [
    ("Hello!", "Hello! What can I do for you?"),
    ("Hi there", "Hi! How can I help?"),
    ("Good morning.", "Good morning! How can I help?"),
    ("Who are you?", "I am milktooth, a very small language model."),
    ("What is your name?", "My name is milktooth."),
    ("What are you?", "I am a very small language model, made to be fine-tuned."),
    ("Can you help me?", "I will try. What do you need?"),
    ("Thank you!", "You are welcome."),
    ("thanks a lot", "You are welcome."),
    ("Goodbye.", "Goodbye!"),
    ("See you tomorrow", "See you tomorrow!"),
    ("How are you?", "I am well, thank you. How can I help?"),
    ("Are you a person?", "No, I am a language model."),
    ("What can you do?", "I can do little by myself. Fine-tune me on your examples."),
]
