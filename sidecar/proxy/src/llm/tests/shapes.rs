//! The shapes, as the providers document them and as OpenClaw 2026.9.6 sends them.

use serde_json::{Value, json};

use super::*;
use crate::llm::{ARGUMENTS, Call, RESULT_TEXT, ToolResult};

fn call(id: &str, name: &str, arguments: Option<Arguments>) -> Said {
    Said::Call(Call { id: id.to_owned(), name: name.to_owned(), arguments })
}

fn result(id: &str, text: Option<&str>, is_error: Option<bool>) -> Said {
    Said::Result(ToolResult { id: id.to_owned(), text: text.map(ToOwned::to_owned), is_error })
}

fn begun(id: &str, name: &str) -> Asked {
    Asked::Begun { id: id.to_owned(), name: name.to_owned() }
}

fn whole(id: &str, value: &Value) -> Asked {
    Asked::Whole { id: id.to_owned(), arguments: arguments(value) }
}

fn read_request(api: Api, body: &Value) -> Vec<Said> {
    // Also with everything escaped that can be, and with space everywhere.
    let text = body.to_string();
    let spaced = serde_json::to_string_pretty(body).unwrap();
    let said = same_however_cut(text.as_bytes(), |sizes| request(api, text.as_bytes(), sizes)).unwrap();
    assert_eq!(request(api, spaced.as_bytes(), &[]).unwrap(), said);
    said
}

#[test]
fn chat_completions_requests() {
    let body = json!({
        "model": "fake-1", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "system", "content": "You are a personal assistant. \"tool_call_id\": \"x\""},
            {"role": "user", "content": [{"type": "text", "text": "CALL exec {\"command\":\"ls\"}"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "exec", "arguments": "{\"command\":\"ls\"}"}},
                {"id": "call_2", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}]},
            {"content": "a\u{1f99e}\n", "tool_call_id": "call_1", "role": "tool"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "b"}, {"text": "c", "type": "text"}]},
            {"role": "assistant", "content": "done", "function_call": null, "tool_calls": []},
            {"role": "developer", "content": "internal context"}],
        "tools": [{"type": "function", "function": {"name": "exec", "parameters": {"properties": {"tool_calls": {"type": "array"}}}}}]});
    assert_eq!(
        read_request(Api::ChatCompletions, &body),
        [
            call("call_1", "exec", arguments(&json!({"command": "ls"}))),
            call("call_2", "apply_patch", None),
            result("call_1", Some("a\u{1f99e}\n"), None),
            result("call_2", Some("b\nc"), None),
        ]
    );
}

#[test]
fn responses_requests() {
    let body = json!({
        "model": "gpt", "store": false, "previous_response_id": null,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec", "arguments": "{\"command\":\"ls\"}", "status": "completed"},
            {"type": "function_call_output", "call_id": "call_1", "output": "files"},
            {"type": "custom_tool_call", "call_id": "call_2", "name": "grep", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "output_text", "text": "y"}]},
            {"type": "local_shell_call", "call_id": "call_3", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "local_shell_call_output", "call_id": "call_3", "output": "z"},
            {"type": "computer_call_output", "call_id": "call_4", "output": {"type": "computer_screenshot", "image_url": "data:"}},
            {"type": "mcp_call", "id": "mcp_1", "name": "hosted", "arguments": "{}", "output": "by the provider"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]}]});
    assert_eq!(
        read_request(Api::Responses, &body),
        [
            call("call_1", "exec", arguments(&json!({"command": "ls"}))),
            result("call_1", Some("files"), None),
            call("call_2", "grep", None),
            result("call_2", Some("y"), None),
            call("call_3", "local_shell_call", None),
            result("call_3", Some("z"), None),
            result("call_4", None, None),
        ]
    );
    assert_eq!(read_request(Api::Responses, &json!({"input": "just a text"})), []);
}

#[test]
fn messages_requests() {
    let body = json!({
        "model": "claude", "max_tokens": 1024, "system": [{"type": "text", "text": "tool_result"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "exec", "input": {"command": "ls", "n": [1, 2.5, null, true, {"a": "b"}]}},
                {"type": "tool_use", "id": "toolu_2", "name": "status", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "files", "is_error": false},
                {"is_error": true, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "tool_use_id": "toolu_2", "type": "tool_result"},
                {"type": "tool_result", "tool_use_id": "toolu_3", "content": [{"type": "image", "source": {"type": "base64", "data": "AA=="}}]},
                {"type": "tool_result", "tool_use_id": "toolu_4"},
                {"type": "text", "text": "and?"}]}]});
    assert_eq!(
        read_request(Api::Messages, &body),
        [
            call("toolu_1", "exec", arguments(&json!({"command": "ls", "n": [1, 2.5, null, true, {"a": "b"}]}))),
            call("toolu_2", "status", arguments(&json!({}))),
            result("toolu_1", Some("files"), Some(false)),
            result("toolu_2", Some("a\nb"), Some(true)),
            result("toolu_3", None, None),
            result("toolu_4", Some(""), None),
        ]
    );
}

