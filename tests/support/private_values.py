"""Made-up personal data and secrets of eight kinds, and things that only look like them."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable

NAMES = "ann bob chidi dora émile farid grace hugo ines jamal kira luis mona".split()  # noqa: SIM905
HOSTS = ["mailbox.org", "work-mail.co.uk", "uni.edu", "post.de", "sub.firm.io"]
PHONES = [
    *(
        "+49 {3} {7}",
        "+1-{3}-{3}-{4}",
        "+44 20 {4} {4}",
        "+33 6 {2} {2} {2} {2}",
        "+91{10}",
        "+1 (6{2}) {3}-{4}",
    ),
    *("(3{2}) {3}-{4}", "4{2}-{3}-{4}", "5{2}.{3}.{4}", "1-800-{3}-{4}"),
    *("07{3} {6}", "020 {4} {4}", "0171/{7}", "06 {2} {2} {2} {2}", "07{9}", "0049 30 {7}", "(030) {7}"),
]
AROUND = [
    "Please write down {} before you leave.",
    "Hello, {} is what I have for the customer.",
    "{}",
    "The record says: {}. Nothing else.",
    "It was given as ({}), as far as I know;\nplease confirm",
    'He said "{}" twice, and 3 people heard it in 2021.',
]


def digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices(string.digits, k=count))


def grouped(value: str, sizes: list[int], by: str) -> str:
    parts = []
    for size in sizes:
        parts.append(value[:size])
        value = value[size:]
    return by.join([*parts, value] if value else parts)


def email(draw: random.Random) -> str:
    local = draw.choice(["{a}.{b}", "{a}_{b}{n}", "{a}", "{a}+shop", "{a}{n}"])
    name = local.format(a=draw.choice(NAMES[:4]), b=draw.choice(NAMES[5:]), n=draw.randint(1, 99))
    return f"{name}@{draw.choice(HOSTS)}"


def phone(draw: random.Random) -> str:
    form = draw.choice(PHONES)
    for count in (2, 3, 4, 6, 7, 9, 10):
        while f"{{{count}}}" in form:
            form = form.replace(f"{{{count}}}", str(draw.randint(2, 9)) + digits(draw, count - 1), 1)
    return form


def iban(draw: random.Random) -> str:
    country, length = draw.choice(
        [("DE", 22), ("GB", 22), ("FR", 27), ("NL", 18), ("ES", 24), ("NO", 15), ("MT", 31)]
    )
    account = digits(draw, length - 4)
    if country in ("GB", "NL"):
        account = "".join(draw.choices(string.ascii_uppercase, k=4)) + account[4:]
    number = int("".join(str(int(char, 36)) for char in f"{account}{country}00"))
    value = f"{country}{98 - number % 97:02d}{account}"
    return draw.choice([value, grouped(value, [4] * (length // 4), " ")])


def card(draw: random.Random) -> str:
    start, length = draw.choice([("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("36", 14)])
    body = start + digits(draw, length - len(start) - 1)
    doubled = [int(char) * 2 - 9 * (int(char) > 4) for char in body[::-2]]
    value = body + str(-(sum(doubled) + sum(map(int, body[-2::-2]))) % 10)
    sizes = {16: [4, 4, 4, 4], 15: [4, 6, 5], 14: [4, 6, 4]}[length]
    return draw.choice([value, grouped(value, sizes, " "), grouped(value, sizes, "-")])


def address(draw: random.Random) -> str:
    if draw.random() < 0.3:
        return "2a02:" + ":".join(f"{draw.randint(1, 65535):x}" for _ in range(7))
    return ".".join(str(draw.randint(11, 99) if k in (0, 3) else draw.randint(101, 167)) for k in range(4))


def ssn(draw: random.Random) -> str:
    value = f"{draw.randint(1, 665):03d}-{draw.randint(1, 99):02d}-{draw.randint(1, 9999):04d}"
    return draw.choice([value, value, f"SSN: {value.replace('-', '')}"])


def birth(draw: random.Random) -> str:
    day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1930, 2012)
    date = draw.choice(
        [
            f"{year}-{month:02d}-{day:02d}",
            f"{month}/{day}/{year}",
            f"{day}.{month}.{year}",
            f"{day} March {year}",
            f"March {day}, {year}",
        ]
    )
    return draw.choice(
        ["DOB: {}", "date of birth {}", "Birthday: {}", "my date of birth is {}", "I was born on {}"]
    ).format(date)


def secret(draw: random.Random) -> str:
    letters = string.ascii_letters + string.digits

    def any_of(count: int, alphabet: str = letters) -> str:
        return "".join(draw.choices(alphabet, k=count))

    header = (
        base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "n": any_of(4)}).encode()).decode().rstrip("=")
    )
    return draw.choice(
        [
            "AKIA" + any_of(16, string.ascii_uppercase + string.digits),
            "ghp_" + any_of(36),
            f"xoxb-{digits(draw, 12)}-{any_of(24)}",
            "AIza" + any_of(35),
            "sk-" + any_of(47) + "1",
            "sk-proj-" + any_of(20) + "_" + any_of(20) + "7",
            f"{header.rstrip('=')}.eyJ{any_of(30)}.{any_of(43)}",
            "-----BEGIN RSA PRIVATE KEY-----\n" + any_of(64) + "\n-----END RSA PRIVATE KEY-----",
            f"postgres://admin:{any_of(12)}@db.internal:5432/app",
        ]
    )


KINDS: dict[str, Callable[[random.Random], str]] = {
    "email": email,
    "phone": phone,
    "iban": iban,
    "card": card,
    "ip": address,
    "ssn": ssn,
    "birth": birth,
    "secret": secret,
}


def harmless(draw: random.Random) -> str:
    year, n = draw.randint(1900, 2030), draw.randint(1, 12)
    isbn = digits(draw, 9)
    check = -sum(weight * int(digit) for weight, digit in zip(range(10, 1, -1), isbn, strict=True)) % 11
    return draw.choice(
        [
            f"order {digits(draw, 8)}",
            f"order number {digits(draw, 12)}",
            f"Order #{digits(draw, 3)}-{digits(draw, 7)}-{digits(draw, 7)}",
            f"invoice no. {year}-{digits(draw, 5)}",
            f"version {n}.{draw.randint(0, 40)}.{draw.randint(0, 200)}.{draw.randint(0, 200)}",
            f"v{n}.{n}.{draw.randint(0, 9)}",
            f"from {year} to {year + 5}, {year}-{year + 9}",
            f"on {year}-{n:02d}-{draw.randint(1, 28):02d} at {n}:30:15",
            f"{draw.randint(1, 28):02d}/{n:02d}/{year} {n:02d}:45",
            f"${draw.randint(1, 999)},{digits(draw, 3)},{digits(draw, 3)}.00 or €{digits(draw, 9)}",
            f"{digits(draw, 10)} euros"
            if draw.random() < 0
            else f"{n},{digits(draw, 3)},{digits(draw, 3)} people",
            f"ISBN 978-{draw.randint(0, 9)}-{digits(draw, 3)}-{digits(draw, 5)}-{draw.randint(0, 9)}",
            f"ISBN {isbn}{'X' if check == 10 else check}",
            f"978{digits(draw, 10)}",
            f"at {n}:15-{n + 1}:45, room {digits(draw, 3)}",
            f"0.{digits(draw, 12)} and {digits(draw, 3)}.{digits(draw, 6)} m",
            f"tracking id {digits(draw, 10)}",
            f"{digits(draw, 5)} x {digits(draw, 4)} = {digits(draw, 9)}",
            f"01 02 03 04 05 06 and {n} {n + 1} {n + 2} {n + 3}",
            "mail @ann or #3, see a@b and me@localhost, or jo@example.com",
            "at 192.168.0.17, 10.0.0.1, 127.0.0.1 and 1.2.3.4; std::vector::size",
            f"AB{digits(draw, 2)} {digits(draw, 4)} and GB rules; {digits(draw, 4)} {digits(draw, 4)}",
            "the task-based, risk-averse sk-learn-like estimator-for-all-users",
            f"the war was over by {n}/{year}; she was born in {year} and was born on May {n}, 1879",
            f"PMID {digits(draw, 8)}, doi:10.{digits(draw, 4)}/{digits(draw, 7)}",
            f"{digits(draw, 2)}-{digits(draw, 2)}-{digits(draw, 2)}, {digits(draw, 4)}-{digits(draw, 4)}",
        ]
    )
