//! Strict JSON: every error tells what and where, and what is accepted has the one value it stands for.

use clawlock_policy::json;
use serde_json::{Value, json};

fn refusal(text: &[u8]) -> (String, usize, usize) {
    let error = json::parse(text).expect_err("it is refused");
    (error.reason, error.line, error.column)
}

#[test]
fn an_error_tells_what_and_where() {
    for (text, reason, line, column) in [
        ("", "the text ends where a JSON value is expected", 1, 1),
        ("  ", "the text ends where a JSON value is expected", 1, 3),
        ("\n\n ", "the text ends where a JSON value is expected", 3, 2),
        ("[1,\n2,\n x]", "expected a JSON value", 3, 2),
        ("[nul]", "expected a JSON value", 1, 2),
        ("\t?", "expected a JSON value", 1, 2),
        ("[1 2]", "expected ',' or ']'", 1, 4),
        ("[1", "expected ',' or ']'", 1, 3),
        ("{\"a\" 1}", "expected ':'", 1, 6),
        ("{\"a\":1 \"b\"}", "expected ',' or '}'", 1, 8),
        ("{a}", "expected a member name in double quotes", 1, 2),
        ("{\"a\":1,}", "expected a member name in double quotes", 1, 8),
        ("{\"a\":1,\n \"b\":2,\r\n\"a\":3}", "the member \"a\" appears twice", 3, 1),
        ("[\"ab", "the text ends inside a string", 1, 5),
        ("\"a\tb\"", "a string has a control character that is not escaped", 1, 3),
        ("\"a\u{1f}\"", "a string has a control character that is not escaped", 1, 3),
        ("\"ab\\x\"", "a string has an unknown escape", 1, 5),
        ("\"\\", "a string has an unknown escape", 1, 3),
        ("\"\\u12g4\"", "expected four hexadecimal digits after \\u", 1, 8),
        ("\"\\u+123\"", "expected four hexadecimal digits after \\u", 1, 8),
        ("\"\\ud800\"", "a string has half of a surrogate pair", 1, 8),
        ("\"\\ud800\\n\"", "a string has half of a surrogate pair", 1, 9),
        ("\"\\ud800u0041\"", "a string has half of a surrogate pair", 1, 8),
        ("\"\\ud800\\u0041\"", "a string has half of a surrogate pair", 1, 14),
        ("\"\\ud800\\ue000\"", "a string has half of a surrogate pair", 1, 14),
        ("\"\\udfff\"", "a string has half of a surrogate pair", 1, 8),
        ("-", "expected a digit", 1, 2),
        ("-x", "expected a digit", 1, 2),
        ("1.", "expected a digit", 1, 3),
        ("1.e5", "expected a digit", 1, 3),
        ("1e", "expected a digit", 1, 3),
        ("1e+", "expected a digit", 1, 4),
        ("1e-+5", "expected a digit", 1, 4),
        ("00", "a number starts with 0", 1, 2),
        ("-01", "a number starts with 0", 1, 3),
        ("[18446744073709551616]", "a number does not fit 64 bits", 1, 2),
        ("[-9223372036854775809]", "a number does not fit 64 bits", 1, 2),
        ("\n [1e999]", "a number does not fit 64 bits", 2, 3),
        ("1 2", "there is more text behind the value", 1, 3),
        ("{}\n]", "there is more text behind the value", 2, 1),
    ] {
        assert_eq!(refusal(text.as_bytes()), (reason.to_owned(), line, column), "{text:?}");
    }
    assert_eq!(refusal(b"[\n\"a\xff\"]"), ("the text is not UTF-8".to_owned(), 2, 3));
}

#[test]
fn what_is_accepted_has_the_value_that_others_read() {
    for text in [
        "0",
        "-1",
        "7",
        "10",
        "1234567890",
        "9223372036854775808",
        "18446744073709551615",
        "-9223372036854775808",
        "0.5",
        "-0.5",
        "10.25",
        "1.0",
        "1e5",
        "1E5",
        "1e+5",
        "1e-5",
        "12.5E-03",
        "0e0",
        "-1.5e2",
        "true",
        "false",
        "null",
        "\"\"",
        "\"a\u{7f} \u{20ac}\"",
        r#""\"\\\/\b\f\n\r\t""#,
        r#""a\"b\\c\/d\be\ff\ng\rh\ti\u004aj""#,
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "\r\n\t [ 1 , [ ] , { \"a\" : 1 , \"b\" : [ 2 ] } ] \r\n\t ",
        "[true,false,null,\"x\",1,-1,1.5,[],{}]",
    ] {
        assert_eq!(json::parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
    }
    assert_eq!(json::parse(b"-0").unwrap(), json!(0), "an integer, whatever its sign");
}

#[test]
fn every_escape_stands_for_its_character() {
    for code in (0..0xd800_u32).chain(0xe000..0x1_0000) {
        let expected = Value::String(char::from_u32(code).unwrap().into());
        assert_eq!(json::parse(format!("\"\\u{code:04x}\"").as_bytes()).unwrap(), expected);
    }
    for code in ["\u{10000}", "\u{103ff}", "\u{10400}", "\u{1f600}", "\u{abcde}", "\u{10fc00}", "\u{10ffff}"] {
        let pair: String = code.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        assert_eq!(json::parse(format!("\"a{pair}b\"").as_bytes()).unwrap(), Value::String(format!("a{code}b")));
    }
}

#[test]
fn a_repeated_name_is_found_among_few_and_among_many() {
    for count in 1..40 {
        let members: Vec<String> = (0..count).map(|n| format!("\"n{n}\":{n}")).collect();
        let object = |more: &str| format!("{{{}{more}}}", members.join(","));
        assert_eq!(json::parse(object("").as_bytes()).unwrap().as_object().unwrap().len(), count);
        for again in 0..count {
            let text = object(&format!(",\"n{again}\":0"));
            let (reason, line, column) = refusal(text.as_bytes());
            assert_eq!(reason, format!("the member \"n{again}\" appears twice"), "of {count}");
            assert_eq!((line, column), (1, object("").len() + 1));
        }
    }
}

#[test]
fn a_name_in_an_error_is_shortened_and_quoted() {
    let twice = |name: &str| refusal(format!("{{\"{name}\":1,\"{name}\":2}}").as_bytes()).0;
    let (short, long) = ("n".repeat(64), "n".repeat(65));
    assert_eq!(twice(&short), format!("the member \"{short}\" appears twice"));
    assert_eq!(twice(&long), format!("the member \"{short}…\" appears twice"));
    assert_eq!(twice("a\\nb"), "the member \"a\\nb\" appears twice", "no line of its own");
}
