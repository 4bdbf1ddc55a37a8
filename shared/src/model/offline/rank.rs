//! Which sentences answer a question best. Term weights in the manner of BM25 (Robertson and
//! Zaragoza, 2009), the shape of the question (what is, how many, why), the place of the sentence,
//! and how much of the question it covers. Pure and deterministic.

use std::collections::{BTreeMap, BTreeSet};

use super::sentences::{Form, Kind, Sentence};
use super::terms::{Terms, stem, words_of};

/// BM25's saturation of repeated words: low, for within one sentence a repetition says little.
const K1: f64 = 0.4;
/// BM25's weight of length.
const B: f64 = 0.6;
/// What a word in the heading or in the same paragraph counts, as part of one in the sentence.
const CONTEXT: f64 = 0.35;
/// The same for a word in the file's name: the file is about it.
const NAMED: f64 = 0.6;
/// Below this part of the question's weight a sentence is about something else.
const LEAST_COVER: f64 = 0.45;
/// The same for a program's own lines: words meet there by chance.
const LEAST_COVER_OF_CODE: f64 = 0.8;
/// What a line counts that only asks the question again.
const ECHO: f64 = 0.05;
/// What two words count that stand together in the question and in the sentence.
const PAIR: f64 = 1.15;
/// More pairs than this are a repetition and say no more.
const MOST_PAIRS: usize = 3;
/// Words of a question below which a repetition may be chance.
const ECHO_WORDS: usize = 3;
/// A sentence up to this many words is taken together with the next one, where that refers to it.
const SHORT: usize = 15;
/// Sentences that share more of their words than this say the same.
const SAME: f64 = 0.6;

/// A sentence and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    /// The sentence.
    pub(super) sentence: Sentence,
    /// Its file or address, without line.
    pub(super) source: String,
    /// Earlier judgement of it, 0 to 1: the search's, or that of who found it.
    pub(super) prior: f64,
}

impl Candidate {
    /// `path:line`, or the address alone.
    pub(super) fn cite(&self) -> String {
        match self.sentence.line {
            0 => self.source.clone(),
            line => format!("{}:{line}", self.source),
        }
    }
}

/// A candidate that answers, and how well.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranked {
    /// The sentence.
    pub(super) candidate: Candidate,
    /// Its score; only to be compared within one question.
    pub(super) score: f64,
}

/// The best sentences for a question, best first, none twice, at most `most`. Sentences that score
/// below `floor` times the best one are left out.
pub(super) fn best(
    question: &str,
    candidates: &[Candidate],
    most: usize,
    floor: f64,
) -> Vec<Ranked> {
    let terms = Terms::of(question);
    let field = Field::new(&terms, candidates);
    let shape = Shape::of(question);
    let asked = plain_words(question);
    let mut ranked: Vec<Ranked> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.sentence.kind != Kind::Heading)
        .filter_map(|(at, candidate)| {
            let score = field.score(at, &terms)?
                * shape.fit(&candidate.sentence, &terms)
                * echo(&asked, &candidate.sentence.text)
                * PAIR.powi(pairs(&asked, &candidate.sentence.text))
                * candidate.prior;
            (score > 0.0).then(|| Ranked {
                candidate: candidate.clone(),
                score,
            })
        })
        .collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let least = ranked.first().map_or(0.0, |best| best.score * floor);
    let mut chosen: Vec<Ranked> = Vec::new();
    let mut chosen_words: Vec<BTreeSet<String>> = Vec::new();
    for next in ranked {
        if chosen.len() == most || next.score < least {
            break;
        }
        let words = stems(&next.candidate.sentence.text);
        if !chosen_words
            .iter()
            .any(|known| overlap(known, &words) > SAME)
        {
            chosen_words.push(words);
            chosen.push(next);
        }
    }
    chosen
}

/// The best sentences for a question, each as it can be quoted alone and none within another.
pub(super) fn quotes(
    question: &str,
    candidates: &[Candidate],
    most: usize,
    floor: f64,
) -> Vec<Candidate> {
    let mut chosen: Vec<Candidate> = Vec::new();
    for ranked in best(question, candidates, most, floor) {
        let quote = whole(question, &ranked.candidate, candidates);
        let holds = |a: &Candidate, b: &Candidate| {
            a.source == b.source && a.sentence.text.contains(&b.sentence.text)
        };
        if let Some(known) = chosen.iter_mut().find(|known| holds(&quote, known)) {
            *known = quote;
        } else if !chosen.iter().any(|known| holds(known, &quote)) {
            chosen.push(quote);
        }
    }
    chosen
}

