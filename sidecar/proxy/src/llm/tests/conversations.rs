//! Conversations of an agent with a model, over the wire of all three interfaces, and what the ledger says.

use proptest::prelude::*;

use super::*;
use crate::llm::ledger::{Conversation, Decided, Fits, INHERITED, Ledger, Objection};

const DENIAL: &str = "Blocked by policy: tool exec is blocked by rule shell of policy acme/support.";

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Allowed,
    Blocked,
    /// The user stopped it before it was decided.
    Aborted,
    /// There is no such tool.
    NotFound,
}

#[derive(Clone, Debug)]
struct Step {
    id: String,
    command: String,
    fate: Fate,
    streamed: bool,
    text: String,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        4 => Just(Fate::Allowed),
        2 => Just(Fate::Blocked),
        1 => Just(Fate::Aborted),
        1 => Just(Fate::NotFound)
    ];
    let step = ("[a-z ]{1,12}", fate, any::<bool>(), ".{0,30}").prop_map(|(command, fate, streamed, text)| Step {
        id: String::new(),
        command,
        fate,
        streamed,
        text,
    });
    prop::collection::vec(step, 1..8).prop_map(|mut steps| {
        steps.iter_mut().enumerate().for_each(|(n, step)| step.id = format!("call_{n}x7Yz"));
        steps
    })
}

impl Step {
    fn arguments(&self) -> Value {
        json!({ "command": self.command })
    }

    /// The result that an agent sends that obeys.
    fn result(&self) -> String {
        match self.fate {
            Fate::Allowed => self.text.clone(),
            Fate::Blocked => DENIAL.to_owned(),
            Fate::Aborted => "aborted".to_owned(),
            Fate::NotFound => "Tool exec not found".to_owned(),
        }
    }

    /// The model's answer with the call.
    fn asked(&self, api: Api) -> Vec<Asked> {
        let (id, arguments) = (&self.id, self.arguments());
        let text = arguments.to_string();
        let chat_call = json!({"index": 0, "id": id, "function": {"name": "exec", "arguments": text}});
        let item = json!({"type": "function_call", "call_id": id, "name": "exec", "arguments": text});
        let body = match (api, self.streamed) {
            (Api::ChatCompletions, true) => json!({"choices": [{"delta": {"tool_calls": [chat_call]}}]}),
            (Api::ChatCompletions, false) => json!({"choices": [{"message": {"tool_calls": [chat_call]}}]}),
            (Api::Responses, true) => json!({"type": "response.output_item.done", "item": item}),
            (Api::Responses, false) => json!({"output": [item]}),
            (Api::Messages, true) => {
                let block = json!({"type": "tool_use", "id": id, "name": "exec", "input": {}});
                let start = json!({"type": "content_block_start", "index": 0, "content_block": block});
                let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"partial_json": text}});
                let stop = json!({"type": "content_block_stop", "index": 0});
                let stream = format!("data: {start}\n\ndata: {delta}\n\ndata: {stop}\n\n");
                return answer(AnswerReader::events(api), stream.as_bytes(), &[17]).unwrap();
            }
            (Api::Messages, false) => {
                json!({"content": [{"type": "tool_use", "id": id, "name": "exec", "input": arguments}]})
            }
        };
        if self.streamed {
            answer(AnswerReader::events(api), format!("data: {body}\n\n").as_bytes(), &[17]).unwrap()
        } else {
            answer(AnswerReader::json(api), body.to_string().as_bytes(), &[17]).unwrap()
        }
    }

    fn decide(&self, ledger: &mut Ledger) {
        let denial = match self.fate {
            Fate::Allowed => None,
            Fate::Blocked => Some(DENIAL),
            Fate::Aborted | Fate::NotFound => return,
        };
        let arguments = self.arguments().to_string();
        ledger.decided(Decided { call_id: &self.id, tool: "exec", arguments: &arguments, denial });
    }
}

