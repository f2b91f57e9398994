use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn read(text: &str, country: &str) -> Result<String, InvalidPhone> {
    let country = (!country.is_empty()).then(|| country.parse().expect("a country"));
    PhoneNumber::parse(text, country).map(|phone| phone.0)
}

#[track_caller]
fn means(text: &str, country: &str, digits: &str) {
    assert_eq!(read(text, country), Ok(digits.to_owned()), "{text:?} {country}");
}

#[track_caller]
fn is_refused(text: &str, country: &str, why: InvalidPhone) {
    assert_eq!(read(text, country), Err(why), "{text:?} {country}");
}

const MALFORMED: InvalidPhone = InvalidPhone::Malformed;
const SPREADSHEET: InvalidPhone = InvalidPhone::Spreadsheet;
const COUNTRY: InvalidPhone = InvalidPhone::CountryMissing;

#[test]
fn separators_and_marks_are_dropped() {
    for text in [
        "+55 (11) 98888-7777",
        "5511988887777",
        "\u{202a}+55 11 98888-7777\u{202c}",
        "\u{feff}5511988887777\u{200b}",
        "\u{200e}5511988887777\u{a0}",
        "\u{ff0b}55\u{2011}11\u{2013}98888\u{2212}7777",
        "55/11/98888\t7777",
        "(+55) 11 98888 . 7777",
        "55.11.98888.7777",
        "(55)(11)9-8-8-8-8 7777",
        "- 5511988887777 -",
        "+ 5511988887777",
    ] {
        means(text, "", "5511988887777");
    }
    for text in [
        "",
        "+",
        "-.-",
        "abc",
        "++5511988887777",
        "55+11988887777",
        "5511988887777+",
        "tel:5511988887777",
        "5511988887777 ext 4",
        "5511988887777;x",
        "55_11988887777",
        "55,11988887777",
        "55\n11988887777",
        "\u{ff15}\u{ff15}11988887777",
        "\u{665}511988887777",
        "5511988887777.",
        ".5511988887777",
        "55..11988887777",
        "55\u{fe0f}11988887777",
        ".+5511988887777",
    ] {
        is_refused(text, "", MALFORMED);
    }
}

#[test]
fn a_number_that_a_spreadsheet_changed_has_its_own_error() {
    for text in [
        "551198887777.0",
        "447911123456.0",
        "4930123456.0",
        "5511988887777.0",
        "+551198887777.00",
        "551198887777,000",
        "5,51199E+12",
        "5.51199E+12",
        "5,512e+12",
        "5E12",
        "\u{feff}551198887777.0",
        " 551198887777.0\u{200e}",
        "+ 551198887777.0",
        "551198887777 .0",
        "551198887777. 0",
        "551198887777.(0)",
        "551198887777-.0",
        "551 198 887 777.0",
        "(551198887777.0)",
        "(+551198887777.0)",
        "- 551198887777.0",
        "551198887777.0/",
        "551198887777.5",
    ] {
        is_refused(text, "", SPREADSHEET);
        is_refused(text, "BR", SPREADSHEET);
    }
    means("+33 6.12.34.56.00", "", "33612345600");
    means("+32 2 555.12.00", "", "3225551200");
    means("+49 30 1234-00", "", "4930123400");
}

#[test]
fn numbers_have_a_country_code_and_a_length_of_its_plan() {
    means("551188887777", "", "551188887777");
    means("+39 02 6630 7129", "", "390266307129");
    means("+39 (0)2 6630 7129", "", "390266307129");
    for text in ["+44 (0)20 7946 0958", "+4402079460958", "+44 020 7946 0958", "4402079460958", "+44 (020) 7946 0958"] {
        means(text, "", "442079460958");
    }
    means("+33 06 12 34 56 78", "", "33612345678");
    means("+31 (0)6 12345678", "", "31612345678");
    means("+55 (0)11 98888-7777", "", "5511988887777");
    for text in ["4004-1234", "3003 1234", "21 98888-777"] {
        is_refused(text, "", COUNTRY);
    }
    for text in
        ["33", "190", "235085806727321", "549351155556666", "+4004-1234", "+352 (0)26 12 34", "+44 (00)20 7946 0958"]
    {
        is_refused(text, "", MALFORMED);
    }
    is_refused("0044123456", "", COUNTRY);
    is_refused("5511988887777123", "", MALFORMED);
    means("33 98888-7777", "", "33988887777");
    is_refused("21 98888-7777", "", COUNTRY);
    is_refused("011 98888-7777", "", COUNTRY);
}

