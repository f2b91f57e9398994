use std::collections::BTreeSet;

use crate::cloud_api::errors::*;

fn refusal(code: i64) -> Refusal {
    GraphError { code: Some(code), ..GraphError::default() }.refusal(Some(400))
}

/// Every code of the table with its meaning, written a second time.
#[test]
fn each_code_has_its_class() {
    let expected: &[(ErrorClass, &[i64])] = &[
        (ErrorClass::TemporaryFailure, &[1, 131_000]),
        (ErrorClass::RecipientThrottled, &[131_056]),
        (ErrorClass::ChannelThrottled, &[2, 4, 17, 32, 613, 80_007, 130_429, 131_016, 131_057]),
        (
            ErrorClass::PauseChannel,
            &[0, 3, 10, 33, 102, 190, 200, 230, 299, 368, 131_005, 131_031, 131_042, 131_048, 133_010],
        ),
        (
            ErrorClass::PermanentFailure,
            &[
                100,
                130_472,
                130_497,
                131_008,
                131_009,
                131_021,
                131_026,
                131_030,
                131_047,
                131_049,
                131_051,
                131_062,
                // Unknown codes.
                -1,
                199,
                300,
                999_999,
                i64::MAX,
            ],
        ),
    ];
    for (class, codes) in expected {
        for code in *codes {
            assert_eq!(refusal(*code).class, *class, "{code}");
        }
    }
    let tested = expected.iter().flat_map(|(_, codes)| *codes);
    let tested = tested.filter(|code| TABLE.iter().any(|row| row.codes.contains(code))).count();
    let rows = TABLE.iter().filter(|row| row.subcode.is_none()).count();
    assert_eq!(tested, rows + 2, "each row has one code here, and the range three");
}

#[test]
fn a_subcode_counts_where_the_table_names_it() {
    let error = |code, subcode| GraphError { code: Some(code), subcode, transient: false }.refusal(Some(400));
    assert_eq!(error(100, Some(33)).class, ErrorClass::PauseChannel);
    assert_eq!(error(100, Some(33)).text, format!("{NUMBER_GONE} (Meta 100/33)"));
    assert_eq!(error(100, Some(2_494_010)).class, ErrorClass::PermanentFailure);
    assert_eq!(error(190, Some(463)).class, ErrorClass::PauseChannel);
}

#[test]
fn an_unknown_code_is_classified_by_status_and_hint() {
    let unknown = |status, transient| GraphError { code: Some(7_777), subcode: None, transient }.refusal(status);
    assert_eq!(unknown(Some(500), false).class, ErrorClass::TemporaryFailure);
    assert_eq!(unknown(Some(503), false).class, ErrorClass::TemporaryFailure);
    assert_eq!(unknown(Some(400), true).class, ErrorClass::TemporaryFailure);
    assert_eq!(unknown(Some(429), true).class, ErrorClass::ChannelThrottled);
    assert_eq!(unknown(Some(401), false).class, ErrorClass::PauseChannel);
    for status in [Some(400), Some(403), Some(404), Some(200), None] {
        let refusal = unknown(status, false);
        assert_eq!((refusal.class, refusal.name), (ErrorClass::PermanentFailure, "NETWORK_REFUSED"), "{status:?}");
        assert_eq!(refusal.text, "A Meta recusou a mensagem. (Meta 7777)");
    }
}

#[test]
fn a_known_code_is_not_classified_by_its_status() {
    // The same code was observed with 400 and with 429, with 401 and with 500.
    for status in [None, Some(200), Some(400), Some(401), Some(429), Some(500)] {
        let transient = GraphError { code: Some(131_047), subcode: None, transient: true };
        assert_eq!(transient.refusal(status).class, ErrorClass::PermanentFailure, "{status:?}");
    }
}

#[test]
fn a_fault_becomes_the_outcome_of_its_class() {
    let refused = refusal(131_047).outcome();
    let SendOutcome::PermanentFailure { code: "WINDOW_CLOSED", message } = refused else { panic!("{refused:?}") };
    assert!(message.ends_with("modelos. (Meta 131047)"), "{message}");
    assert_eq!(refusal(190).outcome(), SendOutcome::ChannelDisabled { reason: format!("{ACCESS} (Meta 190)") });
    assert_eq!(refusal(131_056).outcome(), SendOutcome::RecipientThrottled);
    assert_eq!(refusal(130_429).outcome(), SendOutcome::ChannelThrottled);
    let message = format!("{TROUBLE} (Meta 131000)");
    assert_eq!(refusal(131_000).outcome(), SendOutcome::TemporaryFailure { code: "NETWORK_TROUBLE", message });
}

#[test]
fn the_rows_are_in_form() {
    for row in TABLE {
        let screaming = |c: char| c.is_ascii_uppercase() || c == '_';
        assert!(row.name.chars().all(screaming), "{}", row.name);
        assert!(row.text.is_ascii() && row.text.ends_with('.') && !row.text.contains("  "), "{}", row.text);
        assert!(row.source.starts_with("https://"), "{}", row.source);
        // A person who finds the channel paused must learn what to do.
        let says_what = ["onecte o canal", "retome o canal", "retomar o canal"];
        assert!(
            row.class != ErrorClass::PauseChannel || says_what.iter().any(|what| row.text.contains(what)),
            "{}",
            row.text
        );
    }
}

/// The documentation has each row, with its effect and what to do.
#[test]
fn the_page_has_the_table() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/channels-cloud-api.md"));
    let (_, part) = page.split_once("<!-- codes: held to the code by a test -->").expect("the table's beginning");
    let (part, _) = part.split_once("<!-- end of codes -->").expect("the table's end");
    let mut documented = BTreeSet::new();
    let mut heading = "";
    for line in part.lines() {
        heading = line.strip_prefix("### ").unwrap_or(heading);
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next().and_then(|name| name.strip_prefix('`')?.strip_suffix('`'));
        let numbers = name.and_then(|_| cells.next()).into_iter().flat_map(|numbers| numbers.split(", "));
        documented.extend(numbers.map(|number| (heading, name.unwrap_or_default(), number.to_owned())));
    }
    let rows = TABLE.iter().map(|row| {
        let number = match (row.codes.start(), row.codes.end(), row.subcode) {
            (first, last, None) if first < last => format!("{first}–{last}"),
            (code, _, None) => code.to_string(),
            (code, _, Some(subcode)) => format!("{code}/{subcode}"),
        };
        (row.class, row.name, number)
    });
    let unknown = refusal(999_999);
    let rows = rows.chain([(unknown.class, unknown.name, "any other".to_owned())]);
    let rows: BTreeSet<_> = rows.map(|(class, name, number)| (heading_of(class), name, number)).collect();
    assert_eq!(documented, rows);
}

fn heading_of(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::TemporaryFailure => "The message is tried again",
        ErrorClass::RecipientThrottled => "The recipient waits",
        ErrorClass::ChannelThrottled => "The channel waits",
        ErrorClass::PermanentFailure => "The message failed",
        ErrorClass::PauseChannel => "The channel is paused",
    }
}