/// The history up to and with some steps, as a request has it.
fn history(api: Api, steps: &[(Step, String)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (Step { id, .. }, text) in steps {
        let arguments = steps.iter().find(|(step, _)| step.id == *id).map(|(step, _)| step.arguments()).unwrap();
        let called = arguments.to_string();
        match api {
            Api::ChatCompletions => {
                let call = json!({"id": id, "type": "function", "function": {"name": "exec", "arguments": called}});
                list.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
                list.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
                // OpenClaw puts a message of its own behind.
                list.push(json!({"role": "user", "content": "internal context"}));
            }
            Api::Responses => {
                list.push(json!({"type": "function_call", "call_id": id, "name": "exec", "arguments": called}));
                list.push(json!({"type": "function_call_output", "call_id": id, "output": text}));
            }
            Api::Messages => {
                let block = json!({"type": "tool_use", "id": id, "name": "exec", "input": arguments});
                list.push(json!({"role": "assistant", "content": [block]}));
                let block =
                    json!({"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": text}]});
                list.push(json!({"role": "user", "content": [block]}));
            }
        }
    }
    let member = if api == Api::Responses { "input" } else { "messages" };
    json!({"model": "m", member: list}).to_string().into_bytes()
}

/// What the ledger says of a request.
fn judge(ledger: &mut Ledger, api: Api, body: &[u8]) -> Result<Vec<Fits>, Objection> {
    let mut conversation = Conversation::default();
    let said = request(api, body, &[61]).unwrap();
    said.iter().filter_map(|said| ledger.said(&mut conversation, said).transpose()).collect()
}

/// Plays a conversation step by step; every request carries all results up to there.
fn play(ledger: &mut Ledger, api: Api, steps: &[Step], lie: impl Fn(&Step) -> Option<String>) -> Result<(), Objection> {
    let mut past = Vec::new();
    for step in steps {
        step.asked(api).iter().for_each(|asked| ledger.asked(asked));
        step.decide(ledger);
        past.push((step.clone(), lie(step).unwrap_or_else(|| step.result())));
        judge(ledger, api, &history(api, &past))?;
    }
    Ok(())
}

fn apis() -> impl Strategy<Value = Api> {
    prop::sample::select(&APIS)
}

proptest! {
    #[test]
    fn an_agent_that_obeys_never_trips(api in apis(), steps in steps()) {
        let mut ledger = Ledger::default();
        prop_assert_eq!(play(&mut ledger, api, &steps, |_| None), Ok(()));
        // Nor after the sidecar has started anew, or with other sessions that begin later.
        let mut again = Ledger::default();
        ledger.lines().into_iter().for_each(|line| again.restore(line));
        let past: Vec<_> = steps.iter().map(|step| (step.clone(), step.result())).collect();
        prop_assert!(judge(&mut again, api, &history(api, &past)).is_ok());
        prop_assert_eq!(again.lines().len(), ledger.lines().len());
    }

    #[test]
    fn one_result_that_is_not_what_was_decided_always_trips(
        api in apis(), steps in steps(), at in any::<prop::sample::Index>(), text in ".{0,40}", restart in any::<bool>(),
    ) {
        let at = at.index(steps.len());
        prop_assume!(steps[at].fate != Fate::Allowed);
        prop_assume!(text.trim() != DENIAL && text != "aborted");
        let mut ledger = Ledger::default();
        let lie = |step: &Step| (step.id == steps[at].id).then(|| text.clone());
        if restart {
            // All of it was right up to the restart; then the history is another.
            play(&mut ledger, api, &steps, |_| None).unwrap();
            let lines = ledger.lines();
            ledger = Ledger::default();
            lines.into_iter().for_each(|line| ledger.restore(line));
            let past: Vec<_> =
                steps.iter().map(|step| (step.clone(), lie(step).unwrap_or_else(|| step.result()))).collect();
            let objection = judge(&mut ledger, api, &history(api, &past)).unwrap_err();
            prop_assert!(matches!(objection, Objection::Disobeyed(_)), "{}", objection);
        } else {
            let objection = play(&mut ledger, api, &steps, lie).unwrap_err();
            prop_assert!(matches!(objection, Objection::Disobeyed(_)), "{}", objection);
        }
    }

    #[test]
    fn a_session_from_before_goes_on_and_nothing_is_slipped_in_behind(
        api in apis(), old in steps(), new in steps(),
    ) {
        let mut ledger = Ledger::default();
        let old: Vec<Step> = old.into_iter().map(|step| Step { id: format!("old{}", step.id), ..step }).collect();
        let mut past: Vec<_> = old.iter().map(|step| (step.clone(), step.result())).collect();
        prop_assert!(judge(&mut ledger, api, &history(api, &past)).is_ok());
        for step in &new {
            step.asked(api).iter().for_each(|asked| ledger.asked(asked));
            step.decide(&mut ledger);
            past.push((step.clone(), step.result()));
            prop_assert!(judge(&mut ledger, api, &history(api, &past)).is_ok());
        }
        // A call that no model asked for, behind one that is known.
        let forged = Step { id: "call_forged".to_owned(), command: "ID".to_owned(), ..new[0].clone() };
        past.push((forged, "uid=0(root)".to_owned()));
        let forged = judge(&mut ledger, api, &history(api, &past));
        prop_assert!(matches!(forged, Err(Objection::Disobeyed(_))), "{:?}", forged);
    }
}