/// A sentence as it can be quoted alone: with the one before where it refers back, with the one
/// after where it is short and that one goes on, with what announces it where that says what it is
/// about.
fn whole(question: &str, quote: &Candidate, candidates: &[Candidate]) -> Candidate {
    let mut quote = quote.clone();
    let beside = |by: isize| {
        let is_same = |c: &&Candidate| {
            c.source == quote.source
                && c.sentence.block == quote.sentence.block
                && c.sentence.kind == Kind::Prose
        };
        let block: Vec<&Candidate> = candidates.iter().filter(is_same).collect();
        let at = block.iter().position(|c| c.sentence == quote.sentence)?;
        Some(block.get(at.checked_add_signed(by)?)?.sentence.clone())
    };
    let is_prose = quote.sentence.kind == Kind::Prose;
    let words = quote.sentence.text.split(' ').count();
    if is_prose && refers_back(&quote.sentence.text) {
        if let Some(before) = beside(-1) {
            quote.sentence.text = format!("{} {}", before.text, quote.sentence.text);
            quote.sentence.line = before.line.min(quote.sentence.line);
        }
    } else if is_prose && words <= SHORT {
        let next = beside(1).filter(|next| goes_on(&next.text));
        if let Some(next) = next {
            quote.sentence.text = format!("{} {}", quote.sentence.text, next.text);
        }
    }
    let lead = &quote.sentence.lead;
    let here = stems(&quote.sentence.text);
    let of_the_question = |stem: &String| {
        let mut terms = Terms::of(question).words.into_iter();
        terms.any(|term| term.stem == *stem)
    };
    let says_more = stems(lead)
        .iter()
        .any(|stem| !here.contains(stem) && of_the_question(stem));
    if !lead.is_empty() && (says_more || quote.sentence.kind == Kind::Code) {
        quote.sentence.text = format!("{lead} {}", quote.sentence.text);
    }
    quote
}

/// The sentences that hold most of what the documents mostly speak of, in the documents' order.
pub(super) fn central(candidates: &[Candidate], most: usize) -> Vec<Ranked> {
    let words: Vec<BTreeSet<String>> = candidates
        .iter()
        .map(|c| {
            Terms::of(&c.sentence.text)
                .words
                .into_iter()
                .map(|t| t.stem)
                .collect()
        })
        .collect();
    let mut common: BTreeMap<&str, f64> = BTreeMap::new();
    for word in words.iter().flatten() {
        *common.entry(word).or_default() += 1.0;
    }
    let mut ranked: Vec<(usize, f64)> = (0..candidates.len())
        .filter(|at| candidates[*at].sentence.kind == Kind::Prose)
        .map(|at| {
            let sum: f64 = words[at].iter().map(|word| common[word.as_str()]).sum();
            // What a document is about stands at its beginning.
            let place = 1.0 / (1.0 + 0.06 * at as f64);
            let score =
                sum / (words[at].len() as f64 + 3.0) * place * form(&candidates[at].sentence);
            (at, score * candidates[at].prior)
        })
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut chosen: Vec<(usize, f64)> = Vec::new();
    for (at, score) in ranked {
        let new = chosen
            .iter()
            .all(|(known, _)| overlap(&words[*known], &words[at]) <= SAME);
        if new && chosen.len() < most {
            chosen.push((at, score));
        }
    }
    chosen.sort_by_key(|(at, _)| *at);
    chosen
        .into_iter()
        .map(|(at, score)| Ranked {
            candidate: candidates[at].clone(),
            score,
        })
        .collect()
}