#[test]
fn long_results_and_arguments_are_known_to_be_long() {
    let text = "x".repeat(RESULT_TEXT + 1);
    let chat = json!({"messages": [{"role": "tool", "tool_call_id": "a", "content": text}]}).to_string();
    assert_eq!(request(Api::ChatCompletions, chat.as_bytes(), &[100]).unwrap(), [result("a", None, None)]);
    let part =
        json!({"messages": [{"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": text}]}]});
    assert_eq!(request(Api::ChatCompletions, part.to_string().as_bytes(), &[]).unwrap(), [result("a", None, None)]);
    let large = json!({"content": "y".repeat(10 * ARGUMENTS)});
    let input = json!({"messages": [{"content": [{"type": "tool_use", "id": "t", "name": "write", "input": large}]}]});
    assert_eq!(request(Api::Messages, input.to_string().as_bytes(), &[65_536]).unwrap(), [call("t", "write", None)]);
    let chat = json!({"messages": [{"role": "assistant", "tool_calls": [
        {"id": "c", "function": {"name": "write", "arguments": large.to_string()}}]}]});
    assert_eq!(request(Api::ChatCompletions, chat.to_string().as_bytes(), &[]).unwrap(), [call("c", "write", None)]);
}

fn read_json(api: Api, body: &Value) -> Vec<Asked> {
    let text = body.to_string();
    same_however_cut(text.as_bytes(), |sizes| answer(AnswerReader::json(api), text.as_bytes(), sizes)).unwrap()
}

#[test]
fn answers_in_one_piece() {
    let chat = json!({"id": "cmpl-1", "object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "exec", "arguments": "{\"command\":\"ls\"}"}},
            {"id": "call_2", "type": "function", "function": {"name": "read", "arguments": ""}}]}, "finish_reason": "tool_calls"},
        {"message": {"tool_calls": [{"id": "call_3", "function": {"name": "x", "arguments": "{"}}]}, "index": 1}]});
    let exec = json!({"command": "ls"});
    assert_eq!(
        read_json(Api::ChatCompletions, &chat),
        [
            begun("call_1", "exec"),
            begun("call_2", "read"),
            begun("call_3", "x"),
            whole("call_1", &exec),
            whole("call_2", &json!({})),
            Asked::Whole { id: "call_3".to_owned(), arguments: None },
        ]
    );
    let responses = json!({"id": "resp_1", "object": "response", "output": [
        {"type": "reasoning", "id": "rs_1"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec", "arguments": "{\"command\":\"ls\"}"}]});
    assert_eq!(read_json(Api::Responses, &responses), [begun("call_1", "exec"), whole("call_1", &exec)]);
    let messages = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [
        {"type": "text", "text": "ok"}, {"type": "tool_use", "id": "toolu_1", "name": "exec", "input": exec}]});
    assert_eq!(read_json(Api::Messages, &messages), [begun("toolu_1", "exec"), whole("toolu_1", &exec)]);
}

/// Events as a stream, with each kind of line end.
fn read_events(api: Api, events: &[Value], last: &str) -> Vec<Asked> {
    let text: String = events
        .iter()
        .map(|event| match event["type"].as_str() {
            Some(kind) => format!("event: {kind}\ndata: {event}\n\n"),
            None => format!("data: {event}\n\n"),
        })
        .collect();
    let text = format!(": welcome\n\n{text}{last}");
    let asked = same_however_cut(text.as_bytes(), |sizes| answer(AnswerReader::events(api), text.as_bytes(), sizes));
    let asked = asked.unwrap();
    for (newline, data) in [("\r\n", "data: "), ("\r", "data:"), ("\n", "data:")] {
        let other = text.replace("data: ", data).replace('\n', newline);
        let bytes = other.as_bytes();
        assert_eq!(same_however_cut(bytes, |sizes| answer(AnswerReader::events(api), bytes, sizes)).unwrap(), asked);
    }
    asked
}

