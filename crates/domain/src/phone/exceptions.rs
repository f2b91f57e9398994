//! The differences between Recado and libphonenumber, in both directions. The comparison with Google's `phonenumbers` allows
//! exactly these.

/// A country code whose numbers have other forms than the metadata says.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The country code.
    pub code: u16,
    /// The forms of a number after its country code: `#` is any digit, `Z` 1 to 9, `N` 2 to 9, `AA` an area code of Brazil.
    pub forms: &'static [&'static str],
    /// The reason for the exception.
    pub reason: &'static str,
}

/// A difference in reading that applies to all countries.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Its name, for the comparison.
    pub name: &'static str,
    /// What Recado does, and why.
    pub reason: &'static str,
}

/// The exceptions by country code.
pub const EXCEPTIONS: [Exception; 4] = [
    Exception {
        code: 1,
        forms: &["N#########"],
        reason: "No area code of North America begins with 0 or 1. The metadata looks at the length alone.",
    },
    Exception {
        code: 52,
        forms: &["##########", "1##########"],
        reason: "WhatsApp has accounts in Mexico by the form of before 2019, with a 1 behind the 52. The plan has no such \
                 numbers any more.",
    },
    Exception {
        code: 54,
        forms: &["Z#########", "9Z#########"],
        reason: "WhatsApp names mobiles in Argentina with a 9, people write them without. Eleven digits without a 9 are no \
                 account, and a 15 among twelve or thirteen is left to the caller to take out.",
    },
    Exception {
        code: 55,
        forms: &["AA########", "AA9########", "800#######", "300#######"],
        reason: "WhatsApp has mobiles in Brazil with the ninth digit and without it, and companies by their 0800 or 0300. \
                 An area code that does not exist is a typing error, and numbers without one (4004-1234) cannot be called \
                 from abroad.",
    },
];

/// The differences for every country.
pub const READINGS: [Reading; 8] = [
    Reading {
        name: "abroad",
        reason: "Bare digits that the default country cannot have are read with their country code. Google reads them as \
                 numbers of that country all the same, and then for impossible ones.",
    },
    Reading {
        name: "both",
        reason: "Bare digits can be a number of the default country and, with their country code, another one. They are read \
                 with the code where it is the default country's own, or where only that number is in the metadata, and are \
                 refused where nothing decides. Google reads them as numbers of the default country.",
    },
    Reading {
        name: "marks",
        reason: "Characters that do not show, and white space of every kind, are dropped everywhere. Google ends a number at them; people cannot see \
                 them, and address books put them there.",
    },
    Reading {
        name: "prefix",
        reason: "Behind a country code only a trunk zero is dropped. Google also drops other prefixes that are dialled within \
                 a country (8 in Russia, 06 in Hungary, a carrier's in Brazil) and moves digits (15 in Argentina); digits \
                 that are not where they are written could be another number's.",
    },
    Reading {
        name: "zero",
        reason: "Where a plan has a trunk zero, no number begins with a zero. Google keeps the zero where the number would be \
                 too short without it, so that 4004-1234 would be Romania's, or without the prefix of a carrier behind it \
                 (Colombia, Bolivia). It keeps Hungary's 06 in the same way.",
    },
    Reading {
        name: "brackets",
        reason: "`(0)` says that a zero is not dialled from abroad. Where a plan has no trunk zero, such a text is taken only \
                 if the zero begins a number of the plan, as in Italy. Google reads the zero as a digit.",
    },
    Reading {
        name: "exit",
        reason: "What is dialled to reach another country (00, Uruguay's 0158) is no part of a number, and is not mistaken for a \
                 `+`: in another country it would be other digits. Google reads what follows as a number with its country code.",
    },
    Reading {
        name: "fifteen",
        reason: "A number has at most 15 digits with its country code (E.164). The metadata has longer ones, for machines.",
    },
];

/// The area codes of Brazil (Anatel): 67.
pub const AREAS: [&str; 67] = [
    "11", "12", "13", "14", "15", "16", "17", "18", "19", "21", "22", "24", "27", "28", "31", "32", "33", "34", "35",
    "37", "38", "41", "42", "43", "44", "45", "46", "47", "48", "49", "51", "53", "54", "55", "61", "62", "63", "64",
    "65", "66", "67", "68", "69", "71", "73", "74", "75", "77", "79", "81", "82", "83", "84", "85", "86", "87", "88",
    "89", "91", "92", "93", "94", "95", "96", "97", "98", "99",
];

/// The forms of a country code that has its own.
pub(super) fn forms(code: u16) -> Option<&'static [&'static str]> {
    EXCEPTIONS.iter().find(|exception| exception.code == code).map(|exception| exception.forms)
}

/// Whether a number without its country code has this form.
pub(super) fn has_form(national: &str, form: &str) -> bool {
    let (national, form) = match form.strip_prefix("AA") {
        None => (national, form),
        Some(form) => match national.split_at_checked(2) {
            Some((area, national)) if AREAS.binary_search(&area).is_ok() => (national, form),
            _ => return false,
        },
    };
    national.len() == form.len()
        && national.bytes().zip(form.bytes()).all(|(digit, sign)| match sign {
            b'#' => true,
            b'Z' => digit >= b'1',
            b'N' => digit >= b'2',
            _ => digit == sign,
        })
}