/// The largest part of the question that stands in one sentence with its heading and paragraph, 0
/// to 1; each word counts the same.
pub(super) fn cover(question: &str, candidates: &[Candidate]) -> f64 {
    let terms = Terms::of(question);
    let field = Field::new(&terms, candidates);
    let asked = plain_words(question);
    let all = terms.words.len().max(1) as f64;
    let parts = candidates.iter().enumerate().map(|(at, candidate)| {
        let standing = candidate.prior * echo(&asked, &candidate.sentence.text);
        let has = |stem| field.counts[at].contains_key(stem) || field.context[at].contains(stem);
        let had = terms.words.iter().filter(|term| has(&term.stem)).count();
        standing * had as f64 / all
    });
    parts.fold(0.0, f64::max)
}

/// The words of a question that fewest candidates have, `most` of them, in the question's order.
pub(super) fn telling(question: &str, candidates: &[Candidate], most: usize) -> Vec<String> {
    let terms = Terms::of(question);
    let field = Field::new(&terms, candidates);
    let mut words: Vec<_> = terms.words.iter().enumerate().collect();
    words.sort_by_key(|(_, term)| {
        let having = |count: &&BTreeMap<String, f64>| count.contains_key(&term.stem);
        field.counts.iter().filter(having).count()
    });
    words.truncate(most);
    words.sort_by_key(|(at, _)| *at);
    words
        .into_iter()
        .map(|(_, term)| term.text.clone())
        .collect()
}

/// The words of a question that no candidate has, as written.
pub(super) fn missing(question: &str, candidates: &[Candidate]) -> Vec<String> {
    let mut there = BTreeSet::new();
    for candidate in candidates {
        there.extend(all_stems(&candidate.sentence.text));
        there.extend(all_stems(&candidate.sentence.heading));
        there.extend(all_stems(&candidate.source));
    }
    let words = Terms::of(question).words.into_iter();
    words
        .filter(|term| !there.contains(&term.stem))
        .map(|term| term.text)
        .collect()
}

/// The candidates' words, counted once.
struct Field {
    counts: Vec<BTreeMap<String, f64>>,
    lengths: Vec<f64>,
    context: Vec<BTreeSet<String>>,
    named: Vec<BTreeSet<String>>,
    texts: Vec<String>,
    /// Whether it is a line of a program, and no comment.
    programs: Vec<bool>,
    rarity: BTreeMap<String, f64>,
    mean_length: f64,
}

impl Field {
    fn new(terms: &Terms, candidates: &[Candidate]) -> Self {
        let mut blocks: BTreeMap<(&str, usize), BTreeSet<String>> = BTreeMap::new();
        let mut counts = Vec::with_capacity(candidates.len());
        let mut lengths = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let sentence = &candidate.sentence;
            let mut count: BTreeMap<String, f64> = BTreeMap::new();
            let mut length = 0.0;
            for stem in all_stems(&sentence.text) {
                *count.entry(stem).or_default() += 1.0;
                length += 1.0;
            }
            let block = blocks
                .entry((&candidate.source, sentence.block))
                .or_default();
            block.extend(count.keys().cloned());
            counts.push(count);
            lengths.push(length);
        }
        let context = candidates.iter().map(|candidate| {
            let mut words = stems(&candidate.sentence.heading);
            words.extend(stems(&candidate.sentence.lead));
            words.extend(stems(&candidate.source));
            words.extend(
                blocks[&(candidate.source.as_str(), candidate.sentence.block)]
                    .iter()
                    .cloned(),
            );
            words
        });
        let total = candidates.len() as f64;
        let having = |stem: &String| {
            counts
                .iter()
                .filter(|count| count.contains_key(stem))
                .count()
        };
        let rarity = |having: usize| {
            let having = having as f64;
            (1.0 + (total - having + 0.5) / (having + 0.5))
                .ln()
                .max(0.2)
        };
        // A word that nobody has says nothing about how rare it is: it counts like the others.
        let known: Vec<f64> = terms
            .words
            .iter()
            .map(|t| having(&t.stem))
            .filter(|n| *n > 0)
            .map(rarity)
            .collect();
        let usual = known.iter().sum::<f64>() / (known.len() as f64).max(1.0);
        let rarity = terms.words.iter().map(|term| {
            let rarity = match having(&term.stem) {
                0 => usual,
                having => rarity(having),
            };
            (term.stem.clone(), rarity * term.weight)
        });
        Self {
            rarity: rarity.collect::<BTreeMap<_, _>>(),
            context: context.collect(),
            named: candidates
                .iter()
                .map(|c| stems(file_stem(&c.source)))
                .collect(),
            programs: candidates
                .iter()
                .map(|c| c.sentence.kind == Kind::Code && Form::of(&c.source) == Form::Program)
                .collect(),
            texts: candidates
                .iter()
                .map(|c| c.sentence.text.to_lowercase())
                .collect(),
            mean_length: lengths.iter().sum::<f64>() / total.max(1.0),
            counts,
            lengths,
        }
    }

    /// How well the words of a sentence fit; `None` where it is about something else.
    fn score(&self, at: usize, terms: &Terms) -> Option<f64> {
        let (mut score, mut covered, mut wanted, mut direct) = (0.0, 0.0, 0.0, 0);
        let length = 1.0 - B + B * self.lengths[at] / self.mean_length.max(1.0);
        let is_program = self.programs[at];
        for term in &terms.words {
            let rarity = self.rarity.get(&term.stem).copied().unwrap_or(0.0);
            wanted += rarity;
            if let Some(count) = self.counts[at].get(&term.stem) {
                score += rarity * count * (K1 + 1.0) / (count + K1 * length);
                covered += rarity;
                direct += 1;
            } else if !is_program && self.named[at].contains(&term.stem) {
                score += rarity * NAMED;
                covered += rarity * NAMED;
            } else if !is_program && self.context[at].contains(&term.stem) {
                score += rarity * CONTEXT;
                covered += rarity * CONTEXT;
            }
        }
        for phrase in &terms.phrases {
            if self.texts[at].contains(&phrase.to_lowercase()) {
                score *= 1.5;
            }
        }
        let cover = covered / f64::max(wanted, 1e-9);
        let least = match is_program {
            true => LEAST_COVER_OF_CODE,
            false => LEAST_COVER,
        };
        let fits = direct > 0 && cover >= least;
        fits.then_some(score * (0.2 + cover * cover))
    }
}

