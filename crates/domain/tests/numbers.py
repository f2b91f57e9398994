"""Compares Recado's reading of telephone numbers with Google's, on numbers that this script makes.

    numbers.py make SEED           prints one number a line: country, default country or -, notation, text
    numbers.py judge EXCEPTIONS    reads the same lines with Recado's digits (or -) in front, and names what differs

Google's library is the package `phonenumbers`.
"""

import collections
import json
import random
import re
import sys
import unicodedata

import phonenumbers
from phonenumbers import PhoneMetadata, ValidationResult

COUNTRIES = (
    "BR US GB DE FR IT ES PT AR MX CL CO PE UY PY BO EC VE CR PA GT DO CA AU NZ JP KR CN IN ID MY SG TH VN PH PK BD LK TR "
    "SA AE IL EG MA DZ TN NG KE ZA GH AO MZ RU UA PL CZ RO GR HU SE NO DK FI NL BE CH AT IE HR RS BG"
).split()[:60]
NOTATIONS = (
    "plus", "bare", "spaces", "brackets", "dots", "slashes", "marks", "trunk", "national", "prefixed",
    # Bare digits with their country code, under the country's own default and under another country's.
    "own", "foreign",
)
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
        "trunk": lambda: f"+{code} (0){national}",
        "national": lambda: grouped(draw, national, [" ", "-"]),
        "prefixed": lambda: prefix + grouped(draw, national, [" ", "-"]),
    }
    texts["own"] = texts["foreign"] = texts["bare"]
    text = texts[notation]()
    if notation == "foreign":
        return text, draw.choice(COUNTRIES)
    return text.rstrip("."), region if notation in ("national", "prefixed", "own") else "-"


