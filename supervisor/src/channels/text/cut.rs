//! Cuts a document into pieces that fit. One walk from the start of each piece to the first
//! character that does not fit, then back to the best border passed: never further back than three
//! quarters, so that the whole stays linear.

use std::ops::Range;

use super::glyph::{Clusters, is_blank};
use super::{Document, Kind, Limit, Span};

/// How good a place is for a cut, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Border {
    Character,
    Cluster,
    Word,
    IndentedLine,
    Line,
    Paragraph,
}

/// See [`Document::pieces`].
pub(super) fn pieces(document: &Document, limit: &Limit) -> Vec<Document> {
    let mut pieces = Vec::new();
    let mut walk = Walk {
        document,
        limit,
        open: Vec::new(),
        next: 0,
    };
    let mut start = 0;
    while start < document.text.len() {
        let (end, spans) = walk.piece(start);
        let piece = clip(document, start..end, &spans);
        if !piece.text.chars().all(is_blank) {
            pieces.push(piece);
        }
        start = end;
    }
    pieces
}

/// A part of a document, without the blank lines around it, with those of its spans that are named.
pub(super) fn clip(document: &Document, range: Range<usize>, spans: &[usize]) -> Document {
    let text = &document.text;
    let range = trimmed(text, range, true);
    let clipped = |index: &usize| {
        let Span { range: of, kind } = document.spans.get(*index)?;
        let part = of.start.max(range.start)..of.end.min(range.end);
        let part = trimmed(text, part, matches!(kind, Kind::Pre(_)));
        (!part.is_empty()).then(|| Span {
            range: part.start - range.start..part.end - range.start,
            kind: kind.clone(),
        })
    };
    Document {
        spans: spans.iter().filter_map(clipped).collect(),
        text: text[range.clone()].to_owned(),
    }
}

/// A range without the white space at its edges, but for the indentation of its first line if that
/// is to be kept.
pub(super) fn trimmed(text: &str, range: Range<usize>, indented: bool) -> Range<usize> {
    if range.start >= range.end {
        return range.start..range.start;
    }
    let part = text[range.clone()].trim_end();
    let blank = part.len() - part.trim_start().len();
    let cut = match part[..blank].rfind('\n') {
        Some(line) if indented => line + 1,
        None if indented => 0,
        _ => blank,
    };
    range.start + cut..range.start + part.len()
}

struct Walk<'a> {
    document: &'a Document,
    limit: &'a Limit,
    /// The spans that go on where the next piece starts.
    open: Vec<usize>,
    /// The first span that starts there or later.
    next: usize,
}

impl Walk<'_> {
    /// Where the piece ends that starts here, and its spans.
    fn piece(&mut self, start: usize) -> (usize, Vec<usize>) {
        let Limit { size, spans, .. } = *self.limit;
        let mut inside = self.open.clone();
        let mut used: usize = inside.iter().map(|index| self.span_size(*index)).sum();
        let mut clusters = Clusters::default();
        let mut best: Option<(Border, usize)> = None;
        let mut end = self.document.text.len();
        for (at, c) in self.document.text[start..].char_indices() {
            let at = start + at;
            let late = used * 4 >= size || inside.len() * 4 >= spans;
            let cluster = clusters.begins(c);
            if at > start && late {
                let border = self.border(at, c, cluster, &inside);
                if best.is_none_or(|(before, _)| border >= before) {
                    best = Some((border, at));
                }
            }
            while self.starts(self.next, at) {
                used += self.span_size(self.next);
                inside.push(self.next);
                self.next += 1;
            }
            used += (self.limit.of_char)(c);
            if used > size || inside.len() > spans {
                let least = at.max(start + c.len_utf8());
                end = best.map_or(least, |(_, at)| at);
                break;
            }
        }
        self.resume(end, &inside);
        inside.retain(|index| *index < self.next);
        (end, inside)
    }

    /// Sets the walk back to where the next piece starts.
    fn resume(&mut self, at: usize, inside: &[usize]) {
        let spans = &self.document.spans;
        self.next = spans.partition_point(|span| span.range.start < at);
        let goes_on = |index: &&usize| {
            let span = spans.get(**index);
            span.is_some_and(|span| span.range.start < at && at < span.range.end)
        };
        self.open = inside.iter().filter(goes_on).copied().collect();
    }

    fn starts(&self, index: usize, at: usize) -> bool {
        let span = self.document.spans.get(index);
        span.is_some_and(|span| span.range.start <= at)
    }

    fn span_size(&self, index: usize) -> usize {
        let span = self.document.spans.get(index);
        span.map_or(0, |span| (self.limit.of_span)(&span.kind))
    }

    /// What border lies before the character `c` that stands here.
    fn border(&self, at: usize, c: char, cluster: bool, inside: &[usize]) -> Border {
        let before = &self.document.text[..at];
        let in_code = || {
            let last = inside
                .last()
                .and_then(|index| self.document.spans.get(*index));
            last.is_some_and(|span| matches!(span.kind, Kind::Pre(_)) && at < span.range.end)
        };
        match before.as_bytes().last() {
            _ if !cluster => Border::Character,
            Some(b'\n') if before.ends_with("\n\n") && !in_code() => Border::Paragraph,
            Some(b'\n') if c.is_whitespace() => Border::IndentedLine,
            Some(b'\n') => Border::Line,
            Some(b' ') => Border::Word,
            _ => Border::Cluster,
        }
    }
}