/// Whether a question asks what something is, and what it is would stand at the beginning of a text.
pub(super) fn asks_what_it_is(question: &str) -> bool {
    Shape::of(question) == Shape::Definition && Terms::of(question).words.len() <= 2
}

/// What kind of answer a question wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Definition,
    Manual,
    Number,
    Reason,
    Person,
    Place,
    Outcome,
    Time,
    Open,
}

impl Shape {
    fn of(question: &str) -> Self {
        let q = question.to_lowercase();
        let has = |signs: &[&str]| signs.iter().any(|sign| q.contains(sign));
        if has(&[
            "how many",
            "how much",
            "how long",
            "how often",
            "how large",
            "how big",
            "how fast",
            "what percentage",
            "how old",
            "what version",
            "which version",
        ]) {
            Self::Number
        } else if has(&["why ", "reason", "what for"]) {
            Self::Reason
        } else if has(&["who "]) {
            Self::Person
        } else if has(&["where "]) {
            Self::Place
        } else if has(&["what happens", "what becomes"]) {
            Self::Outcome
        } else if has(&["when ", "what year", "what date"]) {
            Self::Time
        } else if has(&[
            "how do i",
            "how can i",
            "how to",
            "how do you",
            "example",
            "command",
            "install",
        ]) {
            Self::Manual
        } else if has(&[
            "what is",
            "what's",
            "what are",
            "what does",
            "what do",
            "define",
            "meaning of",
            "explain",
        ]) {
            Self::Definition
        } else {
            Self::Open
        }
    }

