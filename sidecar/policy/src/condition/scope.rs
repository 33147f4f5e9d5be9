//! The facts of one decision, as conditions see them.
//!
//! A scope lives as long as one decision. What is costly (arguments, the query) is read when the first
//! condition asks for it, once, and never when none does.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use cel::common::types::{CelInt, CelString, CelTimestamp};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use chrono::DateTime;

use super::args::{self, Args, Fields};
use super::cost::Size;
use super::value::Table;
use super::{Claimed, Reads};
use crate::document::ArgumentType;
use crate::path::Segment;
use crate::pattern::{PathTemplate, TemplateSegment};
use crate::{Action, Claims, Facts, HttpAction, RequestPath, ToolAction};

/// What an operation declares about its arguments. Empty for everything else.
#[derive(Debug, Default)]
pub(crate) struct Typing<'a> {
    /// The operation's path template.
    pub(crate) template: Option<&'a PathTemplate>,
    /// The segments that it matched.
    pub(crate) segments: &'a [Segment<'a>],
    /// The declared arguments, sorted by name.
    pub(crate) declared: &'a [(Arc<str>, ArgumentType)],
}

impl Typing<'_> {
    pub(super) fn kind(&self, name: &str) -> Option<ArgumentType> {
        let at = self.declared.binary_search_by(|(declared, _)| (**declared).cmp(name)).ok()?;
        self.declared.get(at).map(|(_, kind)| *kind)
    }

    /// The path's variables and their values.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let template = self.template.map(PathTemplate::segments).unwrap_or_default();
        template.iter().zip(self.segments).filter_map(|(part, segment)| match part {
            TemplateSegment::Variable(name) => Some((&**name, &*segment.text)),
            TemplateSegment::Literal(_) => None,
        })
    }
}

/// The facts of one decision.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    facts: &'a Facts<'a>,
    typing: Typing<'a>,
    query: OnceLock<Result<Fields<'a>, String>>,
    args: OnceLock<Result<Args, String>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(facts: &'a Facts<'a>, typing: Typing<'a>) -> Self {
        Self { facts, typing, query: OnceLock::new(), args: OnceLock::new() }
    }

    fn http(&self) -> Option<&'a HttpAction<'a>> {
        match &self.facts.action {
            Action::Http(http) => Some(http),
            Action::Tool(_) => None,
        }
    }

    fn query(&self) -> Result<&Fields<'a>, &str> {
        let read =
            || args::fields(self.http().map_or("", |http| http.query)).map_err(|reason| format!("the query: {reason}"));
        self.query.get_or_init(read).as_ref().map_err(String::as_str)
    }

    fn args(&self) -> Result<&Args, &str> {
        let read = || args::read(&self.facts.action, &self.typing, self.query());
        self.args.get_or_init(read).as_ref().map_err(String::as_str)
    }

    /// Makes ready what a condition reads, and says how large it is.
    pub(super) fn prepare(&self, reads: Reads) -> Result<Size, String> {
        let Reads { args, path, query, headers, claims } = reads;
        if headers && self.http().is_some_and(|http| http.headers.is_none()) {
            return Err("the headers are no longer known".into());
        }
        if path && self.http().is_some_and(|http| http.path.segments().any(|segment| segment.has_slash)) {
            return Err("the path has an encoded slash, which has two readings".into());
        }
        let Claimed { requester, run, model } = claims;
        for (read, name) in [(requester, "requester"), (run, "run"), (model, "model")] {
            if read && self.claim(name).is_none() {
                return Err(format!("the agent did not state its {name}"));
            }
        }
        if query {
            self.query()?;
        }
        // Only arguments can be iterated; other tables are looked up.
        if args { Ok(self.args()?.size) } else { Ok(Size::default()) }
    }

    fn request<'b>(&'b self, field: &str) -> Option<CowVal<'b, 'b>> {
        let http = self.http()?;
        Some(match field {
            "method" => CowVal::owned(CelString::from(http.method)),
            "host" => CowVal::owned(CelString::from(http.host.as_str())),
            "port" => CowVal::owned(CelInt::from(i64::from(http.port))),
            "path" => CowVal::owned(CelString::from(decoded(http.path))),
            "query" => CowVal::owned(Table::Query(self.query().ok()?)),
            "headers" => CowVal::owned(Table::Headers(http.headers?)),
            _ => return None,
        })
    }

    fn agent<'b>(&'b self, field: &str) -> Option<CowVal<'b, 'b>> {
        let workload = &self.facts.caller.workload;
        Some(match field {
            "namespace" => CowVal::owned(CelString::from(&*workload.namespace)),
            "serviceAccount" => CowVal::owned(CelString::from(&*workload.service_account)),
            "pod" => CowVal::owned(CelString::from(&*workload.pod)),
            "labels" => CowVal::owned(Table::Labels(&workload.labels)),
            _ => return None,
        })
    }

    /// What the agent says, by the name of the fact.
    fn claim(&self, name: &str) -> Option<&'a str> {
        let Action::Tool(ToolAction { claims, .. }) = self.facts.action else { return None };
        // Rules do not read the role: the manifest does, which only refuses.
        let Claims { requester, run, model, role: _ } = claims;
        match name {
            "requester" => requester,
            "run" => run,
            "model" => model,
            _ => None,
        }
    }

    fn now(&self) -> Option<CelTimestamp> {
        let now = i64::try_from(self.facts.context.now_ms).ok()?;
        Some(CelTimestamp::from(DateTime::from_timestamp_millis(now)?.fixed_offset()))
    }
}

/// The path as patterns see it: `/%61dmin` is `/admin`.
fn decoded(path: &RequestPath) -> Cow<'_, str> {
    if !path.as_str().contains('%') {
        return Cow::Borrowed(path.as_str());
    }
    let segments: Vec<_> = path.segments().map(|segment| segment.text).collect();
    Cow::Owned(format!("/{}", segments.join("/")))
}

impl VariableResolver for Scope<'_> {
    /// The evaluation asks for `request.headers.x`, then `request.headers`, then `request`: the facts
    /// answer to their full names, so no map of them is ever built.
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match name.split_once('.') {
            None if name == "args" => self.args().ok().map(|args| CowVal::Borrowed(&args.object)),
            Some(("request", field)) => self.request(field),
            Some(("agent", field)) => self.agent(field),
            Some(("time", "now")) => self.now().map(CowVal::owned),
            Some((claim @ ("requester" | "run"), "id")) | Some((claim @ "model", "name")) => {
                self.claim(claim).map(|text| CowVal::owned(CelString::from(text)))
            }
            _ => None,
        }
    }
}