#[test]
fn the_notations_of_whatsapp_are_accepted() {
    for digits in ["5215512345678", "525512345678", "5491155554444", "541155554444", "558007771234", "553001234567"] {
        means(digits, "", digits);
        means(&format!("+{digits}"), "BR", digits);
    }
    for text in ["+55 0800 777 1234", "5508007771234"] {
        means(text, "", "558007771234");
    }
    for text in
        ["5523988887777", "5520988887777", "5511888887777", "5540041234", "55119888877", "54111555544", "11025550123"]
    {
        assert!(read(text, "").is_err(), "{text}");
    }
    let areas = (10..100).filter(|area| read(&format!("55{area}988887777"), "").is_ok()).count();
    assert_eq!(areas, 67);
}

#[test]
fn numbers_of_the_default_country_need_no_country_code() {
    means("21 98888-7777", "BR", "5521988887777");
    means("33 98888-7777", "BR", "5533988887777");
    means("+33 98888-7777", "BR", "33988887777");
    means("0800 777 1234", "BR", "558007771234");
    means("(61) 4004-1234", "BR", "556140041234");
    means("011 98888-7777", "BR", "5511988887777");
    means("55 99999-8888", "BR", "5555999998888");
    for (text, digits) in
        [("5511988887777", "5511988887777"), ("12025550123", "12025550123"), ("447911123456", "447911123456")]
    {
        means(text, "BR", digits);
    }
    // Without an area code the area is unknown.
    for text in ["4004-1234", "3003 1234", "98888-7777", "3333-4444"] {
        is_refused(text, "BR", COUNTRY);
    }
    for text in ["190", "5523988887777"] {
        is_refused(text, "BR", MALFORMED);
    }
    means("07911 123456", "GB", "447911123456");
    means("447911123456", "GB", "447911123456");
    means("8 912 345-67-89", "RU", "79123456789");
    means("06 30 123 4567", "HU", "36301234567");
    means("(202) 555-0123", "US", "12025550123");
    means("1 202 555 0123", "US", "12025550123");
    means("12025550123", "MX", "12025550123");
    means("02 6630 7129", "IT", "390266307129");
    means("390266307129", "IT", "390266307129");
    // The number begins with the country's own code, and is a mobile number all the same.
    means("91987 65432", "IN", "919198765432");
    means("919876543210", "IN", "919876543210");
    is_refused("0044 20 7946 0958", "GB", COUNTRY);
}

#[test]
fn a_complete_number_does_not_change_with_the_default_country() {
    for (country, digits) in [
        ("DE", "4915123456789"),
        ("DE", "491701234567"),
        ("DE", "4916212345678"),
        ("DE", "4921112345678"),
        ("XK", "38344123456"),
        ("ID", "62811234567"),
        ("FI", "358401234567"),
        ("IT", "393331234567"),
        ("SE", "46701234567"),
    ] {
        means(digits, country, digits);
        means(&format!("+{digits}"), country, digits);
    }
    for country in ["AT", "DE", "ID", "PH", "TH", "JP", "KR", "TR", "IN"] {
        let read = read("5511988887777", country);
        assert!(read == Err(COUNTRY) || read == Ok("5511988887777".to_owned()), "{country} {read:?}");
        means("+55 11 98888-7777", country, "5511988887777");
    }
    is_refused("55 11 98888-7777", "AT", COUNTRY);
    // A trunk zero identifies the country, and so does a prefix that is a group of its own.
    means("0151 23456789", "DE", "4915123456789");
    means("04951 123456", "DE", "494951123456");
    means("3100202574", "UY", "5983100202574");
    is_refused("84951234567", "RU", COUNTRY);
    means("8 (495) 123-45-67", "RU", "74951234567");
    // Another country could have these numbers too, but the forms of the exceptions are exact.
    means("33988887777", "BR", "5533988887777");
    means("656 123 4567", "MX", "526561234567");
    means("203-555-0123", "US", "12035550123");
    means("020 1234 5678", "GB", "442012345678");
}

