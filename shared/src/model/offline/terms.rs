//! Words of a question and of a text: what counts, and when two are the same. Pure; used by search,
//! ranking and routing alike.

use std::collections::BTreeSet;

/// What a question asks for, in the order of its words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Terms {
    /// Single words, as written.
    pub(super) words: Vec<Term>,
    /// Phrases that stood in quotes, as written.
    pub(super) phrases: Vec<String>,
}

/// One word that counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    /// As written.
    pub(super) text: String,
    /// As compared.
    pub(super) stem: String,
    /// How much it counts: names, identifiers and numbers say more than common words.
    pub(super) weight: f64,
}

impl Terms {
    /// The words of `text` that say what it is about.
    pub(super) fn of(text: &str) -> Self {
        let phrases = quoted(text);
        let mut seen = BTreeSet::new();
        let mut words = Vec::new();
        let mut wanted = "";
        for (at, word) in words_of(text).enumerate() {
            let stem = stem(word);
            let before = std::mem::replace(&mut wanted, word).to_lowercase();
            if is_stop_word(&word.to_lowercase()) && !is_identifier(word)
                || !seen.insert(stem.clone())
            {
                continue;
            }
            let in_phrase = phrases
                .iter()
                .any(|phrase| words_of(phrase).any(|w| w == word));
            words.push(Term {
                weight: weight(word, at == 0)
                    * if in_phrase { 1.5 } else { 1.0 }
                    * asked_for(&before),
                text: word.to_owned(),
                stem,
            });
        }
        Self { words, phrases }
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// For a search tool: quoted phrases stay together.
    pub(super) fn query(&self) -> String {
        let words = self.words.iter().map(|term| term.text.as_str());
        words.collect::<Vec<_>>().join(" ")
    }

    /// The terms as people read them: `lease, epoch`.
    pub(super) fn listed(&self) -> String {
        let words = self.words.iter().map(|term| term.text.as_str());
        words.collect::<Vec<_>>().join(", ")
    }
}

/// The words of a text. What holds an identifier or a number together stays together:
/// `run.owner`, `op_hash`, `0.43`, `kill-9`, `a::b`.
pub(super) fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || "_-.:'’/".contains(c)))
        .flat_map(split_joined)
        .map(|word| word.trim_matches(|c: char| !(c.is_alphanumeric() || c == '_')))
        .map(|word| {
            ["'s", "’s"]
                .iter()
                .find_map(|end| word.strip_suffix(end))
                .unwrap_or(word)
        })
        .filter(|word| !word.is_empty())
}

/// `and/or` and `well-known` are two words, `src/lib.rs` and `a::b` one.
fn split_joined(word: &str) -> impl Iterator<Item = &str> {
    let plain = word
        .chars()
        .all(|c| c.is_alphabetic() || "-/'’".contains(c));
    let separators: &[char] = if plain { &['/', '-'] } else { &[] };
    word.split(separators)
}

/// The form in which words are compared: lower case, without common English endings. Rough on
/// purpose; both sides go through it.
pub(super) fn stem(word: &str) -> String {
    let word = word.to_lowercase();
    if is_identifier(&word) || word.chars().count() <= 3 {
        return word;
    }
    let table: &[(&str, &str)] = &[
        ("izations", "iz"),
        ("ization", "iz"),
        ("ations", "at"),
        ("ation", "at"),
        ("ies", "y"),
        ("sses", "ss"),
        ("ying", "y"),
        ("ings", ""),
        ("ing", ""),
        ("ied", "y"),
        ("edly", ""),
        ("ed", ""),
        ("ly", ""),
        ("es", ""),
        ("ss", "ss"),
        ("us", "us"),
        ("is", "is"),
        ("s", ""),
        ("e", ""),
    ];
    let stemmed = table.iter().find_map(|(end, instead)| {
        let rest = word.strip_suffix(end)?;
        // What is put back counts as part of what must remain.
        (rest.chars().count() + instead.len().min(2) >= 3).then(|| format!("{rest}{instead}"))
    });
    let mut stemmed = stemmed.unwrap_or(word);
    // `stopped` and `stop`, but not `fall`.
    let mut ends = stemmed.chars().rev();
    if let (Some(a), Some(b)) = (ends.next(), ends.next())
        && a == b
        && stemmed.chars().count() > 3
        && !"lszaeiou".contains(a)
    {
        stemmed.pop();
    }
    if stemmed.len() > 4 && stemmed.ends_with('e') {
        stemmed.pop();
    }
    stemmed
}

/// Text that stands in quotes or in backticks.
pub(super) fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('"', '"'), ('`', '`'), ('“', '”'), ('„', '“'), ('«', '»')] {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((inside, later)) = after.split_once(close) else {
                break;
            };
            if !inside.trim().is_empty() {
                found.push(inside.trim().to_owned());
            }
            rest = later;
        }
    }
    found
}

/// The addresses in a text.
pub(super) fn urls(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "<>\"`".contains(c)) {
        let Some(start) = word.find("http://").or_else(|| word.find("https://")) else {
            continue;
        };
        let url = word[start..].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '\'']);
        if url.len() > "https://".len() && !found.iter().any(|known| known == url) {
            found.push(url.to_owned());
        }
    }
    found
}

