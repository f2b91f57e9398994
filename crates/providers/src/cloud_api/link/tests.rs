use crate::cloud_api::link::*;

const GOOD: [&str; 5] = ["106540352242922", "102290129340398", "EAAJB-token", "palavra-secreta", "0123456789abcdef"];

fn link() -> Link {
    Link::parse(&GOOD.map(Field::from), None).expect("a good link")
}

fn faults(values: &[Field<'_>; 5]) -> Vec<(String, String)> {
    let errors = Link::parse(values, None).expect_err("faulty");
    errors.as_slice().iter().map(|error| (error.field.to_string(), error.message.to_string())).collect()
}

fn with(index: usize, value: &str) -> Result<Link, Vec<(String, String)>> {
    let mut values = GOOD.map(Field::from);
    values[index] = Field::Text(value.into());
    if Link::parse(&values, None).is_ok() {
        Ok(Link::parse(&values, None).expect("just read"))
    } else {
        Err(faults(&values))
    }
}

#[test]
fn a_link_is_read() {
    let link = link();
    assert_eq!((link.phone_number_id(), link.business_account_id()), (GOOD[0], GOOD[1]));
    assert_eq!(link.access_token().expose_secret(), GOOD[2]);
    assert_eq!(link.verify_token().expose_secret(), GOOD[3]);
    assert_eq!(link.app_secret().map(ExposeSecret::expose_secret), Some(GOOD[4]));
    let pasted = with(2, "  EAAJB\n").expect("white space around a pasted token is dropped");
    assert_eq!(pasted.access_token().expose_secret(), "EAAJB");
}

#[test]
fn all_errors_are_in_one_answer() {
    let values = [Field::Absent, Field::WrongType, Field::from("  "), Field::Repeated, Field::from("dois nomes")];
    let expected = [
        ("phoneNumberId", "O campo phoneNumberId e obrigatorio."),
        ("businessAccountId", "O campo businessAccountId deve ser uma string."),
        ("accessToken", "O campo accessToken e obrigatorio."),
        ("verifyToken", "Campo repetido."),
        ("appSecret", "O campo appSecret deve ter de 1 a 255 caracteres ASCII visiveis, sem espacos."),
    ];
    assert_eq!(faults(&values), expected.map(|(field, message)| (field.to_owned(), message.to_owned())));
}

#[test]
fn the_app_secret_may_be_left_out() {
    for none in [Field::Absent, Field::from(""), Field::from("  ")] {
        let mut values = GOOD.map(Field::from);
        values[4] = none;
        assert!(Link::parse(&values, None).expect("a good link").app_secret().is_none());
    }
}

#[test]
fn an_id_cannot_lead_a_call_elsewhere() {
    for id in ["123/../me", "12?x=1", "1#2", "١٢٣", "+123", "1 2", "%31", &"1".repeat(33)] {
        for (index, field) in ["phoneNumberId", "businessAccountId"].into_iter().enumerate() {
            let text = format!("O campo {field} deve ter de 1 a 32 digitos.");
            assert_eq!(with(index, id).err(), Some(vec![(field.to_owned(), text)]), "{id}");
        }
    }
    assert!(with(0, &"1".repeat(32)).is_ok());
}

#[test]
fn secrets_have_limits() {
    for (index, limit) in [(2, 2_048), (3, 255), (4, 255)] {
        assert!(with(index, &"x".repeat(limit)).is_ok());
        for bad in [&"x".repeat(limit + 1), "a\r\nHost: b", "senha com espaco", "é", "a\u{7f}"] {
            assert!(with(index, bad).is_err(), "{bad:?}");
        }
    }
}

#[test]
fn a_stored_link_is_parsed_back() {
    let number = NumberInfo { phone: Some("+55 11 99999-8888".to_owned()), name: Some("Padaria \"Pão\"".to_owned()) };
    for link in [link().with_number(number), with(4, "").expect("a good link")] {
        let (details, secrets) = (link.details(), link.secrets());
        assert!(!details.contains("EAAJB") && !details.contains("palavra") && !details.contains("abcdef"), "{details}");
        let back = Link::from_stored(&details, &secrets).expect("readable");
        assert_eq!((back.details(), back.number()), (details, link.number()));
        assert_eq!(back.secrets().expose_secret(), secrets.expose_secret());
    }
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let details = r#"{"quality":{"a":[1]},"phoneNumberId":"1","businessAccountId":"2"}"#;
    let secrets = SecretString::from(r#"{"pin":"123456","accessToken":"a","verifyToken":"b"}"#);
    let link = Link::from_stored(details, &secrets).expect("readable");
    assert_eq!(
        (link.phone_number_id(), link.number(), link.app_secret().is_none()),
        ("1", &NumberInfo::default(), true)
    );
}

#[test]
fn an_unknown_stored_form_is_not_read() {
    let good = (link().details(), link().secrets());
    for details in ["", "{}", "[]", r#"{"phoneNumberId":"../me","businessAccountId":"2"}"#] {
        assert_eq!(Link::from_stored(details, &good.1).err(), Some(UnreadableLink::Details), "{details}");
    }
    for secrets in ["", "{}", r#"{"accessToken":"a b","verifyToken":"b"}"#, r#"{"accessToken":"a","verifyToken":""}"#] {
        let read = Link::from_stored(&good.0, &SecretString::from(secrets));
        assert_eq!(read.err(), Some(UnreadableLink::Secrets), "{secrets}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:?}", link(), link().secrets());
    for secret in &GOOD[2..] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn omitted_credentials_stay_as_they_were() {
    let former = link();
    let mut values = [Field::Absent, Field::Absent, Field::Absent, Field::Absent, Field::Absent];
    let same = Link::parse(&values, Some(&former)).expect("a good link");
    assert_eq!(same.details(), former.with_number(NumberInfo::default()).details(), "the number is read again");
    let former = link();
    assert_eq!(same.secrets().expose_secret(), former.secrets().expose_secret());
    values[2] = Field::from("outro");
    let renewed = Link::parse(&values, Some(&former)).expect("a good link");
    assert_eq!(renewed.access_token().expose_secret(), "outro");
    assert_eq!(renewed.verify_token().expose_secret(), former.verify_token().expose_secret());
    assert!(renewed.is_of_the_app_of(&former), "a new token keeps receipts");
    values[2] = Field::from("com espaço");
    assert!(Link::parse(&values, Some(&former)).is_err(), "a bad one does not fall back to the former");
}
