//! Ranking passages of texts for a question's words: BM25 over passages of a few lines, with a
//! small stemmer for English. Pure and deterministic; files are `search_files`' matter.
//!
//! Score: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009),
//! k1 = 1.2, b = 0.75; times the share of the question's words that occur at all, so that one rare
//! word said often does not beat a passage that speaks of everything asked.

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// More words than this add nothing to a ranking.
const MAX_TERMS: usize = 16;

/// A passage ends at a blank line after this many lines,
const SOFT_LINES: u32 = 6;
/// at any line after this many,
const HARD_LINES: u32 = 16;
/// and before one that would make it longer than this.
const MAX_BYTES: usize = 2000;

/// What a question's word in a file's name is worth beside one in the passage.
const NAME_WEIGHT: f64 = 0.6;

/// Words that every text has.
#[rustfmt::skip]
const STOP: &[&str] = &[
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "could", "did",
    "do", "does", "for", "from", "give", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it",
    "its", "me", "my", "not", "of", "on", "or", "our", "please", "say", "should", "show", "so", "tell", "than",
    "that", "the", "their", "them", "there", "they", "this", "to", "us", "was", "we", "were", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
];

/// The words of a question, as they are looked for.
#[derive(Clone, Debug)]
pub struct Query {
    stems: Vec<String>,
    /// By the first two bytes of a word, whether any stem begins so: spares stemming nearly all.
    heads: Box<[bool; 1 << 16]>,
}

impl Query {
    /// The words of `text`; `None` where it holds none. Stop words count only where there is
    /// nothing else.
    pub fn new(text: &str) -> Option<Self> {
        let mut all = Vec::new();
        words(text, |word| {
            let word = word.to_lowercase();
            if !all.contains(&word) {
                all.push(word);
            }
        });
        let telling: Vec<_> = all
            .iter()
            .filter(|word| !STOP.contains(&word.as_str()))
            .cloned()
            .collect();
        let chosen = if telling.is_empty() { all } else { telling };
        let mut stems = Vec::new();
        for stem in chosen.iter().map(|word| stem(word).to_string()) {
            if !stems.contains(&stem) && stems.len() < MAX_TERMS {
                stems.push(stem);
            }
        }
        let mut heads = Box::new([false; 1 << 16]);
        for stem in &stems {
            heads[head(stem)] = true;
        }
        (!stems.is_empty()).then_some(Self { stems, heads })
    }

    /// The words, stemmed, as they are looked for.
    pub fn stems(&self) -> &[String] {
        &self.stems
    }

    /// Which of the words this one is.
    fn find(&self, word: &str) -> Option<usize> {
        if word.is_ascii() && !self.heads[head(word)] {
            return None;
        }
        let word = word.to_lowercase();
        let stem = stem(&word);
        self.stems.iter().position(|wanted| *wanted == stem)
    }

    /// The byte at which the first of the words stands in `text`.
    pub fn first_in(&self, text: &str) -> Option<usize> {
        let mut first = None;
        words(text, |word| {
            if first.is_none() && self.find(word).is_some() {
                first = Some(word.as_ptr() as usize - text.as_ptr() as usize);
            }
        });
        first
    }
}

fn head(word: &str) -> usize {
    let byte = |at: usize| {
        word.as_bytes()
            .get(at)
            .map_or(0, |byte| byte.to_ascii_lowercase() as usize)
    };
    byte(0) << 8 | byte(1)
}

/// A passage that holds at least one of the words, or stands at the top of a file named by one.
#[derive(Clone, Copy, Debug)]
struct Hit {
    file: u32,
    from: u32,
    to: u32,
    words: u32,
    counts: [u8; MAX_TERMS],
    named: u16,
}

/// A passage and how well it answers. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The number under which the text was added.
    pub file: u32,
    /// The first line.
    pub from: u32,
    /// The last line.
    pub to: u32,
    /// Higher is better; comparable within one search only.
    pub score: f64,
}

/// All passages seen so far.
#[derive(Debug, Default)]
pub struct Corpus {
    passages: u64,
    words: u64,
    passages_with: [u32; MAX_TERMS],
    hits: Vec<Hit>,
}

impl Corpus {
    /// Adds a text under a number. In Markdown a passage also ends before a heading, and a word in
    /// a heading counts twice. Returns whether any of the words was found in it.
    pub fn add(
        &mut self,
        query: &Query,
        file: u32,
        name: &str,
        text: &str,
        markdown: bool,
    ) -> bool {
        let before = self.hits.len();
        let mut named = 0u16;
        words(name, |word| {
            if let Some(term) = query.find(word) {
                named |= 1 << term;
            }
        });
        let mut passage = Passage::at(1);
        let mut top = None;
        for (line, number) in text.lines().zip(1u32..) {
            let heading = markdown && line.starts_with('#');
            if passage.is_full(line, heading) {
                top = top.or(Some(number - 1));
                self.close(&passage, file, number - 1, named);
                passage = Passage::at(number);
            }
            passage.take(query, line, heading);
        }
        let last = passage.from + passage.lines.max(1) - 1;
        self.close(&passage, file, last, named);
        let found = self.hits.len() > before;
        if !found && named != 0 {
            self.hits
                .push(Passage::at(1).hit(file, top.unwrap_or(last), named));
        }
        found
    }

