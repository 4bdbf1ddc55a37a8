//! The rule of an agent with tools: look, read, quote; and write, where that is the task. What comes
//! next follows from what was called before, so it can begin anywhere. Pure. Each kind of call is
//! made in two rounds at most, so the work ends after eight calls of the model at the latest.

use serde_json::{Map, Value, json};

use super::answer::{self, choose, focus, wants_summary};
use super::conversation::{Conversation, Exchange};
use super::evidence::{self, Passage};
use super::rank::{self, Candidate};
use super::sentences::Form;
use super::terms::{self, Terms};
use super::{Step, writing};
use crate::id::ToolName;
use crate::model::ToolDef;

/// Quotes that are handed on.
const FINDINGS: usize = 12;
/// A finding that scores below this part of the best one is noise.
const FLOOR: f64 = 0.5;
/// Files and pages opened in one round.
const OPENED: usize = 3;
/// Passages asked of a search: the ranking here sees more than the search's does.
const RESULTS: usize = 20;
/// Words of a second search.
const FEW: usize = 3;
/// Where documents lie among programs.
const DOCUMENTS: &[&str] = &["README.md", "docs"];
/// A sentence that has less than this part of the question is reason to search again.
const COVERED: f64 = 0.75;
/// Lines read around a hit, a third of them before it.
const AROUND: usize = 60;

/// What comes next.
pub(super) fn next(talk: &Conversation<'_>, tools: &[ToolDef]) -> Step {
    let kit = Kit { tools, talk };
    let wish = kit
        .tool(Job::Write)
        .and_then(|tool| Some((tool, writing::wish(&talk.task)?)));
    let Some((tool, wish)) = wish else {
        let question = talk.task.clone();
        return match kit.look(&question) {
            calls if calls.is_empty() => Step::Say(kit.found(&question)),
            calls => Step::Calls(calls),
        };
    };
    if let Some(written) = kit.last(Job::Write) {
        return Step::Say(writing::report(&wish.path, written.result));
    }
    let subject = writing::without_wish(&talk.task, &wish);
    let content = match &wish.content {
        Some(content) => content.clone(),
        None if talk.material.is_empty() => {
            let calls = kit.look(&subject);
            if !calls.is_empty() {
                return Step::Calls(calls);
            }
            let candidates = kit.candidates();
            if candidates.is_empty() {
                let nothing = kit.found(&subject);
                return Step::Say(format!("{}{}: {nothing}", writing::NOT_WRITTEN, wish.path));
            }
            answer::compose(&subject, &candidates)
        }
        None => answer::compose(&subject, &talk.material),
    };
    let args = args(
        tool,
        &[
            (&["path", "file"], json!(wish.path)),
            (&["text", "content"], json!(content + "\n")),
        ],
    );
    Step::Calls(vec![(tool.name.clone(), args)])
}

/// What a tool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Search,
    Read,
    Fetch,
    Web,
    Write,
    Other,
}

impl Job {
    /// By its name; a config may give a tool another one that still tells.
    fn of(name: &str) -> Self {
        let has = |part| name.contains(part);
        match name {
            _ if has("write") => Self::Write,
            _ if has("fetch") => Self::Fetch,
            _ if has("web") => Self::Web,
            _ if has("search") => Self::Search,
            _ if has("read") => Self::Read,
            _ => Self::Other,
        }
    }
}

/// The tools and what was done with them.
struct Kit<'a> {
    tools: &'a [ToolDef],
    talk: &'a Conversation<'a>,
}

