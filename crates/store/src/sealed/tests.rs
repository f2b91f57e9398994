use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const HERE: Place = Place::Link(7);
const OLD: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

fn ring(text: &str) -> KeyRing {
    KeyRing::parse(text).expect("keys")
}

fn seal(ring: &KeyRing, plain: &[u8]) -> Vec<u8> {
    ring.seal(HERE, plain, &Counted).expect("a key")
}

fn error(result: Result<SecretSlice<u8>, SealError>) -> SealError {
    result.expect_err("it must not open")
}

/// Never the same bytes.
struct Counted;

impl Entropy for Counted {
    fn fill(&self, _: &mut [u8]) {
        panic!("a nonce is drawn as a secret is");
    }

    fn fill_secret(&self, bytes: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        bytes.iter_mut().zip(number.into_iter().cycle()).for_each(|(byte, part)| *byte = part);
    }
}

/// Always the same bytes, so that sealed bytes can be compared.
struct Sevens;

impl Entropy for Sevens {
    fn fill(&self, _: &mut [u8]) {
        panic!("a nonce is drawn as a secret is");
    }

    fn fill_secret(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// The bytes are of another implementation, written from draft-irtf-cfrg-xchacha and RFC 8439.
#[test]
fn the_form_stays() {
    let sealed = ring(OLD).seal(HERE, b"token", &Sevens).expect("a key");
    let mut shown = String::new();
    write_hex(&sealed, &mut shown).expect("a String accepts any text");
    assert_eq!(
        shown,
        "01c0ff1ad08bd9c33b07070707070707070707070707070707070707070707070792d030bd30e4aff4272aeb029aa14ce6b5774695b1"
    );
}

#[test]
fn sealed_bytes_open() {
    let ring = ring(NEW);
    for plain in [&b""[..], b"x", &[0; 10_000]] {
        let sealed = seal(&ring, plain);
        assert_eq!(sealed.len(), HEAD + NONCE + plain.len() + TAG);
        assert_eq!(ring.open(HERE, &sealed).expect("it opens").expose_secret(), plain);
    }
    assert_ne!(seal(&ring, b"twice"), seal(&ring, b"twice"), "a nonce is used once");
}

#[test]
fn no_bit_of_it_may_change() {
    let ring = ring(NEW);
    let sealed = seal(&ring, b"token");
    for place in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[place] ^= 1 << bit;
            let refused = error(ring.open(HERE, &changed));
            match place {
                0 => assert_eq!(refused, SealError::UnknownForm),
                1..HEAD => assert!(matches!(refused, SealError::KeyMissing(_)), "{refused:?}"),
                _ => assert_eq!(refused, SealError::Tampered),
            }
        }
    }
    for length in 0..sealed.len() {
        assert_eq!(error(ring.open(HERE, &sealed[..length])), SealError::Tampered, "{length}");
    }
    assert_eq!(error(ring.open(HERE, &[&sealed[..], &[0]].concat())), SealError::Tampered);
}

#[test]
fn bytes_that_were_moved_to_another_row_do_not_open() {
    let ring = ring(NEW);
    let sealed = seal(&ring, b"token");
    for elsewhere in [Place::Link(8), Place::Link(70), Place::Link(-7)] {
        assert_eq!(error(ring.open(elsewhere, &sealed)), SealError::Tampered, "{elsewhere}");
    }
}

#[test]
fn the_first_key_seals_and_all_of_them_open() {
    let (old, both) = (ring(OLD), ring(&format!("{NEW} {OLD}")));
    let sealed = seal(&old, b"token");
    assert_eq!(both.open(HERE, &sealed).expect("the old key is there").expose_secret(), b"token");
    assert_eq!(both.first(), ring(NEW).first());

    let resealed = both.reencrypt(HERE, &sealed, &Counted).expect("it opens").expect("it is of the old key");
    assert_eq!(ring(NEW).open(HERE, &resealed).expect("the new key alone").expose_secret(), b"token");
    assert_eq!(both.reencrypt(HERE, &resealed, &Counted), Ok(None), "it is done");
    assert_eq!(error(old.open(HERE, &resealed)), SealError::KeyMissing(both.first().expect("a key")));
}