def make(seed):
    draw = random.Random(seed)
    for number in range(NUMBERS):
        region = COUNTRIES[number % len(COUNTRIES)]
        notation = NOTATIONS[number // len(COUNTRIES) % len(NOTATIONS)]
        text, default = written(draw, region, notation, national_of(draw, region))
        print(region, default, notation, text, sep="\t")


def digits_of(text):
    return "".join(sign for sign in text if sign in "0123456789")


def parsed(text, default, exceptions):
    """Google's reading, possible or not. Without a default country bare digits are international."""
    if "marks" in exceptions["readings"]:
        # Google stops at marks that do not show and at some kinds of white space; Recado drops them.
        shown = (sign for sign in text if unicodedata.category(sign) != "Cf")
        text = "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in shown)
    international = text if default != "-" or "+" in text else f"+{text}"
    try:
        return phonenumbers.parse(international, None if default == "-" else default)
    except phonenumbers.NumberParseException:
        return None


def digits_with_code(number):
    return f"{number.country_code}{phonenumbers.national_significant_number(number)}" if number else None


def country_code(digits):
    """The country code in front of the digits; no code is the beginning of another one."""
    codes = (digits[:length] for length in (1, 2, 3))
    return next((code for code in codes if code[:1] != "0" and int(code or 0) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "")


def main_metadata(code):
    region = phonenumbers.region_code_for_country_code(int(code))
    if region == "001":
        return PhoneMetadata.metadata_for_nongeo_region(int(code))
    return PhoneMetadata.metadata_for_region(region)


def has_form(national, form, areas):
    if form.startswith("AA"):
        return national[:2] in areas and has_form(national[2:], form[2:], areas)
    classes = {"#": "0123456789", "Z": "123456789", "N": "23456789"}
    return len(national) == len(form) and all(digit in classes.get(sign, sign) for digit, sign in zip(national, form))


class Plan:
    """What Recado knows of a country: Google's metadata, and the forms that the exceptions give for its code."""

    def __init__(self, metadata, exceptions):
        self.code, self.prefix = str(metadata.country_code), metadata.national_prefix or ""
        self.exit_prefix = metadata.international_prefix or "$."
        self.general, self.trunk_zero = metadata.general_desc, metadata.national_prefix == "0"
        self.forms, self.areas = exceptions["countries"].get(self.code), exceptions["areas"]

    def has_length(self, national):
        return len(national) in self.general.possible_length

    def takes(self, national):
        if self.trunk_zero and national.startswith("0") or len(self.code + national) > 15:
            return False
        if self.forms is None:
            return self.has_length(national)
        return any(has_form(national, form, self.areas) for form in self.forms)

    def knows(self, national):
        if self.forms is not None:
            return self.takes(national)
        pattern = self.general.national_number_pattern
        return self.has_length(national) and re.fullmatch(pattern, national) is not None

    def is_local(self, national):
        lengths = set(self.general.possible_length_local_only)
        if self.forms is not None:
            lengths |= set(self.general.possible_length) - {len(form) for form in self.forms}
        return len(national) in lengths


def abroad(digits, exceptions, drops_zero):
    """The digits with their country code in front, less a trunk zero."""
    code = country_code(digits)
    if not code:
        return None
    plan, national = Plan(main_metadata(code), exceptions), digits[len(code) :]
    if drops_zero and plan.trunk_zero:
        national = national.removeprefix("0")
    return code + national if plan.takes(national) else None


def is_alone(prefix, text):
    """Whether the prefix stands in front of the number, and a sign behind the prefix."""
    group = re.match(r"\D*(\d+)\D", "".join(sign for sign in text if unicodedata.category(sign) != "Cf"))
    return group is not None and group[1] == prefix


def foreign(digits, exceptions):
    """The plan that the country code in front of the digits has, and what stands behind the code and a trunk zero."""
    code = country_code(digits)
    if not code:
        return None, ""
    plan, national = Plan(main_metadata(code), exceptions), digits[len(code) :]
    return plan, national.removeprefix("0") if plan.trunk_zero else national


def literal(region, default, text, exceptions):
    """What Recado has to answer by its own rules and Google's metadata: no digit is moved, one prefix is taken off at
    most, and the forms of the exceptions count."""
    plan, typed = Plan(PhoneMetadata.metadata_for_region(region), exceptions), digits_of(text)
    if default == "-":
        in_brackets = "brackets" in exceptions["readings"] and "(0)" in text and not plan.trunk_zero
        return None if in_brackets and not plan.knows(typed[len(plan.code) :]) else abroad(typed, exceptions, True)
    whose, behind = foreign(typed, exceptions)
    if whose and whose.code == plan.code and whose.knows(typed[len(plan.code) :]):
        return abroad(typed, exceptions, False)
    rest = typed.removeprefix(plan.prefix)
    national = rest if plan.knows(rest) or not plan.knows(typed) else typed
    if not plan.has_length(national) or not plan.takes(national):
        return None if plan.is_local(national) else abroad(typed, exceptions, False)
    if plan.knows(national):
        is_plain = plan.forms is not None or is_alone(plan.prefix, text)
        return None if not is_plain and whose and whose.knows(behind) else plan.code + national
    if whose and whose.knows(behind):
        return abroad(typed, exceptions, False)
    return None if whose and whose.takes(behind) else plan.code + national


def excused(region, default, text, google, recado, exceptions):
    """The name of the exception that allows the difference: none does where Recado's answer is not the literal one."""
    if recado != literal(region, default, text, exceptions):
        return None
    plan, typed = Plan(PhoneMetadata.metadata_for_region(region), exceptions), digits_of(text)
    # Without the code: as it is written, as Google reads it (possible or not), and as Google accepts it.
    written = typed if default != "-" else typed[len(plan.code) :]
    plain = {written, written.removeprefix(plan.prefix if default != "-" or plan.trunk_zero else "")}
    read = (digits_with_code(parsed(text, default, exceptions)) or "")[len(plan.code) :]
    accepted = google and google[len(plan.code) :]
    whose, behind = foreign(typed, exceptions)
    keeps_prefix = read and plan.prefix.startswith("0") and read.startswith(plan.prefix)
    readings = {
        # What the default country cannot have, and another one can.
        "abroad": default != "-" and recado == typed and (google is None or not plan.takes(accepted)),
        "both": default != "-" and recado in (None, typed) and whose is not None and whose.takes(behind),
        "brackets": default == "-" and "(0)" in text and not plan.trunk_zero and recado is None,
        "exit": default != "-" and re.match(plan.exit_prefix, typed) is not None,
        "fifteen": recado is None and google and len(google) > 15,
        "zero": keeps_prefix and recado in (None, plan.code + read.removeprefix(plan.prefix)),
        # Google has taken off, or moved, more than that.
        "prefix": read and read not in plain,
    }
    name = next((name for name in exceptions["readings"] if readings.get(name)), None)
    return name or (plan.code if plan.forms is not None else None)


def judge(exceptions):
    counts, faults = collections.Counter(), []
    for line in sys.stdin:
        recado, region, default, notation, text = line.rstrip("\n").split("\t")
        recado = None if recado == "-" else recado
        # A complete number stays what it is. Where the default country has exact forms, a number in one of them is its own.
        if notation in ("own", "foreign"):
            code = str(phonenumbers.country_code_for_region(region))
            is_known = Plan(PhoneMetadata.metadata_for_region(region), exceptions).knows(text[len(code) :])
            has_forms = Plan(PhoneMetadata.metadata_for_region(default), exceptions).forms is not None
            counts["complete"] += is_known
            if is_known and recado not in (None, text) and (not has_forms or notation == "own"):
                faults.append(f"{region} {default} {text!r} has become {recado}")
        region = region if default == "-" else default
        number = parsed(text, default, exceptions)
        possible = number and phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
        google = digits_with_code(number) if possible else None
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