    /// How far a sentence has the form that the question wants, around 1.
    fn fit(self, sentence: &Sentence, terms: &Terms) -> f64 {
        let text = sentence.text.to_lowercase();
        let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        let shape = match self {
            Self::Definition => defines(&text, terms),
            Self::Manual if sentence.kind == Kind::Code => 2.2,
            Self::Manual if has_command(&sentence.text) => 1.4,
            Self::Number if counts_asked(&text, terms) && sentence.kind != Kind::Code => 2.2,
            Self::Number if has_number(&text) && sentence.kind != Kind::Code => 1.5,
            Self::Number => 0.7,
            Self::Reason
                if has(&[
                    "because",
                    "since ",
                    "so that",
                    "therefore",
                    "reason",
                    "thus",
                    "otherwise",
                    " so ",
                    "to avoid",
                    "in order",
                ]) =>
            {
                1.4
            }
            Self::Time
                if has_number(&text) || has(&["after", "before", "when ", "until", "at start"]) =>
            {
                1.3
            }
            Self::Person
                if sentence
                    .text
                    .split(' ')
                    .skip(1)
                    .any(|w| w.starts_with(char::is_uppercase)) =>
            {
                1.2
            }
            // Tables of cases say what follows from what.
            Self::Outcome if sentence.kind == Kind::Row => 1.5,
            Self::Place if is_place(&text) => 1.5,
            Self::Place => 0.75,
            _ => 1.0,
        };
        shape * form(sentence)
    }
}

/// What speaks for or against quoting a sentence, whatever was asked.
fn form(sentence: &Sentence) -> f64 {
    let words = sentence.text.split(' ').count();
    let kind = match sentence.kind {
        Kind::Prose => 1.0,
        Kind::Row => 0.9,
        Kind::Code => 0.5,
        Kind::Heading => 0.0,
    };
    let length = match words {
        0..=3 => 0.3,
        4..=6 => 0.8,
        7..=45 => 1.0,
        46..=80 => 0.8,
        _ => 0.5,
    };
    let asks = if sentence.text.ends_with('?') {
        0.4
    } else {
        1.0
    };
    let announces = if sentence.text.ends_with(':') {
        0.6
    } else {
        1.0
    };
    let dangles = if refers_back(&sentence.text) {
        0.75
    } else {
        1.0
    };
    let references = sentence.text.matches("://").count() + sentence.text.matches('#').count();
    let refers_elsewhere = if references > 1 { 0.6 } else { 1.0 };
    kind * length * asks * announces * dangles * refers_elsewhere
}

/// Whether a sentence cannot be understood without the one before.
fn refers_back(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "It ", "Its ", "They ", "Their ", "This ", "These ", "That ", "Those ", "He ", "She ",
        "So ",
    ];
    WORDS.iter().any(|word| text.starts_with(word))
}

/// Whether a sentence tells what follows from the one before.
fn goes_on(text: &str) -> bool {
    ["We ", "Then ", "Otherwise", "Instead", "There", "But "]
        .iter()
        .any(|word| text.starts_with(word))
}

/// `X is`, `a X: `, `X = `, `X (…) means`: by how much this speaks for a sentence, the more the
/// nearer X is to exactly what was asked for.
fn defines(text: &str, terms: &Terms) -> f64 {
    const VERBS: &[&str] = &[
        " is ",
        " are ",
        " means ",
        " stands for ",
        ": ",
        " = ",
        " — ",
        " holds ",
        " owns ",
        " describes ",
        " provides ",
    ];
    let Some(end) = VERBS.iter().filter_map(|verb| text.find(verb)).min() else {
        return 1.0;
    };
    let says_what = [" is a ", " is an ", " are a ", " is the "]
        .iter()
        .any(|sign| text[end..].starts_with(sign));
    let before = words_of(&text[..end]).filter(|word| !["a", "an", "the"].contains(word));
    let subject: Vec<String> = before.map(stem).collect();
    let asked = |stem: &String| terms.words.iter().any(|term| term.stem == *stem);
    let ends = subject.last().is_some_and(asked);
    match subject.len() {
        0 => 1.0,
        1..=3 if subject.iter().all(asked) && says_what => 3.0,
        1..=3 if subject.iter().all(asked) => 2.4,
        1..=3 if ends || asked(&subject[0]) => 1.5,
        4 | 5 if ends => 1.3,
        _ => 1.0,
    }
}

/// A file's name without folder and ending; of an address nothing, for those are long.
fn file_stem(source: &str) -> &str {
    if source.contains("://") {
        return "";
    }
    let name = source.rsplit('/').next().unwrap_or(source);
    name.split('.').next().unwrap_or(name)
}

/// Whether a text holds a command in backticks: code of several words.
fn has_command(text: &str) -> bool {
    text.split('`')
        .skip(1)
        .step_by(2)
        .any(|code| code.trim().contains(' '))
}

