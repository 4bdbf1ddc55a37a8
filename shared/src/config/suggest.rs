//! "Did you mean": the nearest of the words that would have been right.

/// A sentence that helps after an unknown word: the nearest known one, and the whole choice.
pub(super) fn help<'a>(word: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let choice = match known.is_empty() {
        true => format!("there are no {what}"),
        false => format!("{what}: {}", known.join(", ")),
    };
    match nearest(word, &known) {
        Some(near) => format!("did you mean `{near}`? ({choice})"),
        None => choice,
    }
}

/// The known word that is at most a third of its letters away from `word`.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    known
        .iter()
        .map(|near| (strsim::damerau_levenshtein(&word, &plain(near)), *near))
        .filter(|(distance, near)| distance * 3 <= near.chars().count().max(3))
        .min()
        .map(|(_, near)| near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        let known = ["openai", "offline", "read_file", "then"];
        let cases = [
            ("opanai", Some("openai")),
            ("Read-File", Some("read_file")),
            ("thne", Some("then")),
            ("zebra", None),
            ("", None),
        ];
        for (word, near) in cases {
            assert_eq!(nearest(word, &known), near, "{word}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
