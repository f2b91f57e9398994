//! Invalid fields: every text of the contract's table, all of them in one answer, one entry a field.

use super::{GOOD, assert_stored, body_with, body_without};
use crate::v1::{CARD, Stage, assert_faults};

const TO_MISSING: (&str, &str) = ("to", "O numero do destinatario e obrigatorio.");
const TO_MALFORMED: (&str, &str) = ("to", "O numero do destinatario deve estar no formato DDI+DDD+NUM.");
const NAME_MISSING: (&str, &str) = ("name", "O nome do contato e obrigatorio.");
const PHONE_MISSING: (&str, &str) = ("phone", "O telefone do contato e obrigatorio.");
const PHONE_MALFORMED: (&str, &str) = ("phone", "O telefone do contato deve estar no formato DDI+DDD+NUM.");
const EMAIL: (&str, &str) = ("email", "O email do contato e invalido.");
const UNKNOWN: &str = "Campo desconhecido.";
const REPEATED: &str = "Campo repetido.";

const FIELDS: [&str; 5] = ["to", "name", "phone", "email", "organization"];

#[test]
fn a_required_field_must_be_there() {
    let stage = Stage::set();
    for missing in [TO_MISSING, NAME_MISSING, PHONE_MISSING] {
        let (field, _) = missing;
        let empty = ["null", r#""""#, r#""  ""#, r#""\t\n""#, r#""\u00a0\u3000""#];
        let bodies = empty.iter().map(|value| body_with(field, value)).chain([body_without(field)]);
        for body in bodies {
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[missing]);
        }
    }
    assert_faults("{}", &stage.send("sandbox", &[], "{}"), &[TO_MISSING, NAME_MISSING, PHONE_MISSING]);
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_field_is_a_string() {
    let stage = Stage::set();
    for field in FIELDS {
        for value in ["5511999998888", "0", "1.5", "true", "false", "[]", "{}", r#"["5511999998888"]"#, r#"{"a":"b"}"#]
        {
            let body = body_with(field, value);
            let text = format!("O campo {field} deve ser uma string.");
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[(field, &text)]);
        }
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_field_that_is_not_listed_is_refused_by_name() {
    let stage = Stage::set();
    for name in ["mail", "To", "NAME", "organisation", "", " name", "título", "a\"b\\c", "x\ny", "🙂"] {
        let key = serde_json::to_string(name).expect("JSON");
        for value in ["null", "1", r#""x""#, r#"{"to":1}"#] {
            let body = format!("{},{key}:{value}}}", &CARD[..CARD.len() - 1]);
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[(name, UNKNOWN)]);
        }
    }
    // A field that is repeated is still one field.
    let body = format!(r#"{},"x":1,"y":2,"x":3}}"#, &CARD[..CARD.len() - 1]);
    assert_faults(&body, &stage.send("sandbox", &[], &body), &[("x", UNKNOWN), ("y", UNKNOWN)]);
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn a_field_given_twice_is_refused_once() {
    let stage = Stage::set();
    for (field, first) in GOOD.into_iter().chain([("email", r#""a@b.co""#), ("organization", r#""Acme""#)]) {
        for second in [first, "null", "1", r#""other""#] {
            let body = format!("{},\"{field}\":{second}}}", body_with(field, first).trim_end_matches('}'));
            assert_faults(&body, &stage.send("sandbox", &[], &body), &[(field, REPEATED)]);
        }
        let thrice = format!("{{\"{field}\":null,\"{field}\":1,{}", &body_with(field, first)[1..]);
        assert_faults(&thrice, &stage.send("sandbox", &[], &thrice), &[(field, REPEATED)]);
    }
    // The same name, once with an escape.
    let escaped = format!(r#"{},"nam\u0065":"Joana"}}"#, &CARD[..CARD.len() - 1]);
    assert_faults(&escaped, &stage.send("sandbox", &[], &escaped), &[("name", REPEATED)]);
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn all_errors_are_in_one_answer_in_the_order_of_the_table() {
    let stage = Stage::set();
    let organization = ("organization", "O campo organization deve ser uma string.");
    let long = "A organizacao do contato deve ter no maximo 200 caracteres.";
    let too_long = format!(r#"{{"organization":"{}","TO":"5511999998888","email":"@"}}"#, "x".repeat(201));
    let name = ("name", "O nome do contato contem caracteres invalidos.");
    for (body, expected) in [
        (
            r#"{"zz":1,"organization":5,"email":"x","phone":"1","name":" ","to":"abc","aa":2,"zz":3}"#,
            &[TO_MALFORMED, NAME_MISSING, PHONE_MALFORMED, EMAIL, organization, ("zz", UNKNOWN), ("aa", UNKNOWN)][..],
        ),
        (&*too_long, &[TO_MISSING, NAME_MISSING, PHONE_MISSING, EMAIL, ("organization", long), ("TO", UNKNOWN)]),
        (
            r#"{"name":"a\u0000b","name2":null,"phone":"5511988887777","to":null,"phone":"5511988887777"}"#,
            &[TO_MISSING, name, ("phone", REPEATED), ("name2", UNKNOWN)],
        ),
    ] {
        assert_faults(body, &stage.send("sandbox", &[], body), expected);
    }
    assert_stored(&stage, "sandbox", 0);
}

#[test]
fn unknown_fields_can_be_ignored_and_are_named() {
    let stage = Stage::with(&["--unknown-fields", "ignore"]);
    let start = &CARD[..CARD.len() - 1];
    for (more, named) in [
        (r#","tittle":"Dr.""#, "tittle"),
        (r#","zz":1,"aa":{"to":1},"zz":null"#, "zz, aa"),
        // A header must stay one header, whatever the names are.
        (r#","a\r\nX-Evil: 1":1,"ç,":2"#, "a%0D%0AX-Evil%3A%201, %C3%A7%2C"),
    ] {
        let answer = stage.send("sandbox", &[], &format!("{start}{more}}}")).expect(202);
        assert_eq!(answer.header("X-Ignored-Fields"), Some(named));
        assert_eq!(answer.header("X-Evil"), None);
        assert_eq!(stage.data(&crate::v1::location(&answer))["contact"]["name"], "Maria Silva - Suporte");
    }
    assert_eq!(stage.send("sandbox", &[], CARD).expect(202).header("X-Ignored-Fields"), None);
    let endless: Vec<_> = (0..2_000).map(|number| format!(r#","field{number}":1"#)).collect();
    let answer = stage.send("sandbox", &[], &format!("{start}{}}}", endless.concat())).expect(202);
    let named = answer.header("X-Ignored-Fields").expect("the names");
    assert!(named.starts_with("field0, field1, ") && named.len() < 4_096, "{} bytes", named.len());
    // Known fields follow the same rules.
    for (body, expected) in [
        (r#"{"to":"5511999998888","name":"","phone":"5511988887777","x":1}"#, NAME_MISSING),
        (r#"{"to":"5511999998888","nome":"Maria","phone":"5511988887777"}"#, NAME_MISSING),
        (r#"{"to":"5511999998888","name":"a","name":"b","phone":"5511988887777","x":1}"#, ("name", REPEATED)),
    ] {
        assert_faults(body, &stage.send("sandbox", &[], body), &[expected]);
    }
}