    fn close(&mut self, passage: &Passage, file: u32, to: u32, named: u16) {
        self.passages += 1;
        self.words += u64::from(passage.words);
        if passage.counts.iter().all(|count| *count == 0) {
            return;
        }
        for (with, count) in self.passages_with.iter_mut().zip(passage.counts) {
            *with += u32::from(count > 0);
        }
        self.hits.push(passage.hit(file, to, named));
    }

    /// The `most` best passages, at most `per_file` of one text, best first; equal ones by text and
    /// line.
    pub fn rank(&self, query: &Query, most: usize, per_file: usize) -> Vec<Ranked> {
        let mut ranked: Vec<_> = self.hits.iter().map(|hit| self.score(query, hit)).collect();
        ranked.sort_unstable_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then(a.file.cmp(&b.file))
                .then(a.from.cmp(&b.from))
        });
        let mut of_file = std::collections::HashMap::<u32, usize>::new();
        ranked.retain(|passage| {
            let seen = of_file.entry(passage.file).or_default();
            *seen += 1;
            *seen <= per_file
        });
        ranked.truncate(most);
        ranked
    }

    fn score(&self, query: &Query, hit: &Hit) -> Ranked {
        let mean = self.words as f64 / self.passages.max(1) as f64;
        let length = 1.0 - B + B * f64::from(hit.words) / mean.max(1.0);
        let (mut sum, mut found) = (0.0, 0usize);
        for term in 0..query.stems.len() {
            let count = f64::from(hit.counts[term]);
            let named = hit.named & (1 << term) != 0;
            let idf = self.idf(term);
            sum += idf * count * (K1 + 1.0) / (count + K1 * length);
            sum += if named { NAME_WEIGHT * idf } else { 0.0 };
            found += usize::from(count > 0.0 || named);
        }
        let share = found as f64 / query.stems.len() as f64;
        Ranked {
            file: hit.file,
            from: hit.from,
            to: hit.to,
            score: sum * (0.3 + 0.7 * share),
        }
    }

    fn idf(&self, term: usize) -> f64 {
        let with = f64::from(self.passages_with[term]);
        (1.0 + (self.passages as f64 - with + 0.5).max(0.0) / (with + 0.5)).ln()
    }
}

/// The passage that is being read.
struct Passage {
    from: u32,
    lines: u32,
    bytes: usize,
    words: u32,
    ends_blank: bool,
    counts: [u8; MAX_TERMS],
}

impl Passage {
    fn at(from: u32) -> Self {
        Self {
            from,
            lines: 0,
            bytes: 0,
            words: 0,
            ends_blank: false,
            counts: [0; MAX_TERMS],
        }
    }

    /// Whether `next` begins another passage.
    fn is_full(&self, next: &str, heading: bool) -> bool {
        self.lines > 0
            && (heading && self.words > 0
                || self.ends_blank && self.lines >= SOFT_LINES
                || self.lines >= HARD_LINES
                || self.bytes + next.len() > MAX_BYTES)
    }

    fn take(&mut self, query: &Query, line: &str, heading: bool) {
        self.lines += 1;
        self.bytes += line.len() + 1;
        self.ends_blank = line.trim_start().is_empty();
        words(line, |word| {
            self.words += 1;
            if let Some(term) = query.find(word) {
                self.counts[term] = self.counts[term].saturating_add(1 + u8::from(heading));
            }
        });
    }

    fn hit(&self, file: u32, to: u32, named: u16) -> Hit {
        Hit {
            file,
            from: self.from,
            to,
            words: self.words,
            counts: self.counts,
            named,
        }
    }
}

/// Calls `take` with each word: runs of letters and digits, the parts of `snake_case`, both the
/// whole and the parts of `camelCase`, and each character of scripts that leave no spaces.
fn words<'a>(text: &'a str, mut take: impl FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let part_of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80;
    let mut at = 0;
    while at < bytes.len() {
        if !part_of_word(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && part_of_word(bytes[at]) {
            at += 1;
        }
        let run = &text[start..at];
        if run.is_ascii() {
            ascii_word(run, &mut take);
        } else {
            other_words(run, &mut take);
        }
    }
}

fn ascii_word<'a>(run: &'a str, take: &mut impl FnMut(&'a str)) {
    take(run);
    let bytes = run.as_bytes();
    let mut from = 0;
    for at in 1..bytes.len() {
        if bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase() {
            take(&run[from..at]);
            from = at;
        }
    }
    if from > 0 {
        take(&run[from..]);
    }
}

fn other_words<'a>(run: &'a str, take: &mut impl FnMut(&'a str)) {
    for word in run
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if !word.contains(unspaced) {
            take(word);
            continue;
        }
        for (at, c) in word.char_indices() {
            take(&word[at..at + c.len_utf8()]);
        }
    }
}

/// Scripts written without spaces: kana, Han, Hangul, Thai.
fn unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0e7f}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
}

