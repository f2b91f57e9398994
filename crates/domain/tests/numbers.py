"""Compares Recado's reading of telephone numbers with Google's, on numbers that this script makes.

    numbers.py make SEED           prints one number a line: country, default country or -, notation, text
    numbers.py judge EXCEPTIONS    reads the same lines with Recado's digits (or -) in front, and names what differs

Google's library is the package `phonenumbers`.
"""

import collections
import json
import random
import sys
import unicodedata

import phonenumbers
from phonenumbers import PhoneMetadata, ValidationResult

COUNTRIES = (
    "BR US GB DE FR IT ES PT AR MX CL CO PE UY PY BO EC VE CR PA GT DO CA AU NZ JP KR CN IN ID MY SG TH VN PH PK BD LK TR "
    "SA AE IL EG MA DZ TN NG KE ZA GH AO MZ RU UA PL CZ RO GR HU SE NO DK FI NL BE CH AT IE HR RS BG"
).split()[:60]
NOTATIONS = ("plus", "bare", "spaces", "brackets", "dots", "slashes", "marks", "trunk", "national", "prefixed")
NUMBERS = 10_000


def lengths(region):
    return PhoneMetadata.metadata_for_region(region).general_desc.possible_length


def national_of(draw, region):
    """Digits as long as the plan has them, now and then a digit more or less; half of them of a kind that exists."""
    metadata = PhoneMetadata.metadata_for_region(region)
    if draw.random() < 0.5:
        kinds = [metadata.mobile, metadata.fixed_line, metadata.toll_free]
        examples = [kind.example_number for kind in kinds if kind and kind.example_number]
        digits = list(draw.choice(examples))
        for place in range(max(len(digits) - 4, 2), len(digits)):
            digits[place] = draw.choice("0123456789")
        return "".join(digits)
    length = draw.choice(lengths(region)) + draw.choice((0, 0, 0, 0, -1, 1))
    return "".join(draw.choice("123456789" if place == 0 else "0123456789") for place in range(max(length, 2)))


def grouped(draw, digits, signs):
    parts, rest = [], digits
    while rest:
        size = draw.randint(2, 4)
        parts.append(rest[:size])
        rest = rest[size:]
    return "".join(part + (draw.choice(signs) if place + 1 < len(parts) else "") for place, part in enumerate(parts))


def written(draw, region, notation, national):
    """The text, and the default country that it needs."""
    metadata = PhoneMetadata.metadata_for_region(region)
    code, prefix = str(metadata.country_code), metadata.national_prefix or ""
    texts = {
        "plus": lambda: f"+{code}{national}",
        "bare": lambda: f"{code}{national}",
        "spaces": lambda: f"+{code} " + grouped(draw, national, [" ", "\u00a0", "-"]),
        "brackets": lambda: f"+{code} ({national[:2]}) {national[2:]}",
        # Three groups at least: two would be a decimal number, where the second is of zeros.
        "dots": lambda: f"+{code}." + grouped(draw, national, ["."]) + ".",
        "slashes": lambda: f"+{code}/" + grouped(draw, national, ["/", "\u2013"]),
        "marks": lambda: f"\u202a+{code}\u200e" + grouped(draw, national, ["\u2011", "\u2009"]) + "\u202c",
        "trunk": lambda: f"+{code} ({prefix}){national}" if prefix == "0" else f"+{code}-{national}",
        "national": lambda: grouped(draw, national, [" ", "-"]),
        "prefixed": lambda: prefix + grouped(draw, national, [" ", "-"]),
    }
    text = texts[notation]()
    return text.rstrip("."), region if notation in ("national", "prefixed") else "-"


def make(seed):
    draw = random.Random(seed)
    for number in range(NUMBERS):
        region = COUNTRIES[number % len(COUNTRIES)]
        notation = NOTATIONS[number // len(COUNTRIES) % len(NOTATIONS)]
        text, default = written(draw, region, notation, national_of(draw, region))
        print(region, default, notation, text, sep="\t")


def digits_of(text):
    return "".join(sign for sign in text if sign in "0123456789")


def googles(text, default):
    """Google's digits, or None. Without a default country bare digits are international."""
    # Google stops at marks that do not show and at some kinds of white space; Recado drops them.
    text = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in text if unicodedata.category(sign) != "Cf")
    international = text if default != "-" or "+" in text else f"+{text}"
    try:
        parsed = phonenumbers.parse(international, None if default == "-" else default)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None
    return f"{parsed.country_code}{phonenumbers.national_significant_number(parsed)}"


def excused(region, default, text, google, recado, exceptions):
    """The name of the exception that allows the difference."""
    metadata = PhoneMetadata.metadata_for_region(region)
    code, prefix, typed = str(metadata.country_code), metadata.national_prefix or "", digits_of(text)
    if int(code) in exceptions["countries"]:
        return code
    national = typed if default != "-" else typed[len(code) :]
    readings = {
        # Bare digits that are too long or too short for the default country, and another country's.
        "abroad": default != "-" and recado == typed and (google is None or len(google) > 15),
        "fifteen": recado is None and google and len(google) > 15,
        "zero": google and prefix.startswith("0") and google[len(code) :].startswith("0"),
        # Google has taken off, or moved, more than the prefix that is written in every country.
        "prefix": (recado and recado != code + national and googles(f"+{recado}", "-") == recado)
        or google
        and google not in (code + national, code + national.removeprefix("0" if default == "-" else prefix)),
    }
    return next((name for name in exceptions["readings"] if readings.get(name)), None)


def judge(exceptions):
    counts, faults = collections.Counter(), []
    for line in sys.stdin:
        recado, region, default, notation, text = line.rstrip("\n").split("\t")
        recado = None if recado == "-" else recado
        google = googles(text, default)
        counts["numbers"] += 1
        counts["accepted" if recado else "refused"] += 1
        if recado != google:
            name = excused(region, default, text, google, recado, exceptions)
            counts[f"excused: {name}" if name else "differing"] += 1
            if name is None:
                faults.append(f"{region} {default} {notation} {text!r}: Recado {recado}, Google {google}")
        # Whatever else holds: no digit is there that was not typed, but for a country code.
        code = str(phonenumbers.country_code_for_region(region))
        own = recado.removeprefix(code) if recado and default != "-" else recado
        if recado and not subsequence(own, digits_of(text)) and not subsequence(recado, digits_of(text)):
            faults.append(f"{text!r} has become {recado}")
    print(json.dumps(counts, sort_keys=True))
    sys.exit("\n".join(faults[:40]) if faults or counts["numbers"] != NUMBERS else 0)


def subsequence(part, whole):
    rest = iter(whole)
    return all(digit in rest for digit in part)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(int(sys.argv[2]))
    else:
        judge(json.loads(sys.argv[2]))