#[test]
fn streamed_chat_completions() {
    let delta = |delta: Value, finish: Value| json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let piece = |index: u64, arguments: &str| {
        delta(
            json!({"tool_calls": [{"index": index, "id": null, "function": {"name": null, "arguments": arguments}}]}),
            Value::Null,
        )
    };
    let events = [
        delta(json!({"role": "assistant", "content": ""}), Value::Null),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "exec", "arguments": ""}}]}),
            Value::Null,
        ),
        piece(0, "{\"comm"),
        piece(0, "and\":\"ls\"}"),
        delta(
            json!({"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "read", "arguments": "{}"}}]}),
            Value::Null,
        ),
        delta(json!({}), "tool_calls".into()),
        json!({"choices": [], "usage": {"total_tokens": 15}}),
    ];
    let asked = [
        begun("call_1", "exec"),
        begun("call_2", "read"),
        whole("call_1", &json!({"command": "ls"})),
        whole("call_2", &json!({})),
    ];
    assert_eq!(read_events(Api::ChatCompletions, &events, "data: [DONE]\n\n"), asked);
    // Without the last event, or the empty line behind it.
    assert_eq!(read_events(Api::ChatCompletions, &events, "data: [DONE]"), asked);
    assert_eq!(read_events(Api::ChatCompletions, &events[..5], ""), asked);
}

#[test]
fn streamed_responses() {
    let item = |arguments: &str, status: &str| json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "exec", "arguments": arguments, "status": status});
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item("", "in_progress")}),
        json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "{\"command\":\"ls\"}"}),
        json!({"type": "response.function_call_arguments.done", "item_id": "fc_1", "arguments": "{\"command\":\"ls\"}"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item("{\"command\":\"ls\"}", "completed")}),
        json!({"type": "response.completed", "response": {"output": [item("{\"command\":\"ls\"}", "completed")]}}),
    ];
    let exec = whole("call_1", &json!({"command": "ls"}));
    assert_eq!(read_events(Api::Responses, &events, ""), [begun("call_1", "exec"), exec.clone(), exec]);
    let broken = [begun("call_1", "exec"), Asked::Whole { id: "call_1".to_owned(), arguments: None }];
    assert_eq!(read_events(Api::Responses, &events[..2], ""), broken);
}

#[test]
fn streamed_messages() {
    let delta = |index: u64, text: &str| json!({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": text}});
    let block = |index: u64, id: &str, name: &str| json!({"type": "content_block_start", "content_block": {"type": "tool_use", "id": id, "name": name, "input": {}}, "index": index});
    let events = [
        json!({"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "content": []}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}}),
        json!({"type": "content_block_stop", "index": 0}),
        block(1, "toolu_1", "exec"),
        delta(1, ""),
        delta(1, "{\"command\": \"l"),
        delta(1, "s\"}"),
        json!({"type": "content_block_stop", "index": 1}),
        block(2, "toolu_2", "status"),
        json!({"type": "content_block_stop", "index": 2}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(
        read_events(Api::Messages, &events, ""),
        [
            begun("toolu_1", "exec"),
            whole("toolu_1", &json!({"command": "ls"})),
            begun("toolu_2", "status"),
            whole("toolu_2", &json!({})),
        ]
    );
}

#[test]
fn streams_that_cannot_be_read_break_off() {
    let many: Vec<Value> =
        (0..200).map(|n| json!({"id": n.to_string(), "index": n, "function": {"name": "x"}})).collect();
    let many = json!({"choices": [{"delta": {"tool_calls": many}}]}).to_string();
    let piece = json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "y".repeat(900_000)}}]}}]});
    for (text, reason) in [
        ("data: nonsense\n\n", "JSON"),
        ("data: {\n\n", "ends too early"),
        ("data: {}\ndata: {}\n\n", "behind"),
        ("data: [DONE\n\n", "JSON"),
        (
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"x\"}}]}}]}\n\n",
            "no id",
        ),
        (&format!("data: {many}\n\n"), "128"),
    ] {
        let refused = answer(AnswerReader::events(Api::ChatCompletions), text.as_bytes(), &[]).unwrap_err();
        assert!(refused.to_string().contains(reason), "{text}: {refused}");
    }
    // Arguments of 10 MB, in pieces: they are not kept, and the call has none.
    let text = format!("data: {piece}\n\n").repeat(11);
    let asked = answer(AnswerReader::events(Api::ChatCompletions), text.as_bytes(), &[9999]).unwrap();
    assert_eq!(asked, [begun("a", "x"), Asked::Whole { id: "a".to_owned(), arguments: None }]);
    // A value over two lines is one value.
    let split = "data: {\"choices\":\ndata: []}\n\n\u{feff}";
    assert_eq!(answer(AnswerReader::events(Api::ChatCompletions), split.as_bytes(), &[]), Ok(Vec::new()));
}
