use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header;
use proptest::prelude::*;

const SECRET: &[u8] = b"sk-canary/4711+x=&y";

fn whole(redactor: &Redactor, body: &[u8]) -> Vec<u8> {
    let mut stream = redactor.stream();
    let mut out = stream.push(Bytes::copy_from_slice(body)).to_vec();
    out.extend_from_slice(&stream.finish());
    out
}

fn text(redactor: &Redactor, body: &str) -> String {
    String::from_utf8(whole(redactor, body.as_bytes())).unwrap()
}

#[test]
fn class15_an_echo_is_masked_in_its_length_and_the_rest_stays() {
    let redactor = Redactor::new(SECRET).unwrap();
    assert_eq!(text(&redactor, "a sk-canary/4711+x=&y b"), "a ******************* b");
    assert_eq!(text(&redactor, "SK-CANARY/4711+X=&Y"), "*".repeat(19));
    assert_eq!(text(&redactor, "{\"k\":\"sk-canary\\/4711+x=\\u0026y\"}"), format!("{{\"k\":\"{}\"}}", "*".repeat(25)));
    assert_eq!(text(&redactor, "?k=sk-canary%2f4711%2Bx%3D%26y&z"), format!("?k={}&z", "*".repeat(27)));
    assert_eq!(text(&redactor, "sk-canary/4711+x=&amp;y"), "*".repeat(23));
    assert_eq!(text(&redactor, "sk-canary"), "sk-canary");
}

#[test]
fn class15_base64_of_a_header_that_holds_it_is_masked() {
    let redactor = Redactor::new(SECRET).unwrap();
    for prefix in ["", "x", "xy", "Bearer ", "Authorization: Bearer "] {
        let line = [prefix.as_bytes(), SECRET, b"\r\nhost: x"].concat();
        for encoded in [STANDARD.encode(&line), URL_SAFE_NO_PAD.encode(&line)] {
            let redacted = text(&redactor, &encoded);
            assert_eq!(redacted.len(), encoded.len());
            assert!(redacted.matches('*').count() >= SECRET.len() * 4 / 3 - 2, "{prefix:?}: {redacted}");
        }
    }
}

#[test]
fn class15_basic_hides_the_pair_and_the_password() {
    let redactor = Redactor::basic("billing", b"canary-4711").unwrap();
    let header = format!("Basic {}", STANDARD.encode("billing:canary-4711"));
    assert_eq!(text(&redactor, &header), format!("Basic {}", "*".repeat(header.len() - 6)));
    assert_eq!(text(&redactor, "billing canary-4711"), "billing ***********");
    assert_eq!(Redactor::basic("a-long-user-name", b"short").unwrap_err(), RedactError::TooShort(5));
}

#[test]
fn the_bounds_are_stated_and_the_value_is_not() {
    assert_eq!(Redactor::new(b"1234567").unwrap_err(), RedactError::TooShort(7));
    assert_eq!(Redactor::new(&vec![b'a'; 2 * MAX_SECRET + 1]).unwrap_err(), RedactError::TooLong(2 * MAX_SECRET + 1));
    assert!(Redactor::new(&vec![b'a'; MAX_SECRET]).is_ok());
    let all = RedactError::NoMask;
    assert_eq!(Redactor::new(&[MASKS, b"abc"].concat()).unwrap_err(), all);
    assert_eq!(format!("{:?}", Redactor::new(SECRET).unwrap()), "Redactor(..)");
}

#[test]
fn an_event_that_begins_no_form_is_passed_on_at_once_and_not_copied() {
    let redactor = Redactor::new(b"zq-canary-4711").unwrap();
    let mut stream = redactor.stream();
    let event = Bytes::from_static(b"data: hello\n\n");
    let out = stream.push(event.clone());
    assert_eq!(out.as_ptr(), event.as_ptr());
    assert_eq!(out, event);
    assert_eq!(stream.push(Bytes::from_static(b"data: zq-can")), "data: ");
    assert_eq!(stream.push(Bytes::from_static(b"ary-4711\n\n")), "**************\n\n");
    assert_eq!(stream.push(Bytes::from_static(b"zq-")), "");
    assert_eq!(stream.finish(), "zq-");
}

#[test]
fn a_mask_never_spells_a_form_again() {
    let redactor = Redactor::new(b"****abcd").unwrap();
    let redacted = text(&redactor, "****abcdabcd");
    assert_eq!(redacted, "########abcd");
    assert_eq!(text(&redactor, "********"), "********");
    let same = Redactor::new(b"********").unwrap();
    assert_eq!(text(&same, "-**********-"), "-##########-");
}