#[test]
fn a_mobile_of_brazil_has_two_forms() {
    let twin = |digits: &str| PhoneNumber::parse(digits, None).unwrap().twin().map(|twin| twin.0);
    assert_eq!(twin("5511999998888"), Some("551199998888".to_owned()));
    assert_eq!(twin("551199998888"), Some("5511999998888".to_owned()));
    // The shorter form is the landline number of another person.
    for alone in ["5511933334444", "551133334444", "558007771234", "12125550123", "351912345678"] {
        assert_eq!(twin(alone), None, "{alone}");
    }
    // A number that is not Brazilian has no other form, even if a network named it.
    for odd in ["551199", "5511999", "5511799998888", "55119999988887"] {
        assert_eq!(PhoneNumber::of_stored(odd).unwrap().twin(), None, "{odd}");
        assert_eq!(forms(odd).collect::<Vec<_>>(), [odd]);
    }
}

#[test]
fn stored_numbers_keep_their_digits() {
    for given in ["235085806727321", "+55 (11) 99999-8888", "20000000"] {
        let digits: String = given.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(PhoneNumber::of_stored(given).map(|phone| phone.0), Ok(digits));
    }
    assert!(PhoneNumber::of_stored("x").is_err());
}

#[test]
fn former_versions_kept_a_trunk_zero() {
    let former = |digits: &str| PhoneNumber::parse(digits, None).unwrap().with_trunk_zero();
    for (digits, zero) in [("442079460958", "4402079460958"), ("33612345678", "330612345678")] {
        let stored = PhoneNumber::of_stored(zero).ok();
        assert_eq!(former(digits), stored);
        // It is the same number, and of no other person.
        assert_eq!(read(zero, ""), Ok(digits.to_owned()));
        assert_eq!(stored.and_then(|stored| stored.with_trunk_zero()), None);
    }
    for alone in ["5511988887777", "390266307129", "12025550123", "351912345678"] {
        assert_eq!(former(alone), None, "{alone}");
    }
}

#[test]
fn debug_hides_the_number() {
    assert_eq!(format!("{:?}", PhoneNumber::parse("5511999998888", None).unwrap()), "PhoneNumber(…8888)");
}

/// A run of the same character costs no more than a number of that length: nothing is read twice.
#[test]
fn the_cost_of_a_number_is_bounded() {
    let hostile =
        [")(".repeat(32), "\u{200e}".repeat(64), "1.".repeat(32), "0".repeat(64), "9".repeat(15), "E1".repeat(32)];
    let country = "IN".parse().ok();
    let begun = Instant::now();
    for text in &hostile {
        (0..1_000).for_each(|_| drop(PhoneNumber::parse(std::hint::black_box(text), country)));
    }
    println!("{:?} for one number", begun.elapsed() / 6_000);
    assert_eq!(read(&"5".repeat(1 << 20), ""), Err(MALFORMED));
}

fn is_subsequence(part: &str, whole: &str) -> bool {
    let mut whole = whole.chars();
    part.chars().all(|wanted| whole.any(|there| there == wanted))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_text_breaks_it(text in any::<String>(), country in 0..240_usize) {
        drop(PhoneNumber::parse(&text, Plan::some(country)));
    }

    #[test]
    fn digits_are_those_that_were_written(
        text in "[+]?[0-9]{1,4}[ (./-]{0,2}[0-9]{1,6}[ )./-]{0,2}[0-9]{1,8}\u{200e}?",
        country in prop::option::of(0..240_usize),
    ) {
        let country = country.and_then(Plan::some);
        if let Ok(phone) = PhoneNumber::parse(&text, country) {
            let digits = phone.digits();
            let code = country.map(|country| country.0.code.to_string()).unwrap_or_default();
            let own = digits.strip_prefix(&code).unwrap_or(digits);
            prop_assert!(is_subsequence(digits, &text) || is_subsequence(own, &text), "{text:?} {digits}");
            let typed = text.chars().filter(char::is_ascii_digit).count();
            // At most one prefix is removed, and at most one code is added.
            prop_assert!(digits.len() + 3 > typed && digits.len() <= typed + code.len());
            prop_assert_eq!(PhoneNumber::parse(&format!("+{digits}"), country), Ok(phone.clone()));
            prop_assert_eq!(PhoneNumber::parse(digits, None), Ok(phone));
        }
    }
}

#[test]
fn only_digits_have_another_form() {
    let all = |address: &str| forms(address).collect::<Vec<_>>();
    assert_eq!(all("551188887777"), ["551188887777", "5511988887777"]);
    for other in ["551188887777@lid", "BR.551188887777", "551188887777@g.us", "551188887777-1400000000@g.us"] {
        assert_eq!(all(other), [other], "another person has those digits");
    }
}
