//! Which names carry a credential.
//!
//! A name is cut into words at every character that is not a letter or digit and where a lower-case
//! letter is followed by an upper-case one. It is a carrier when one of its words is in [`WORDS`], has
//! a part of [`INSIDE`] or ends with one of [`ENDINGS`], when the name has a part of [`ANYWHERE`] or is
//! one of [`NAMES`], unless the whole name is in [`ALLOWED`].
//!
//! The exceptions are protocol fields and names of pages, counts and storage keys, which name a
//! position or an object and authenticate nobody. Not covered on purpose: names so common that they
//! say nothing (`code`, `state`, `id`, `ticket`), and sessions of a conversation (`Mcp-Session-Id`).

use std::sync::LazyLock;

/// Words that make a name a carrier.
const WORDS: &[&str] = &[
    "apikey",
    "auth",
    "authenticate",
    "authentication",
    "authn",
    "authorization",
    "authz",
    "bearer",
    "cred",
    "creds",
    "dpop",
    "hmac",
    "jsessionid",
    "jwt",
    "key",
    "mfa",
    "otp",
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "phpsessid",
    "psk",
    "pwd",
    "saml",
    "sas",
    "secret",
    "sig",
    "signature",
    "token",
    "totp",
];

/// Parts of a word that make it a carrier: keys in glued names (`xapikey`, `AWSAccessKeyId`).
const INSIDE: &[&str] = &[
    "accesskey",
    "accountkey",
    "apikey",
    "appkey",
    "authkey",
    "authtoken",
    "clientkey",
    "functionskey",
    "masterkey",
    "privatekey",
    "sharedkey",
    "subscriptionkey",
];

/// Parts of a name that make it a carrier wherever they stand, also cut in two by a separator or a
/// capital (`passWord`).
const ANYWHERE: &[&str] = &[
    "assertion",
    "authenticat",
    "authoriz",
    "bearer",
    "cookie",
    "credential",
    "passwd",
    "password",
    "secret",
    "signature",
];

/// Endings of a word that make it a carrier (`accesstoken`, `xauth`, `idjwt`).
const ENDINGS: &[&str] = &["token", "auth", "jwt", "pwd", "sessid"];

/// Whole names that are carriers though none of their words is.
const NAMES: &[&str] = &["connect-sid", "session", "sid", "x-session", "x-session-id", "x-sid"];

/// Whole names that are no carriers though one of their words is.
const ALLOWED: &[&str] = &[
    // Protocol fields.
    "idempotency-key",
    "x-idempotency-key",
    "sec-websocket-key",
    "surrogate-key",
    "cache-key",
    "x-cache-key",
    // Keys that a client brings to encrypt its own object; they open nothing at the upstream.
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
    "x-goog-encryption-key",
    "x-goog-encryption-key-sha256",
    "x-ms-encryption-key",
    "x-ms-encryption-key-sha256",
    // Positions in a list of results.
    "continuation-token",
    "continuationtoken",
    "cursor-token",
    "next-page-token",
    "nextpagetoken",
    "next-sync-token",
    "next-token",
    "nexttoken",
    "page-token",
    "pagetoken",
    "pagination-token",
    "paginationtoken",
    "skip-token",
    "skiptoken",
    "starting-token",
    "sync-token",
    "synctoken",
    "delta-token",
    "deltatoken",
    "key-marker",
    "start-key",
    "end-key",
    "last-key",
    "exclusive-start-key",
    // Objects and columns.
    "foreign-key",
    "group-key",
    "hash-key",
    "issue-key",
    "object-key",
    "order-key",
    "partition-key",
    "primary-key",
    "project-key",
    "range-key",
    "row-key",
    "sort-key",
    "token-count",
    "token-limit",
    "public-key",
];

/// Longest subprotocol that is passed on. The registered ones have under 40 characters; a token has
/// more.
const MAX_SUBPROTOCOL: usize = 64;

/// What every carrier has somewhere in its letters and digits: most names are done after this look.
const ROOTS: &[&str] = &[
    "auth",
    "key",
    "token",
    "secret",
    "cookie",
    "pass",
    "pwd",
    "cred",
    "sig",
    "jwt",
    "bearer",
    "assertion",
    "otp",
    "sess",
    "sid",
    "saml",
    "sas",
    "psk",
    "mfa",
    "hmac",
    "dpop",
];

/// Longest name of which the letters and digits are collected without an allocation.
const SHORT: usize = 64;

/// Whether a header or query parameter of this name could carry a credential of the client's own.
#[must_use]
pub fn is_carrier(name: &str) -> bool {
    if !has_root(name) {
        return false;
    }
    let words = words(name);
    // `$skipToken` and `page_token[]` are names too: empty words are not part of one.
    let whole = words.join("-");
    if ALLOWED.contains(&whole.as_str()) {
        return false;
    }
    let letters = words.concat();
    NAMES.contains(&whole.as_str())
        || ANYWHERE.iter().any(|part| letters.contains(part))
        || words.iter().any(|word| is_carrier_word(word))
}

fn has_root(name: &str) -> bool {
    let mut short = [0; SHORT];
    let mut length = 0;
    for byte in name.bytes().filter(u8::is_ascii_alphanumeric) {
        let Some(slot) = short.get_mut(length) else { return true };
        *slot = byte.to_ascii_lowercase();
        length += 1;
    }
    // One pass: at each letter only the roots that start with it are compared.
    (0..length).any(|at| {
        ROOTS_BY_LETTER[usize::from(short[at])].iter().any(|root| short[at..length].starts_with(root.as_bytes()))
    })
}

/// [`ROOTS`] by their first byte.
static ROOTS_BY_LETTER: LazyLock<[Vec<&str>; 256]> = LazyLock::new(|| {
    let mut table = [const { Vec::new() }; 256];
    for root in ROOTS {
        table[usize::from(root.as_bytes()[0])].push(*root);
    }
    table
});

fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || (lower && c.is_ascii_uppercase()) {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        lower = c.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_carrier_word(word: &str) -> bool {
    // `oauth2`, `key1`.
    let word = word.trim_matches(|c: char| c.is_ascii_digit());
    WORDS.contains(&word)
        || INSIDE.iter().any(|part| word.contains(part))
        || ENDINGS.iter().any(|end| word.ends_with(end))
}

/// Whether a WebSocket subprotocol carries a credential.
pub(super) fn is_subprotocol_carrier(protocol: &str) -> bool {
    protocol.len() > MAX_SUBPROTOCOL || protocol.starts_with("eyJ") || is_carrier(protocol)
}

/// Whether a subprotocol announces that the next one is a credential (`bearer, VALUE`).
pub(super) fn takes_next(protocol: &str) -> bool {
    !protocol.contains('.') && is_carrier(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_carrier_has_a_root() {
        for name in [WORDS, INSIDE, ANYWHERE, ENDINGS, NAMES].concat() {
            assert!(has_root(name), "{name} is in a list but none of ROOTS is in it");
        }
    }

    #[test]
    fn every_exception_is_needed() {
        for name in ALLOWED {
            let words = words(name);
            assert!(words.iter().any(|word| is_carrier_word(word)), "{name} would pass without its entry");
        }
    }

    #[test]
    fn a_name_longer_than_the_quick_look_is_judged_too() {
        assert!(is_carrier(&format!("{}-token", "a".repeat(2 * SHORT))));
        assert!(!is_carrier(&"a".repeat(2 * SHORT)));
    }
}