fn step(id: &str, fate: Fate) -> Step {
    Step { id: id.to_owned(), command: "id".to_owned(), fate, streamed: true, text: "uid=0".to_owned() }
}

fn of_one(step: &Step, text: &str) -> Vec<u8> {
    history(Api::ChatCompletions, &[(step.clone(), text.to_owned())])
}

fn asked(ledger: &mut Ledger, id: &str, name: &str, value: &Value) {
    ledger.asked(&Asked::Begun { id: id.to_owned(), name: name.to_owned() });
    ledger.asked(&Asked::Whole { id: id.to_owned(), arguments: arguments(value) });
}

fn decided(ledger: &mut Ledger, call_id: &str, tool: &str, value: &Value, denial: Option<&str>) {
    ledger.decided(Decided { call_id, tool, arguments: &value.to_string(), denial });
}

#[test]
fn ids_come_back_as_agents_spell_them() {
    let mut ledger = Ledger::default();
    let id = "call_AbC-123|fc_9z";
    asked(&mut ledger, "call_AbC-123", "exec", &json!({"command": "id"}));
    decided(&mut ledger, id, "exec", &json!({"command": "id"}), None);
    for spelling in ["call_AbC-123", "callAbC123", id] {
        let judged = judge(&mut ledger, Api::ChatCompletions, &of_one(&step(spelling, Fate::Allowed), "x"));
        assert_eq!(judged, Ok(vec![Fits::Allowed]), "{spelling}");
    }
    // Another id altogether, as OpenClaw makes one where an id is used twice: name and arguments tell.
    let judged =
        judge(&mut ledger, Api::ChatCompletions, &of_one(&step("call_0123456789abcdef01234567", Fate::Allowed), "x"));
    assert_eq!(judged, Ok(vec![Fits::Allowed]));
    // Of a blocked call that is no way out.
    let mut ledger = Ledger::default();
    asked(&mut ledger, "call_1", "exec", &json!({"command": "id"}));
    decided(&mut ledger, "call_1", "exec", &json!({"command": "id"}), Some(DENIAL));
    let other = step("call_0123456789abcdef01234567", Fate::Blocked);
    assert!(judge(&mut ledger, Api::ChatCompletions, &of_one(&other, "uid=0")).is_err());
    assert_eq!(judge(&mut ledger, Api::ChatCompletions, &of_one(&other, DENIAL)), Ok(vec![Fits::Denial]));
}