/// The stem of a lower-case word: plural, `-ed`, `-ing`, `-ion` and a silent `e` taken off where
/// enough remains. Words that are not English lose at most such an ending, on both sides alike.
fn stem(word: &str) -> std::borrow::Cow<'_, str> {
    use std::borrow::Cow::{Borrowed, Owned};
    if !word.is_ascii() || word.len() < 4 {
        return Borrowed(word);
    }
    let word = match word
        .strip_suffix("ies")
        .or_else(|| word.strip_suffix("ied"))
    {
        Some(start) if start.len() >= 2 => return Owned(format!("{start}y")),
        _ => word,
    };
    let keeps_s = ["ss", "us", "is"].iter().any(|end| word.ends_with(end));
    let word = if keeps_s {
        word
    } else {
        word.strip_suffix('s').unwrap_or(word)
    };
    let cut = ["ing", "ed"]
        .iter()
        .find_map(|end| word.strip_suffix(end).filter(|start| start.len() >= 3))
        .map(undoubled);
    let word = cut.unwrap_or(word);
    let word = word
        .strip_suffix("ion")
        .filter(|start| start.len() >= 4 && start.ends_with('t'))
        .unwrap_or(word);
    Borrowed(
        word.strip_suffix('e')
            .filter(|start| start.len() >= 3)
            .unwrap_or(word),
    )
}

/// `running` is `run`, but `calling` is `call`.
fn undoubled(word: &str) -> &str {
    let bytes = word.as_bytes();
    match bytes {
        [.., a, b] if a == b && !matches!(b, b'l' | b's' | b'z') && bytes.len() > 3 => {
            &word[..word.len() - 1]
        }
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_share_a_stem() {
        for forms in [
            &["retry", "retries", "retried", "retrying"][..],
            &["cache", "caches", "cached", "caching"],
            &["run", "runs", "running"],
            &["call", "calls", "called", "calling"],
            &["escalate", "escalation", "escalations", "escalated"],
            &["process", "processed", "processing"],
            &["limit", "limits", "limited"],
        ] {
            let stems: Vec<_> = forms.iter().map(|form| stem(form).into_owned()).collect();
            assert!(stems.iter().all(|other| *other == stems[0]), "{stems:?}");
        }
        for apart in [
            ("status", "statue"),
            ("is", "i"),
            ("class", "clas"),
            ("bring", "br"),
        ] {
            assert_ne!(stem(apart.0), stem(apart.1));
        }
    }

    #[test]
    fn a_question_loses_its_stop_words_unless_it_has_no_others() {
        assert_eq!(
            Query::new("How does the RunCtx retry?").unwrap().stems(),
            ["runctx", "run", "ctx", "retry"]
        );
        assert_eq!(
            Query::new("what is it").unwrap().stems(),
            ["what", "is", "it"]
        );
        assert!(Query::new(" ?! ").is_none());
        assert_eq!(
            Query::new("東京 の café").unwrap().stems(),
            ["東", "京", "の", "café"]
        );
    }

    fn rank(question: &str, texts: &[&str]) -> Vec<Ranked> {
        let query = Query::new(question).unwrap();
        let mut corpus = Corpus::default();
        for (text, file) in texts.iter().zip(0..) {
            corpus.add(&query, file, "x.md", text, true);
        }
        corpus.rank(&query, 10, 3)
    }

    #[test]
    fn the_passage_that_speaks_of_everything_asked_comes_first() {
        let ranked = rank(
            "retry pause cap",
            &[
                "retry retry retry retry",
                "nothing here",
                "The pause doubles at each retry up to a cap.",
                "cap",
            ],
        );
        assert_eq!(ranked[0].file, 2);
        assert!(ranked.iter().all(|passage| passage.file != 1));
    }

    #[test]
    fn passages_end_at_headings_and_carry_their_lines() {
        let text = "# One\nalpha\n\n# Two\nbeta\n\n# Three\ngamma\n";
        let ranked = rank("beta", &[text]);
        assert_eq!((ranked[0].from, ranked[0].to), (4, 6));
        let ranked = rank("gamma", &[text]);
        assert_eq!((ranked[0].from, ranked[0].to), (7, 8));
    }

    #[test]
    fn a_name_alone_brings_the_top_of_the_file() {
        let query = Query::new("architecture").unwrap();
        let mut corpus = Corpus::default();
        corpus.add(
            &query,
            0,
            "docs/ARCHITECTURE.md",
            "# Map\nhow it is built\n# More\n",
            true,
        );
        corpus.add(&query, 1, "empty_architecture.md", "", true);
        let ranked = corpus.rank(&query, 10, 3);
        assert_eq!((ranked[0].file, ranked[0].from, ranked[0].to), (0, 1, 2));
        assert_eq!(ranked.len(), 2);
    }

    #[test]
    fn equal_scores_keep_the_order_of_files_and_lines() {
        let ranked = rank("same", &["same", "same", "same"]);
        assert_eq!(
            ranked
                .iter()
                .map(|passage| passage.file)
                .collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}