impl<'a> Kit<'a> {
    fn tool(&self, job: Job) -> Option<&'a ToolDef> {
        self.tools
            .iter()
            .find(|tool| Job::of(tool.name.as_str()) == job)
    }

    fn made(&self, job: Job) -> impl Iterator<Item = &'a Exchange<'a>> {
        self.talk
            .exchanges
            .iter()
            .filter(move |exchange| Job::of(exchange.tool) == job)
    }

    fn last(&self, job: Job) -> Option<&'a Exchange<'a>> {
        self.made(job).last()
    }

    /// A call of the tool for `job`, where the agent has one.
    fn call(&self, job: Job, wanted: &[(&[&str], Value)]) -> Option<(ToolName, Value)> {
        let tool = self.tool(job)?;
        Some((tool.name.clone(), args(tool, wanted)))
    }

    /// The calls that may still bring something; none when the looking is over, or what came with the task
    /// answers it.
    fn look(&self, question: &str) -> Vec<(ToolName, Value)> {
        if self.documents_answer(question) {
            return Vec::new();
        }
        if self.talk.exchanges.is_empty() {
            return self.first_round(question);
        }
        let rounds = [
            Self::again,
            Self::closer,
            Self::in_the_web,
            Self::open_pages,
            Self::read_around,
        ];
        rounds
            .iter()
            .map(|round| round(self, question))
            .find(|calls| !calls.is_empty())
            .unwrap_or_default()
    }

    /// Addresses and files that the question names, and a search for its words.
    fn first_round(&self, question: &str) -> Vec<(ToolName, Value)> {
        let urls = terms::urls(&self.talk.task);
        let pages = urls.iter().take(OPENED).filter_map(|url| self.fetch(url));
        let mut calls: Vec<_> = pages.collect();
        let fetched = !calls.is_empty();
        let names = terms::file_names(question);
        let files = names.iter().take(OPENED).filter_map(|name| {
            let path = (&["path", "file"][..], json!(name));
            self.call(Job::Read, &[path])
        });
        calls.extend(files);
        let words = Terms::of(&focus(question));
        let is_there = fetched || !calls.is_empty() && wants_summary(question);
        if !words.is_empty() && !is_there {
            calls.extend(self.search(&words.query()));
        }
        if calls.is_empty() && !words.is_empty() {
            calls.extend(self.web(&words.query()));
        }
        calls
    }

    /// Single words, where all together found nothing.
    fn again(&self, question: &str) -> Vec<(ToolName, Value)> {
        let found = !evidence::passages(self.made(Job::Search)).is_empty();
        if self.made(Job::Search).count() != 1 || found {
            return Vec::new();
        }
        let mut words = Terms::of(&focus(question)).words;
        if words.len() < 2 {
            return Vec::new();
        }
        words.sort_by(|a, b| {
            (b.weight, b.text.len())
                .partial_cmp(&(a.weight, a.text.len()))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        words
            .iter()
            .take(OPENED)
            .filter_map(|word| self.search(&word.text))
            .collect()
    }

    /// A second look: where programs were found and few documents, in the places where documents
    /// lie; else, where no sentence has most of the question, for its most telling words alone.
    fn closer(&self, question: &str) -> Vec<(ToolName, Value)> {
        let searched = self.made(Job::Search).count();
        let read = self.made(Job::Read).count() + self.made(Job::Fetch).count();
        if searched != 1 || read > 0 {
            return Vec::new();
        }
        let focus = focus(question);
        let all = Terms::of(&focus);
        let passages = evidence::passages(self.made(Job::Search));
        let is_program = |passage: &&Passage| Form::of(&passage.source) == Form::Program;
        let programs = passages.iter().filter(is_program).count();
        if programs * 2 > passages.len() && !terms::names_code(&all) {
            let places = DOCUMENTS.iter();
            return places
                .filter_map(|place| self.search_in(&all.query(), place))
                .collect();
        }
        let candidates = evidence::candidates(&passages);
        if rank::cover(&focus, &candidates) >= COVERED {
            return Vec::new();
        }
        let telling = rank::telling(&focus, &candidates, FEW);
        let is_new = !telling.is_empty() && telling.len() < all.words.len();
        let search = self.search(&telling.join(" ")).filter(|_| is_new);
        search.into_iter().collect()
    }

    fn in_the_web(&self, question: &str) -> Vec<(ToolName, Value)> {
        if self.made(Job::Web).count() > 0
            || self.made(Job::Fetch).count() > 0
            || self.has_hits(question)
        {
            return Vec::new();
        }
        let words = Terms::of(&focus(question));
        self.web(&words.query())
            .filter(|_| !words.is_empty())
            .into_iter()
            .collect()
    }

    fn open_pages(&self, _: &str) -> Vec<(ToolName, Value)> {
        if self.made(Job::Fetch).count() > 0 {
            return Vec::new();
        }
        let found = self.made(Job::Web).flat_map(evidence::addresses);
        found
            .take(OPENED - 1)
            .filter_map(|url| self.fetch(&url))
            .collect()
    }

    /// The lines around the best hits, where the search did not show them.
    fn read_around(&self, question: &str) -> Vec<(ToolName, Value)> {
        let made = &self.talk.exchanges;
        let is = |job| move |exchange: &Exchange<'_>| Job::of(exchange.tool) == job;
        let searched = made.iter().rposition(is(Job::Search)).unwrap_or(0);
        if made[searched..].iter().any(is(Job::Read)) {
            return Vec::new();
        }
        let passages = evidence::passages(self.made(Job::Search));
        let candidates = evidence::candidates(&passages);
        let mut seen: Vec<(&str, usize)> = Vec::new();
        let mut calls = Vec::new();
        let ranked = rank::best(&focus(question), &candidates, FINDINGS, FLOOR);
        let places = ranked
            .iter()
            .map(|hit| (hit.candidate.source.as_str(), hit.candidate.sentence.line));
        // What a document is about stands at its beginning.
        let top = ranked.first().filter(|_| rank::asks_what_it_is(question));
        let top = top.map(|hit| (hit.candidate.source.as_str(), 1));
        for (source, line) in top.into_iter().chain(places) {
            if calls.len() == OPENED {
                break;
            }
            let is_near =
                |(path, at): &(&str, usize)| *path == source && at.abs_diff(line) < AROUND / 2;
            if line == 0 || seen.iter().any(is_near) {
                continue;
            }
            seen.push((source, line));
            calls.extend(self.call(
                Job::Read,
                &[
                    (&["path", "file"], json!(source)),
                    (
                        &["from_line", "line", "offset"],
                        json!(line.saturating_sub(AROUND / 3).max(1)),
                    ),
                    (&["max_lines", "lines", "limit"], json!(AROUND)),
                ],
            ));
        }
        calls
    }

    fn search(&self, query: &str) -> Option<(ToolName, Value)> {
        self.search_in(query, "")
    }

    fn search_in(&self, query: &str, place: &str) -> Option<(ToolName, Value)> {
        let mut wanted: Vec<(&[&str], Value)> = vec![
            (&["query", "q", "text"], json!(query)),
            (&["max_results", "limit"], json!(RESULTS)),
        ];
        if !place.is_empty() {
            wanted.push((&["path", "folder"], json!(place)));
        }
        self.call(Job::Search, &wanted)
    }

    fn web(&self, query: &str) -> Option<(ToolName, Value)> {
        self.call(Job::Web, &[(&["query", "q", "text"], json!(query))])
    }

    fn fetch(&self, url: &str) -> Option<(ToolName, Value)> {
        self.call(Job::Fetch, &[(&["url", "address"], json!(url))])
    }

    /// Whether what came with the task is enough: who sends a document asks about it.
    fn documents_answer(&self, question: &str) -> bool {
        let documents = evidence::candidates(&self.talk.documents);
        let covers = || rank::cover(&focus(question), &documents) >= COVERED;
        !documents.is_empty() && (wants_summary(question) || covers())
    }

    fn candidates(&self) -> Vec<Candidate> {
        let reading = self
            .talk
            .exchanges
            .iter()
            .filter(|exchange| Job::of(exchange.tool) != Job::Write);
        let mut passages = self.talk.documents.clone();
        passages.extend(evidence::passages(reading));
        let all = evidence::candidates(&passages);
        // Who names a file wants to know what stands in that file.
        let names = terms::file_names(&self.talk.task);
        let named: Vec<_> = all
            .iter()
            .filter(|c| names.iter().any(|name| c.source.ends_with(name)))
            .cloned()
            .collect();
        let answers = |named: &[Candidate]| {
            wants_summary(&self.talk.task)
                || !rank::best(&focus(&self.talk.task), named, 1, 0.0).is_empty()
        };
        if !named.is_empty() && answers(&named) {
            named
        } else {
            all
        }
    }

    fn has_hits(&self, question: &str) -> bool {
        let candidates = self.candidates();
        let read = self.made(Job::Read).count() + self.made(Job::Fetch).count();
        let opened = read + self.talk.documents.len() > 0;
        !candidates.is_empty() && opened && wants_summary(question)
            || !rank::best(&focus(question), &candidates, 1, 0.0).is_empty()
    }

    /// The findings, or that there are none.
    fn found(&self, question: &str) -> String {
        let candidates = self.candidates();
        let found = match self.has_hits(question) {
            true if wants_summary(question) => choose(question, &candidates, FINDINGS),
            true => rank::quotes(&focus(question), &candidates, FINDINGS, FLOOR),
            false => Vec::new(),
        };
        if !found.is_empty() {
            let missing = match wants_summary(question) {
                true => Vec::new(),
                false => rank::missing(&focus(question), &candidates),
            };
            return answer::findings(question, &found, &missing);
        }
        let mut looked: Vec<String> = Vec::new();
        for exchange in &self.talk.exchanges {
            if !looked.iter().any(|tool| tool == exchange.tool) {
                looked.push(exchange.tool.to_owned());
            }
        }
        let errors = self
            .talk
            .exchanges
            .iter()
            .map(|e| e.result.strip_prefix("error: "));
        let errors: Option<Vec<&str>> = errors.collect();
        match errors.as_deref() {
            Some([.., last]) => answer::could_not_look(last),
            _ => answer::nothing(question, &looked),
        }
    }
}

/// Arguments under the names that the tool's schema has for them. What it has no name for is left
/// out, but for the first one, without which there is no call.
fn args(tool: &ToolDef, wanted: &[(&[&str], Value)]) -> Value {
    let properties = tool.parameters.get("properties").and_then(Value::as_object);
    let mut args = Map::new();
    for (at, (names, value)) in wanted.iter().enumerate() {
        let known = names
            .iter()
            .find(|name| properties.is_none_or(|p| p.contains_key(**name)));
        let first = || {
            let required = tool
                .parameters
                .pointer("/required/0")
                .and_then(Value::as_str);
            (at == 0).then(|| required.unwrap_or(names[0]))
        };
        if let Some(name) = known.copied().or_else(first) {
            args.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(args)
}