/// The names of files in a text: `README.md`, `src/run.rs`. Addresses are none.
pub(super) fn file_names(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "<>\"'`(),;!?“”".contains(c)) {
        let word = word.trim_end_matches(['.', ':']).trim_start_matches("./");
        let is_file = word.rsplit_once('.').is_some_and(|(name, end)| {
            !name.is_empty()
                && (1..=5).contains(&end.len())
                && end.chars().all(|c| c.is_ascii_alphanumeric())
                && end.chars().any(|c| c.is_ascii_alphabetic())
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_-./".contains(c))
                && name.chars().filter(|c| c.is_alphanumeric()).count() + end.len() > 2
        });
        if is_file && !word.contains("://") && !found.iter().any(|known| known == word) {
            found.push(word.to_owned());
        }
    }
    found
}

/// How much more the word counts that names what is asked for: `how many attempts`, `which port`.
fn asked_for(before: &str) -> f64 {
    match before {
        "many" | "much" | "which" => 2.0,
        _ => 1.0,
    }
}

fn weight(word: &str, first: bool) -> f64 {
    let capital = word.chars().next().is_some_and(char::is_uppercase);
    if is_identifier(word) {
        2.0
    } else if capital && !first {
        1.5
    } else {
        1.0
    }
}

/// Whether a question is about code: it holds a name from there, or says so.
pub(super) fn names_code(terms: &Terms) -> bool {
    const WORDS: &[&str] = &[
        "code",
        "function",
        "struct",
        "method",
        "constant",
        "implementation",
    ];
    terms.words.iter().any(|term| {
        let is_name = term.text.contains(['_', ':'])
            || term.text.chars().skip(1).any(char::is_uppercase)
                && term.text.chars().any(char::is_lowercase);
        is_name || WORDS.contains(&term.text.to_lowercase().as_str())
    })
}

/// A word that is a name in code, a number, or an abbreviation.
pub(super) fn is_identifier(word: &str) -> bool {
    let inner_capital = word.chars().skip(1).any(char::is_uppercase);
    inner_capital
        || word
            .chars()
            .any(|c| c.is_ascii_digit() || "_:/.".contains(c))
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// English words that say nothing about what a question is about, question words and polite
/// phrases included. Sorted.
#[rustfmt::skip]
const STOP_WORDS: &[&str] = &[
    "a", "about", "actually", "after", "again", "all", "also", "am", "an", "and", "another",
    "answer", "any", "anything", "are", "as", "ask", "at", "be", "because", "been", "before",
    "being", "between", "both", "briefly", "but", "by", "can", "could", "describe", "did", "do",
    "does", "doing", "don't", "done", "each", "else", "every", "exactly", "explain", "find",
    "for", "from", "get", "give", "given", "gives", "had", "happen", "happens", "has", "have",
    "having", "he", "hello", "help", "her", "here", "hi", "him", "his", "how", "i", "if", "in",
    "instead", "into", "is", "it", "its", "just", "kind", "know", "let", "like", "list", "long",
    "look", "made", "make", "makes", "many", "may", "me", "mean", "means", "might", "more",
    "most", "much", "must", "my", "need", "no", "not", "of", "off", "often", "on", "one", "only",
    "or", "other", "our", "out", "over", "own", "please", "question", "say", "says", "shall",
    "she", "should", "show", "so", "some", "such", "summarise", "summarize", "tell", "than",
    "thanks", "that", "that's", "the", "their", "them", "then", "there", "there's", "these",
    "they", "thing", "this", "those", "through", "to", "too", "under", "up", "us", "use", "used",
    "uses", "using", "various", "very", "want", "was", "we", "were", "what", "when", "where",
    "whether", "which", "while", "who", "whom", "whose", "why", "will", "with", "without",
    "would", "you", "your",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_can_be_looked_up() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn a_question_becomes_what_it_is_about() {
        let table = [
            ("What is a lease?", "lease"),
            (
                "How many times does the engine retry a failed call?",
                "times engine retry failed call",
            ),
            (
                "Why is `op_hash` checked, and what does \"in doubt\" mean?",
                "op_hash checked doubt",
            ),
            ("What's async-openai 0.43's trap?", "async openai 0.43 trap"),
            (
                "Which crates does RunCtx::act need in src/run.rs?",
                "crates RunCtx::act src/run.rs",
            ),
            ("how do leases and lease epochs work", "leases epochs work"),
            ("hello!", ""),
            ("", ""),
        ];
        for (question, query) in table {
            assert_eq!(Terms::of(question).query(), query, "{question}");
        }
    }

    #[test]
    fn forms_of_a_word_are_one() {
        let table = [
            ("replays", "replay"),
            ("replayed", "replay"),
            ("policies", "policy"),
            ("retries", "retry"),
            ("retried", "retry"),
            ("stopped", "stop"),
            ("stopping", "stops"),
            ("leases", "lease"),
            ("caches", "cache"),
            ("cached", "cache"),
            ("budgets", "budget"),
            ("passes", "pass"),
            ("prices", "price"),
            ("writing", "write"),
            ("processes", "process"),
        ];
        for (a, b) in table {
            assert_eq!(stem(a), stem(b), "{a} {b}");
        }
        for (a, b) in [
            ("status", "stat"),
            ("run", "ruin"),
            ("task", "ask"),
            ("store", "story"),
        ] {
            assert_ne!(stem(a), stem(b), "{a} {b}");
        }
    }

    #[test]
    fn addresses_and_files_are_seen() {
        let text = "Compare README.md, ./src/run.rs and (https://example.com/a.html). Version 0.43, e.g. this.";
        assert_eq!(urls(text), ["https://example.com/a.html"]);
        assert_eq!(file_names(text), ["README.md", "src/run.rs"]);
    }
}