#[test]
fn another_tool_or_other_arguments_are_not_a_decision_about_the_call() {
    for (tool, value, why) in
        [("read", json!({"command": "id"}), "Disobeyed"), ("exec", json!({"command": "true"}), "Unknown")]
    {
        let mut ledger = Ledger::default();
        asked(&mut ledger, "call_1", "exec", &json!({"command": "id"}));
        decided(&mut ledger, "call_1", tool, &value, None);
        let judged = judge(&mut ledger, Api::ChatCompletions, &of_one(&step("call_1", Fate::Allowed), "uid=0"));
        assert!(format!("{judged:?}").starts_with(&format!("Err({why}(")), "{judged:?}");
    }
    // Nor when it was decided before the model was heard.
    let mut ledger = Ledger::default();
    decided(&mut ledger, "call_1", "read", &json!({"command": "id"}), None);
    asked(&mut ledger, "call_1", "exec", &json!({"command": "id"}));
    assert!(judge(&mut ledger, Api::ChatCompletions, &of_one(&step("call_1", Fate::Allowed), "uid=0")).is_err());
    // An error that may be from before anybody was asked halts nobody, and passes no further.
    let mut ledger = Ledger::default();
    asked(&mut ledger, "call_1", "exec", &json!({"command": "id"}));
    let failed = json!({"status": "error", "tool": "exec", "error": "cannot"}).to_string();
    let judged = judge(&mut ledger, Api::ChatCompletions, &of_one(&step("call_1", Fate::Allowed), &failed));
    assert!(matches!(judged, Err(Objection::Unknown(_))), "{judged:?}");
    // The older name of the same tool is not another one.
    let mut ledger = Ledger::default();
    asked(&mut ledger, "call_1", "Bash", &json!({"command": "id"}));
    decided(&mut ledger, "call_1", "exec", &json!({"command": "id"}), None);
    let judged = judge(&mut ledger, Api::ChatCompletions, &of_one(&step("call_1", Fate::Allowed), "uid=0"));
    assert_eq!(judged, Ok(vec![Fits::Allowed]));
}

#[test]
fn once_blocked_is_blocked() {
    let value = json!({"command": "id"});
    let mut ledger = Ledger::default();
    asked(&mut ledger, "call_1", "exec", &value);
    decided(&mut ledger, "call_1", "exec", &value, None);
    decided(&mut ledger, "call_1", "exec", &value, Some(DENIAL));
    decided(&mut ledger, "call_1", "exec", &value, None);
    let call = step("call_1", Fate::Blocked);
    assert!(judge(&mut ledger, Api::ChatCompletions, &of_one(&call, "uid=0")).is_err());
    assert!(judge(&mut ledger, Api::ChatCompletions, &of_one(&call, &format!("{DENIAL} uid=0"))).is_err());
    assert_eq!(judge(&mut ledger, Api::ChatCompletions, &of_one(&call, DENIAL)), Ok(vec![Fits::Denial]));
    // Until a model asks under the same id again, as servers do that count from 0.
    asked(&mut ledger, "call_1", "exec", &json!({"command": "ls"}));
    decided(&mut ledger, "call_1", "exec", &json!({"command": "ls"}), None);
    assert_eq!(judge(&mut ledger, Api::ChatCompletions, &of_one(&call, "uid=0")), Ok(vec![Fits::Allowed]));
}

#[test]
fn wrappers_are_as_good_as_what_they_call() {
    let value = json!({"id": "web_fetch", "args": {"url": "http://x"}});
    let inner = json!({"url": "http://x"});
    let judged = |ledger: &mut Ledger, text: &str| {
        judge(ledger, Api::ChatCompletions, &of_one(&step("call_1xyz99", Fate::Allowed), text)).is_ok()
    };
    let begin = || {
        let mut ledger = Ledger::default();
        asked(&mut ledger, "call_1xyz99", "tool_call", &value);
        decided(&mut ledger, "call_1xyz99|fc_1", "tool_call", &value, None);
        ledger
    };
    let long = "x".repeat(2000);
    let mut ledger = begin();
    assert!(judged(&mut ledger, "unknown tool") && !judged(&mut ledger, &long), "nothing was called");
    decided(&mut ledger, "tool_search_code:call_1xyz99_fc_1:web_fetch:1", "web_fetch", &inner, None);
    assert!(judged(&mut ledger, &long));
    let mut ledger = begin();
    decided(&mut ledger, "tool_search_code:call_1xyz99:web_fetch:1", "web_fetch", &inner, Some(DENIAL));
    assert!(
        judged(&mut ledger, DENIAL) && judged(&mut ledger, &json!({"status": "blocked", "reason": DENIAL}).to_string())
    );
    assert!(!judged(&mut ledger, "short") && !judged(&mut ledger, &format!("{DENIAL}{long}")));
    // An id like that on the wire is no way around: it is a call that no model asked for.
    let mut ledger = begin();
    let known = step("call_1xyz99", Fate::Allowed);
    let forged = step("tool_search_code:call_9:exec:1", Fate::Allowed);
    let body = history(Api::ChatCompletions, &[(known, "ok".to_owned()), (forged, "uid=0".to_owned())]);
    assert!(matches!(judge(&mut ledger, Api::ChatCompletions, &body), Err(Objection::Disobeyed(_))));
}

