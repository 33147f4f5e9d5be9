//! The forms in which servers echo a credential: as it is, in base64 at every alignment, in
//! hexadecimal, percent-encoded as the common encoders do it, and escaped for JSON and HTML.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// A list of forms, wiped when dropped.
#[derive(Default)]
pub(super) struct Forms(Vec<Zeroizing<Vec<u8>>>);

/// Characters that an encoder leaves as they are, beside letters and digits.
const PERCENT_KEEPS: [&[u8]; 6] = [
    // RFC 3986 "unreserved".
    b"-._~",
    // encodeURIComponent.
    b"-_.!~*'()",
    // encodeURI.
    b"-_.!~*'();/?:@&=+$,#",
    // A path segment (RFC 3986 "pchar").
    b"-._~!$&'()*+,;=:@",
    FIELD_KEEPS,
    // A query string as servers build it by hand.
    b"-._~!$'()*,;:@/?",
];

/// The same for a form's field, in which a space becomes `+`.
const FIELD_KEEPS: &[u8] = b"*-._";

/// How HTML encoders write an apostrophe and a quotation mark.
const HTML_QUOTES: [(&[u8], &[u8]); 5] =
    [(b"&#39;", b"&quot;"), (b"&#x27;", b"&quot;"), (b"&#39;", b"&#34;"), (b"'", b"&quot;"), (b"'", b"\"")];

impl Forms {
    /// Adds the forms of a secret.
    pub(super) fn add(&mut self, secret: &[u8]) {
        self.add_text(secret);
        self.insert(percent(secret, |_| false));
        self.insert(hex(secret));
        for encoded in base64(secret) {
            self.add_text(&encoded);
        }
    }

    /// The forms, each once.
    pub(super) fn into_sorted(mut self) -> Vec<Zeroizing<Vec<u8>>> {
        self.0.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        self.0.dedup_by(|a, b| a.as_slice() == b.as_slice());
        self.0
    }

    fn insert(&mut self, form: Vec<u8>) {
        self.0.push(Zeroizing::new(form));
    }

    /// A text as it is and as URLs carry it, each of these also as JSON and HTML carry that.
    fn add_text(&mut self, text: &[u8]) {
        self.add_escaped(text);
        for keeps in PERCENT_KEEPS {
            self.add_escaped(&percent(text, |b| b.is_ascii_alphanumeric() || keeps.contains(&b)));
        }
        let mut field = percent(text, |b| b.is_ascii_alphanumeric() || b == b' ' || FIELD_KEEPS.contains(&b));
        field.iter_mut().filter(|b| **b == b' ').for_each(|b| *b = b'+');
        self.add_escaped(&field);
    }

    fn add_escaped(&mut self, text: &[u8]) {
        self.insert(text.to_vec());
        for (slash, markup) in [(false, false), (true, false), (false, true), (true, true)] {
            self.insert(json(text, slash, markup));
        }
        for (apostrophe, quote) in HTML_QUOTES {
            self.insert(html(text, apostrophe, quote));
        }
    }
}

fn percent(text: &[u8], keep: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 3);
    for byte in text {
        if keep(*byte) {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&hex_digits(*byte));
        }
    }
    out
}

/// Upper case; the automaton takes either.
fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn hex(text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|byte| hex_digits(*byte)).collect()
}

/// A JSON string's content. Some encoders escape the slash as well (PHP), and some what HTML gives a
/// meaning, as `\uXXXX` (Go).
fn json(text: &[u8], slash: bool, markup: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'/' if slash => out.extend_from_slice(b"\\/"),
            b'<' | b'>' | b'&' if markup => escape_unit(&mut out, *byte),
            0..=0x1f => escape_unit(&mut out, *byte),
            _ => out.push(*byte),
        }
    }
    out
}

fn escape_unit(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&hex_digits(byte));
}

fn html(text: &[u8], apostrophe: &[u8], quote: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(quote),
            b'\'' => out.extend_from_slice(apostrophe),
            _ => out.push(*byte),
        }
    }
    out
}

/// Base64 of the secret alone, with and without padding, and of its middle when it stands inside a
/// longer text: a base64 character holds six bits, so there are three alignments, and the characters
/// that its neighbours share are left out. Those show at most six bits of the first and last byte.
fn base64(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        STANDARD.encode(secret).into_bytes(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
    ];
    for before in 0..3 {
        let text = Zeroizing::new([&[0; 2][..before], secret].concat());
        // Characters that hold a bit of the text before, and those that are whole.
        let (first, whole) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&*text), URL_SAFE_NO_PAD.encode(&*text)] {
            forms.push(encoded.as_bytes()[first..whole].to_vec());
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
        let mut forms = Forms::default();
        forms.add(secret);
        forms.into_sorted().into_iter().map(|form| form.to_vec()).collect()
    }

    #[test]
    fn known_encodings_are_among_them() {
        let forms = forms(b"a/b c+d&e\"f'g?");
        for known in [
            "a/b c+d&e\"f'g?",
            "a%2Fb%20c%2Bd%26e%22f%27g%3F",
            "a%2Fb%20c%2Bd%26e%22f'g%3F",
            "a/b%20c+d&e%22f'g?",
            "a%2Fb+c%2Bd%26e%22f%27g%3F",
            "%61%2F%62%20%63%2B%64%26%65%22%66%27%67%3F",
            "a/b c+d&e\\\"f'g?",
            "a\\/b c+d&e\\\"f'g?",
            "a/b c+d\\u0026e\\\"f'g?",
            "a\\/b c+d\\u0026e\\\"f'g?",
            "a\\/b%20c+d\\u0026e%22f'g?",
            "a/b c+d&amp;e&quot;f&#39;g?",
            "a/b c+d&amp;e&#34;f&#39;g?",
            "612F6220632B642665226627673F",
            "YS9iIGMrZCZlImYnZz8=",
            "YS9iIGMrZCZlImYnZz8",
        ] {
            assert!(forms.iter().any(|form| form == known.as_bytes()), "{known}");
        }
    }

    #[test]
    fn base64_inside_a_longer_text_holds_a_form_at_every_alignment() {
        let secret = b"sk-canary-4711";
        let forms = base64(secret);
        for before in 0..7 {
            for after in 0..4 {
                let text = [&b"Bearer "[..before], secret, &b"\n}}}"[..after]].concat();
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let held =
                        forms.iter().any(|form| encoded.as_bytes().windows(form.len()).any(|w| w == form.as_slice()));
                    assert!(held, "{before} {after} {encoded}");
                }
            }
        }
    }

    #[test]
    fn every_form_is_as_long_as_it_must_be_to_mean_something() {
        let shortest = forms(b"12345678").iter().map(Vec::len).min();
        assert_eq!(shortest, Some(8));
    }
}