/// Whether a text names a folder, a file, an address or a variable.
fn is_place(text: &str) -> bool {
    let mut words = text.split_whitespace();
    words.any(|word| word.contains('/') && word.len() > 3)
        || [" in `", " at `", " under `"]
            .iter()
            .any(|sign| text.contains(sign))
}

/// How far a text that only repeats the question is held back.
fn echo(asked: &[String], text: &str) -> f64 {
    if asked.len() < ECHO_WORDS {
        return 1.0;
    }
    let words = plain_words(text);
    match words.windows(asked.len()).any(|window| window == asked) {
        true => ECHO,
        false => 1.0,
    }
}

/// How many pairs of neighbours both have; at least one word of each tells something.
fn pairs(asked: &[String], text: &str) -> i32 {
    let words: Vec<_> = words_of(text).map(stem).collect();
    let asked = asked
        .windows(2)
        .filter(|pair| !Terms::of(&pair.join(" ")).is_empty());
    let found = asked.filter(|pair| {
        let pair = [stem(&pair[0]), stem(&pair[1])];
        words.windows(2).any(|window| window == pair)
    });
    found.take(MOST_PAIRS).count() as i32
}

fn plain_words(text: &str) -> Vec<String> {
    words_of(text).map(str::to_lowercase).collect()
}

/// Whether a number stands right before a word of the question: `three attempts`.
fn counts_asked(text: &str, terms: &Terms) -> bool {
    let words: Vec<_> = words_of(text).collect();
    words.windows(2).any(|pair| {
        let counted = stem(pair[1]);
        has_number(pair[0]) && terms.words.iter().any(|term| term.stem == counted)
    })
}

fn has_number(text: &str) -> bool {
    const NUMBERS: &[&str] = &[
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "twelve", "twice", "once", "dozen", "hundred", "thousand", "million", "never",
    ];
    text.chars().any(|c| c.is_ascii_digit()) || words_of(text).any(|word| NUMBERS.contains(&word))
}

fn all_stems(text: &str) -> impl Iterator<Item = String> {
    words_of(text).flat_map(|word| {
        // `run.owner` is found by `owner` too.
        let parts: Vec<_> = word
            .split(['.', '_', ':', '/', '-'])
            .filter(|p| !p.is_empty())
            .collect();
        let parts = if parts.len() > 1 { parts } else { Vec::new() };
        std::iter::once(stem(word))
            .chain(parts.into_iter().map(stem))
            .collect::<Vec<_>>()
    })
}

/// The words of a text, each once, as they are compared.
pub(super) fn stems(text: &str) -> BTreeSet<String> {
    all_stems(text).collect()
}