#[test]
fn a_missing_key_is_named() {
    let id = ring(OLD).first().expect("a key");
    assert_eq!(id.to_string().len(), 16);
    let refused = error(ring(NEW).open(HERE, &seal(&ring(OLD), b"token")));
    assert_eq!(refused, SealError::KeyMissing(id));
    assert!(refused.to_string().contains(&id.to_string()) && refused.reason().contains(&id.to_string()));

    let none = KeyRing::default();
    assert!(none.is_empty());
    assert_eq!(none.seal(HERE, b"", &Counted), Err(SealError::NoKey));
    assert_eq!(error(none.open(HERE, &seal(&ring(OLD), b"token"))), SealError::NoKey);
}

#[test]
fn keys_are_read_as_people_write_them() {
    let id = |text: &str| ring(text).0.iter().map(|key| key.id).collect::<Vec<_>>();
    let old = id(OLD);
    for same in [
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        &OLD.to_uppercase(),
        &format!("\n {OLD}\r\n"),
        &format!(",{OLD},"),
        // As editors on Windows write a file.
        &format!("\u{feff}{OLD}\r\n"),
    ] {
        assert_eq!(id(same), old, "{same}");
    }
    let two = [id(NEW), old].concat();
    for between in [",", " ", "\n", ", ", "\t,\r\n"] {
        assert_eq!(id(&format!("{NEW}{between}{OLD}")), two, "{between:?}");
    }
    for (text, refused) in [
        ("", BadKey::None),
        (" ,\n", BadKey::None),
        ("secret", BadKey::Malformed(1)),
        (&OLD[1..], BadKey::Malformed(1)),
        (&format!("{OLD}0"), BadKey::Malformed(1)),
        (&OLD.replace('a', "g"), BadKey::Malformed(1)),
        (&OLD.replace("00", "+0"), BadKey::Malformed(1)),
        (&OLD.replace("00", "é"), BadKey::Malformed(1)),
        (&format!("{OLD};{NEW}"), BadKey::Malformed(1)),
        (&format!("{NEW},AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="), BadKey::Malformed(2)),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", BadKey::Malformed(1)),
    ] {
        assert_eq!(KeyRing::parse(text).expect_err(text), refused, "{text}");
    }
}

#[test]
fn a_new_key_is_one() {
    let [one, two] = [(); 2].map(|()| new_key(&Counted));
    assert_ne!(ring(one.expose_secret()).first(), ring(two.expose_secret()).first());
    assert_eq!(new_key(&Sevens).expose_secret(), "07".repeat(KEY));
}

#[test]
fn debug_shows_no_key_and_no_secret() {
    let ring = ring(OLD);
    let plain = ring.open(HERE, &seal(&ring, b"token")).expect("it opens");
    let shown = format!("{ring:?} {plain:?}");
    assert!(shown.contains("REDACTED") && shown.contains(&ring.first().expect("a key").to_string()), "{shown}");
    assert!(!shown.contains("0, 1, 2") && !shown.contains("116, 111") && !shown.contains("token"), "{shown}");
}

#[test]
fn a_row_of_a_session_has_its_place() {
    let place = Place::Session { channel: 7, session: 0, kind: 3, key: b"a/\xff" };
    assert_eq!(
        place.to_string(),
        "session_rows/7/3/612fff",
        "it is part of what is sealed, from before there were numbers"
    );
    let third = Place::Session { channel: 7, session: 2, kind: 3, key: b"a/\xff" };
    assert_eq!(third.to_string(), "session_rows/7/session 2/3/612fff", "it is part of what is sealed");
    let ring = ring(NEW);
    let others =
        [(8, 0, 3, &b"a/\xff"[..]), (7, 1, 3, b"a/\xff"), (7, 0, 4, b"a/\xff"), (7, 0, 3, b"a/"), (7, 0, 3, b"")];
    for place in [place, third] {
        let sealed = ring.seal(place, b"session", &Counted).expect("a key");
        assert_eq!(ring.open(place, &sealed).expect("it opens").expose_secret(), b"session");
        for (channel, session, kind, key) in others {
            let other = Place::Session { channel, session, kind, key };
            assert_eq!(error(ring.open(other, &sealed)), SealError::Tampered);
        }
    }
}