#[test]
fn class15_headers_are_redacted_and_a_name_that_holds_it_goes() {
    let redactor = Redactor::new(b"canary-4711").unwrap();
    let mut fields = HeaderMap::new();
    fields.insert(header::LOCATION, HeaderValue::from_static("https://x/?k=canary-4711"));
    fields.append(header::SET_COOKIE, HeaderValue::from_static("a=b"));
    fields.append(header::SET_COOKIE, HeaderValue::from_static("t=canary-4711; Secure"));
    fields.insert("x-canary-4711", HeaderValue::from_static("1"));
    redactor.stream().redact_headers(&mut fields);
    assert_eq!(fields[header::LOCATION], "https://x/?k=***********");
    let cookies: Vec<_> = fields.get_all(header::SET_COOKIE).iter().collect();
    assert_eq!(cookies, ["a=b", "t=***********; Secure"]);
    assert!(!fields.contains_key("x-canary-4711"));
    assert_eq!(redactor.redact_header(&HeaderValue::from_static("plain")), None);
}

#[test]
fn overlapping_occurrences_are_covered_whole() {
    let redactor = Redactor::new(b"abababab").unwrap();
    assert_eq!(text(&redactor, "xabababababax"), "x**********ax");
    assert_eq!(text(&redactor, "abababaabababab"), "abababa********");
}

/// Every occurrence of every form, by looking at every place.
fn reference(redactor: &Redactor, secrets: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut forms = forms::Forms::default();
    for secret in secrets {
        forms.add(secret);
    }
    let mut out = body.to_vec();
    for form in forms.into_sorted() {
        for at in 0..=body.len().saturating_sub(form.len()) {
            if body.len() >= form.len() && body[at..at + form.len()].eq_ignore_ascii_case(&form) {
                out[at..at + form.len()].fill(redactor.0.mask);
            }
        }
    }
    out
}

/// Secrets that overlap themselves and their encodings.
fn secret() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(prop::sample::select(b"ab".to_vec()), 8..14),
        proptest::collection::vec(prop::sample::select(b"aA/+%=&\"<' *".to_vec()), 8..14),
        proptest::collection::vec(0x20u8..=0x7e, 8..24),
    ]
}

/// Bodies made of pieces of forms, so that beginnings and near misses are common.
fn body(secret: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let mut forms = forms::Forms::default();
    forms.add(secret);
    let forms: Vec<Vec<u8>> = forms.into_sorted().into_iter().map(|form| form.to_vec()).collect();
    let piece = (prop::sample::select(forms), any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8)
        .prop_map(|(form, from, to, whole)| {
            let (from, to) = (from.index(form.len()), to.index(form.len() + 1));
            if whole == 0 { form } else { form[from.min(to)..from.max(to)].to_vec() }
        });
    let noise = proptest::collection::vec(any::<u8>(), 0..4);
    proptest::collection::vec(prop_oneof![3 => piece, 1 => noise], 0..10).prop_map(|pieces| pieces.concat())
}

fn case() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<prop::sample::Index>)> {
    secret().prop_flat_map(|secret| {
        let body = body(&secret);
        (Just(secret), body, proptest::collection::vec(any::<prop::sample::Index>(), 0..12))
    })
}

proptest! {
    #[test]
    fn class15_any_division_into_chunks_gives_what_the_reference_gives((secret, body, cuts) in case()) {
        let redactor = match Redactor::new(&secret) {
            Ok(redactor) => redactor,
            Err(error) => {
                prop_assert_eq!(error, RedactError::NoMask);
                return Ok(());
            }
        };
        let expected = reference(&redactor, &[&secret], &body);
        prop_assert_eq!(&whole(&redactor, &body), &expected);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        for pair in cuts.windows(2) {
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&body[pair[0]..pair[1]])));
        }
        out.extend_from_slice(&stream.finish());
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(&reference(&redactor, &[&secret], &out), &out, "the output holds no form");
    }

    #[test]
    fn only_a_beginning_of_a_form_is_held_back((secret, body, _) in case()) {
        let Ok(redactor) = Redactor::new(&secret) else { return Ok(()) };
        let mut all = forms::Forms::default();
        all.add(&secret);
        let forms = all.into_sorted();
        let mut stream = redactor.stream();
        let passed = stream.push(Bytes::copy_from_slice(&body)).len();
        let longest = (0..=body.len())
            .find(|at| {
                let end = &body[*at..];
                forms.iter().any(|form| form.len() >= end.len() && form[..end.len()].eq_ignore_ascii_case(end))
            })
            .unwrap_or(body.len());
        prop_assert_eq!(passed, longest);
    }
}