/// How much of the shorter one's words both have.
fn overlap(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let shorter = a.len().min(b.len()).max(1) as f64;
    a.intersection(b).count() as f64 / shorter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::offline::sentences::{Form, split};

    const DOC: &str = "# Engine\n\
        A lease is a promise that one worker alone writes a run. Leases last 30 seconds and are renewed every 10.\n\n\
        The worker stops all runs when its lease is lost, because another one may own them now.\n\n\
        ## Money\n\
        Budgets are reserved before the call. A budget that is spent pauses the task.\n\n\
        The engine is written in Rust.\n";

    fn top(question: &str) -> Option<String> {
        let candidates: Vec<_> = split(DOC, 1, Form::Document)
            .into_iter()
            .map(|sentence| Candidate {
                sentence,
                source: "engine.md".into(),
                prior: 1.0,
            })
            .collect();
        let best = best(question, &candidates, 3, 0.3);
        best.first()
            .map(|r| format!("{} [{}]", r.candidate.sentence.text, r.candidate.cite()))
    }

    #[test]
    fn different_questions_find_different_sentences() {
        let table = [
            (
                "What is a lease?",
                "A lease is a promise that one worker alone writes a run. [engine.md:2]",
            ),
            (
                "How long does a lease last?",
                "Leases last 30 seconds and are renewed every 10. [engine.md:2]",
            ),
            (
                "Why does a worker stop its runs?",
                "The worker stops all runs when its lease is lost, because another one may own them now. [engine.md:4]",
            ),
            (
                "What happens when the budget is spent?",
                "A budget that is spent pauses the task. [engine.md:7]",
            ),
            (
                "Which language is the engine written in?",
                "The engine is written in Rust. [engine.md:9]",
            ),
        ];
        for (question, answer) in table {
            assert_eq!(top(question).as_deref(), Some(answer), "{question}");
        }
        assert_eq!(top("Who won the football match?"), None);
        assert_eq!(top(""), None);
    }

    fn quoted(source: &str, text: &str, question: &str) -> Vec<String> {
        let pieces = split(text, 1, Form::of(source)).into_iter();
        let candidates: Vec<_> = pieces
            .map(|sentence| Candidate {
                sentence,
                source: source.into(),
                prior: 1.0,
            })
            .collect();
        let quotes = quotes(question, &candidates, 5, 0.5).into_iter();
        quotes.map(|quote| quote.sentence.text).collect()
    }

    #[test]
    fn what_repeats_the_question_is_no_answer() {
        let question = "What happens to an effect in doubt after a crash?";
        let asks = format!("Try:\n\n    run ask \"{question}\"\n");
        let answers = "A step in doubt after a crash waits for a person.";
        let both = format!("## {question}\n\n{asks}\n{answers}\n");
        assert_eq!(quoted("a.md", &both, question), [answers]);
        // Where there is nothing else, it is shown.
        let alone = format!("Try: run ask \"{question}\"");
        assert_eq!(quoted("a.md", &alone, question), [alone]);
    }

    #[test]
    fn a_place_is_named_by_an_answer_to_where() {
        let text = "The data folder is held by one process.\n\nThe data folder lies in `~/.local/share`.\n";
        let found = quoted("a.md", text, "Where is the data folder?");
        assert_eq!(found[0], "The data folder lies in `~/.local/share`.");
    }

    #[test]
    fn a_quote_can_stand_alone() {
        let table = [
            (
                "It lacks a few features. This includes backreferences in patterns.",
                "Does it support backreferences in patterns?",
                "It lacks a few features. This includes backreferences in patterns.",
            ),
            (
                "An effect can be in doubt. We ask a person.",
                "When is an effect in doubt?",
                "An effect can be in doubt. We ask a person.",
            ),
            (
                "Rand is not:\n\n- a cryptographic library\n",
                "Is rand a cryptographic library?",
                "Rand is not: a cryptographic library",
            ),
        ];
        for (text, question, expected) in table {
            assert_eq!(quoted("a.md", text, question)[0], expected);
        }
    }

    #[test]
    fn a_programs_own_lines_need_nearly_all_words() {
        let code = "assert_eq!(top(\"Who painted the wooden fence\"), None);";
        let question = "Who painted the wooden garden gate?";
        assert_eq!(quoted("a.rs", code, question), Vec::<String>::new());
        assert_eq!(quoted("a.rs", code, "painted wooden fence").len(), 1);
    }

    #[test]
    fn the_thing_that_is_counted_must_be_there() {
        let text = "A slow lift is bad for guests.\n\nA lift sticks: at most three rides, then the porter is told.\n";
        let found = quoted("a.md", text, "How many rides does a slow lift get?");
        assert!(found[0].contains("three rides"), "{found:?}");
    }

    #[test]
    fn the_words_that_tell_most_are_those_that_few_have() {
        let pieces = split(
            "Runs run.\n\nRuns end.\n\nRuns have epochs.\n",
            1,
            Form::Document,
        );
        let candidates: Vec<_> = pieces
            .into_iter()
            .map(|sentence| Candidate {
                sentence,
                source: "a.md".into(),
                prior: 1.0,
            })
            .collect();
        assert_eq!(telling("runs and epochs", &candidates, 1), ["epochs"]);
        assert_eq!(cover("runs and epochs", &candidates), 1.0);
        assert_eq!(cover("boats and epochs", &candidates), 0.5);
    }

    #[test]
    fn the_same_said_twice_is_quoted_once() {
        let sentence = split("The lease lasts 30 seconds.", 1, Form::Document).remove(0);
        let candidate = |source: &str| Candidate {
            sentence: sentence.clone(),
            source: source.into(),
            prior: 1.0,
        };
        let found = best("lease", &[candidate("a.md"), candidate("b.md")], 5, 0.0);
        assert_eq!(found.len(), 1);
    }
}