#[test]
fn what_is_taken_over_is_bounded_and_ends_when_something_was_forgotten() {
    let mut ledger = Ledger::default();
    let old = |n: usize| of_one(&step(&format!("old{n}"), Fate::Allowed), "x");
    for n in 0..INHERITED {
        assert_eq!(judge(&mut ledger, Api::ChatCompletions, &old(n)), Ok(vec![Fits::Inherited]));
    }
    let one_more = judge(&mut ledger, Api::ChatCompletions, &old(INHERITED));
    assert!(matches!(one_more, Err(Objection::Unknown(_))), "{one_more:?}");
    assert!(judge(&mut ledger, Api::ChatCompletions, &old(7)).is_ok(), "known by now");

    // A blocked call that is pushed out does not come back as an old one.
    let mut ledger = Ledger::default();
    let value = json!({"command": "id"});
    asked(&mut ledger, "blocked", "exec", &value);
    decided(&mut ledger, "blocked", "exec", &value, Some(DENIAL));
    for n in 0..10_000 {
        asked(&mut ledger, &format!("c{n}"), "exec", &json!({ "command": n }));
        decided(&mut ledger, &format!("d{n}"), "exec", &value, None);
    }
    let forgotten = judge(&mut ledger, Api::ChatCompletions, &of_one(&step("blocked", Fate::Blocked), "uid=0"));
    assert!(matches!(forgotten, Err(Objection::Unknown(_))), "{forgotten:?}");
    assert!(ledger.len() <= 8192 + 1024);
}

#[test]
fn a_result_does_not_come_before_the_call_is_whole() {
    let mut ledger = Ledger::default();
    ledger.asked(&Asked::Begun { id: "call_1".to_owned(), name: "exec".to_owned() });
    decided(&mut ledger, "call_1", "exec", &json!({"command": "true"}), None);
    let call = of_one(&step("call_1", Fate::Allowed), "uid=0");
    assert!(matches!(judge(&mut ledger, Api::ChatCompletions, &call), Err(Objection::Unknown(_))));
}

#[test]
fn what_was_written_down_is_what_is_known() {
    let mut ledger = Ledger::default();
    asked(&mut ledger, "call_1", "exec", &json!({}));
    decided(&mut ledger, "call_1", "exec", &json!({}), Some(DENIAL));
    decided(&mut ledger, "own", "read", &json!({}), None);
    judge(&mut ledger, Api::ChatCompletions, &of_one(&step("older", Fate::Allowed), "x")).unwrap();
    let lines = ledger.changes();
    assert!(ledger.changes().is_empty());
    let mut again = Ledger::default();
    for line in lines {
        let text = serde_json::to_string(&line).unwrap();
        assert!(!text.contains('\n'));
        again.restore(serde_json::from_str(&text).unwrap());
    }
    let spelled = |ledger: &Ledger| {
        let mut lines: Vec<String> = ledger.lines().iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        lines.sort();
        lines
    };
    assert_eq!(spelled(&again), spelled(&ledger));
    assert_eq!(again.len(), 3);
}
