//! Recorded shapes of all three interfaces, whole and streamed, cut anywhere; conversations that behave, and
//! that do not.

mod conversations;
mod shapes;

use serde_json::{Value, json};

use super::{AnswerReader, Api, Arguments, Asked, RequestReader, Said, Unreadable};

const APIS: [Api; 3] = [Api::ChatCompletions, Api::Responses, Api::Messages];

fn arguments(value: &Value) -> Option<Arguments> {
    Some(Arguments::of(value))
}

/// Reads a request in chunks of these sizes, over and over.
fn request(api: Api, bytes: &[u8], sizes: &[usize]) -> Result<Vec<Said>, Unreadable> {
    let mut reader = RequestReader::new(api);
    let mut said = Vec::new();
    for chunk in chunks(bytes, sizes) {
        said.extend(reader.push(chunk)?);
    }
    reader.finish()?;
    Ok(said)
}

fn answer(mut reader: AnswerReader, bytes: &[u8], sizes: &[usize]) -> Result<Vec<Asked>, Unreadable> {
    let mut asked = Vec::new();
    for chunk in chunks(bytes, sizes) {
        asked.extend(reader.push(chunk)?);
    }
    asked.extend(reader.finish()?);
    Ok(asked)
}

fn chunks<'a>(mut bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(bytes.len(), |size| (*size).max(1)).min(bytes.len());
        let (chunk, rest) = bytes.split_at(size);
        bytes = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The same, whichever way it is cut.
fn same_however_cut<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: impl Fn(&[usize]) -> T) -> T {
    let whole = read(&[]);
    for at in 1..bytes.len() {
        assert_eq!(read(&[at, bytes.len()]), whole, "cut at {at}");
    }
    for size in [1, 2, 3, 7] {
        assert_eq!(read(&[size]), whole, "chunks of {size}");
    }
    whole
}

#[test]
fn fuzz_llm_request() {
    bolero::check!().with_type::<(u8, Vec<u8>, Vec<u8>)>().for_each(|(api, bytes, sizes)| {
        let api = APIS[usize::from(*api) % 3];
        let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size)).collect();
        assert_eq!(request(api, bytes, &sizes), request(api, bytes, &[]));
        if request(api, bytes, &[]).is_ok() {
            // What is read here is JSON that has one reading; only doubles that the engine spells otherwise differ.
            assert!(serde_json::from_slice::<Value>(bytes).is_ok());
        }
    });
}

#[test]
fn fuzz_llm_answer() {
    bolero::check!().with_type::<(u8, bool, Vec<u8>, Vec<u8>)>().for_each(|(api, streamed, bytes, sizes)| {
        let api = APIS[usize::from(*api) % 3];
        let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size)).collect();
        let reader = || if *streamed { AnswerReader::events(api) } else { AnswerReader::json(api) };
        // Of two reasons to refuse, one chunk may show the other one first.
        assert_eq!(answer(reader(), bytes, &sizes).ok(), answer(reader(), bytes, &[]).ok());
    });
}

#[test]
fn what_has_more_than_one_reading_is_refused() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let long_id = json!({"messages": [{"role": "tool", "tool_call_id": "x".repeat(5000), "content": ""}]}).to_string();
    let many: Vec<Value> = (0..20_000).map(|n| json!({"role": "tool", "tool_call_id": n.to_string()})).collect();
    for (text, reason) in [
        ("", "ends too early"),
        ("[]", "another type"),
        ("{}{}", "behind"),
        (r#"{"messages":[]"#, "ends too early"),
        (r#"{"messages":[],"messages":[]}"#, "twice"),
        (r#"{"messages":[],"m\u0065ssages":[]}"#, "twice"),
        (r#"{"messages":[{"role":"tool","tool_call_id":"a","tool_call_id":"b"}]}"#, "twice"),
        (r#"{"messages":[{"role":"user","content":"\ud83e"}]}"#, "half of a surrogate pair"),
        (r#"{"messages":[{"role":"user","content":"\udd9e"}]}"#, "half of a surrogate pair"),
        (r#"{"messages":[{"role":"user","content":"\ud83ex"}]}"#, "half of a surrogate pair"),
        ("{\"messages\":\"\0\"}", "control character"),
        (r#"{"messages":{"0":{"role":"tool"}}}"#, "another type"),
        (r#"{"messages":[[]]}"#, "another type"),
        (r#"{"messages":[{"role":"tool","content":"x"}]}"#, "no id"),
        (r#"{"messages":[{"role":"tool","tool_call_id":5,"content":"x"}]}"#, "another type"),
        (r#"{"messages":[{"role":"user","tool_call_id":"a","content":"x"}]}"#, "role"),
        (r#"{"messages":[{"role":"Tool","tool_call_id":"a","content":"x"}]}"#, "role"),
        (r#"{"messages":[{"tool_call_id":"a","content":"x"}]}"#, "role"),
        (r#"{"messages":[{"role":"function","name":"exec","content":"x"}]}"#, "function"),
        (r#"{"messages":[{"role":"assistant","function_call":{"name":"exec"}}]}"#, "function_call"),
        (r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"exec"}}]}]}"#, "no id"),
        (r#"{"a":01}"#, "number"),
        (r#"{"a":1e999}"#, "number"),
        (r#"{"a":tru}"#, "not JSON"),
        (r#"{"a":1,}"#, "not JSON"),
        (r#"{"a" 1}"#, "not JSON"),
        (&deep, "64 deep"),
        (&long_id, "too long"),
        (&json!({ "messages": many }).to_string(), "16384"),
    ] {
        let refused = request(Api::ChatCompletions, text.as_bytes(), &[]).unwrap_err();
        let shown: String = text.chars().take(80).collect();
        assert!(refused.to_string().contains(reason), "{shown}: {refused}");
        if text.len() < 1000 {
            let read = |sizes: &[usize]| request(Api::ChatCompletions, text.as_bytes(), sizes);
            assert_eq!(same_however_cut(text.as_bytes(), read), Err(refused));
        }
    }
    assert!(request(Api::ChatCompletions, b"{\"a\":\"\xff\"}", &[]).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn what_is_large_but_means_nothing_passes_unstored() {
    let text = "x\u{1f99e}\0".repeat(300_000);
    let body =
        json!({"messages": [{"role": "user", "content": text}], "tools": [{"a": 1e300, "b": 18446744073709551615u64}]});
    assert_eq!(request(Api::ChatCompletions, body.to_string().as_bytes(), &[16 * 1024]), Ok(Vec::new()));
    let members: serde_json::Map<String, Value> = (0..5000).map(|n| (n.to_string(), n.into())).collect();
    let body = json!({ "messages": [], "metadata": members }).to_string();
    assert_eq!(request(Api::ChatCompletions, body.as_bytes(), &[]), Ok(Vec::new()));
    let twice = body.replace("\"4999\":", "\"17\":");
    assert!(request(Api::ChatCompletions, twice.as_bytes(), &[]).is_err());
}
