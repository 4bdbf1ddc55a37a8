//! A Word document as Markdown: headings, lists, tables, footnotes, and page marks where it has page
//! breaks. Read as a stream, so that memory follows the text and not the markup, and no more of any
//! part than is allowed to unpack. Left out: headers and footers, comments, what was deleted, where
//! links lead. Runs in a child process.
//!
//! Word notes where pages ended when it last printed the document (`lastRenderedPageBreak`); those
//! are the pages that people see. Where another program wrote it, the breaks that its author made
//! are all there is.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Cursor, Read};

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use zip::ZipArchive;

use super::pages::{self, Pages};
use super::{Kind, Limits, Refused, Text};

/// Where a main part stands that no relation names.
const MAIN: &str = "word/document.xml";
/// How deep elements may stand in each other. Word's own limit for tables alone is lower.
const MAX_DEPTH: usize = 512;
/// At most, in UTF-8.
const BYTES_PER_CHARACTER: usize = 4;
/// Of headings in Markdown.
const MAX_LEVEL: usize = 6;

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// The text of a DOCX document.
pub fn read(bytes: &[u8], limits: Limits) -> Result<Text, Refused> {
    let archive = ZipArchive::new(Cursor::new(bytes));
    let mut archive = archive.map_err(|_| damaged("it is no whole ZIP archive"))?;
    let main = main_part(&mut archive, limits)?;
    let styles = styles(&mut archive, limits)?;
    let printed = has_printed_breaks(&mut archive, &main, limits)?;
    let mut walk = Walk::new(styles, printed, limits);
    for part in [main.as_str(), "word/footnotes.xml", "word/endnotes.xml"] {
        walk.part(&mut archive, part)?;
    }
    walk.finish()
}

fn damaged(why: &str) -> Refused {
    Refused::Damaged(why.into())
}

/// A part as a stream that fails beyond what may unpack. Nothing where there is no such part.
fn open<'a, 'b>(
    archive: &'a mut Archive<'b>,
    name: &str,
    limits: Limits,
) -> Result<Option<impl BufRead + use<'a, 'b>>, Refused> {
    let part = match archive.by_name(name) {
        Ok(part) => part,
        Err(zip::result::ZipError::FileNotFound) => return Ok(None),
        Err(_) => return Err(damaged("a part of it cannot be unpacked")),
    };
    let bounded = Bounded {
        part,
        left: limits.unpacked,
    };
    Ok(Some(BufReader::new(bounded)))
}

/// Fails where `Read::take` would end, so that a cut part is not mistaken for a whole one.
struct Bounded<R> {
    part: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.part.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::FileTooLarge))?;
        Ok(read)
    }
}

fn refusal(error: &quick_xml::Error, limits: Limits) -> Refused {
    match error {
        quick_xml::Error::Io(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            Refused::Unpacks {
                mib: limits.unpacked >> 20,
            }
        }
        quick_xml::Error::Io(_) => damaged("a part of it cannot be unpacked"),
        _ => damaged("its XML is broken"),
    }
}

/// Calls `each` with every element of a part that begins, until it returns false.
fn elements(
    part: impl BufRead,
    limits: Limits,
    mut each: impl FnMut(&BytesStart<'_>) -> bool,
) -> Result<(), Refused> {
    let mut reader = Reader::from_reader(part);
    let mut buffer = Vec::new();
    loop {
        let event = reader.read_event_into(&mut buffer);
        match event.map_err(|error| refusal(&error, limits))? {
            Event::Start(element) | Event::Empty(element) if !each(&element) => return Ok(()),
            Event::Eof => return Ok(()),
            _ => buffer.clear(),
        }
    }
}

fn main_part(archive: &mut Archive<'_>, limits: Limits) -> Result<String, Refused> {
    let mut main = MAIN.to_owned();
    if let Some(part) = open(archive, "_rels/.rels", limits)? {
        elements(part, limits, |element| {
            let kind = attribute(element, "Type").unwrap_or_default();
            match attribute(element, "Target") {
                Some(target) if kind.ends_with("/officeDocument") => {
                    main = target.trim_start_matches('/').to_owned();
                    false
                }
                _ => true,
            }
        })?;
    }
    match archive.index_for_name(&main) {
        Some(_) => Ok(main),
        None => Err(damaged("its main part is missing")),
    }
}

fn has_printed_breaks(
    archive: &mut Archive<'_>,
    main: &str,
    limits: Limits,
) -> Result<bool, Refused> {
    let Some(part) = open(archive, main, limits)? else {
        return Ok(false);
    };
    let mut found = false;
    let looked = elements(part, limits, |element| {
        found = local(element) == "lastRenderedPageBreak";
        !found
    });
    // What is wrong with the part is told when it is read, unless its text ends before that.
    Ok(found && looked.is_ok())
}

/// What a paragraph style means.
#[derive(Clone, Copy, Default)]
struct Style {
    /// Of the heading, from 1.
    level: Option<usize>,
    is_list: bool,
}

/// The styles by id. Ids are in the language of the author, names of headings always English.
fn styles(archive: &mut Archive<'_>, limits: Limits) -> Result<HashMap<String, Style>, Refused> {
    let mut styles: HashMap<String, Style> = HashMap::new();
    let Some(part) = open(archive, "word/styles.xml", limits)? else {
        return Ok(styles);
    };
    let mut id = String::new();
    elements(part, limits, |element| {
        match local(element).as_str() {
            "style" => id = attribute(element, "styleId").unwrap_or_default(),
            "name" => {
                let name = attribute(element, "val").unwrap_or_default();
                if let Some(level) = heading(&name) {
                    styles.entry(id.clone()).or_default().level = Some(level);
                }
            }
            "numPr" => styles.entry(id.clone()).or_default().is_list = true,
            _ => {}
        }
        true
    })?;
    Ok(styles)
}

fn heading(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    if name == "title" {
        return Some(1);
    }
    let level: usize = name.strip_prefix("heading ")?.parse().ok()?;
    (1..=9).contains(&level).then_some(level.min(MAX_LEVEL))
}

fn local(element: &BytesStart<'_>) -> String {
    element.local_name().as_ref().to_owned()
}

/// The value of an attribute, whatever its prefix.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut all = element.attributes();
    let mut all = all.with_checks(false).flatten();
    let found = all.find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let value = found.normalized_value(quick_xml::XmlVersion::Implicit1_0);
    value.ok().map(|value| value.into_owned())
}

/// The paragraph that is being read.
#[derive(Default)]
struct Paragraph {
    text: String,
    style: Style,
    /// How deep in a list.
    item: Option<usize>,
}

/// The table that is being read; one inside another is text of its cell.
#[derive(Default)]
struct Table {
    depth: usize,
    row: Vec<String>,
    has_head: bool,
}

/// Reads the main part and the notes, and holds what was read.
struct Walk {
    styles: HashMap<String, Style>,
    /// Whether pages end where Word printed, or where the author broke them.
    printed: bool,
    limits: Limits,
    /// The pages before this one, as many as are kept.
    pages: Vec<String>,
    /// Pages before this one, those that are not kept included.
    turned: u32,
    page: String,
    /// Bytes on all pages.
    length: usize,
    paragraph: Paragraph,
    table: Table,
    /// Page breaks inside a row, which take effect behind it.
    waiting: u32,
    in_run: bool,
    in_text: bool,
}

impl Walk {
    fn new(styles: HashMap<String, Style>, printed: bool, limits: Limits) -> Self {
        Self {
            styles,
            printed,
            limits,
            pages: Vec::new(),
            turned: 0,
            page: String::new(),
            length: 0,
            paragraph: Paragraph::default(),
            table: Table::default(),
            waiting: 0,
            in_run: false,
            in_text: false,
        }
    }

    fn part(&mut self, archive: &mut Archive<'_>, name: &str) -> Result<(), Refused> {
        open(archive, name, self.limits)?.map_or(Ok(()), |part| self.stream(part))
    }

    fn stream(&mut self, part: impl BufRead) -> Result<(), Refused> {
        let limits = self.limits;
        let mut reader = Reader::from_reader(part);
        let (mut buffer, mut depth) = (Vec::new(), 0usize);
        loop {
            buffer.clear();
            let event = reader.read_event_into(&mut buffer);
            match event.map_err(|error| refusal(&error, limits))? {
                // Text that was moved stands where it went; what old programs are to show is shown once.
                Event::Start(element) if is_skipped(&element) => {
                    let end = element.to_end().into_owned();
                    let skipped = reader.read_to_end_into(end.name(), &mut Vec::new());
                    skipped.map_err(|error| refusal(&error, limits))?;
                }
                Event::Start(element) => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(damaged("its XML nests too deep"));
                    }
                    self.begin(&element);
                }
                Event::Empty(element) => {
                    self.begin(&element);
                    self.end(&local(&element));
                }
                Event::End(element) => {
                    depth = depth.saturating_sub(1);
                    self.end(element.local_name().as_ref());
                }
                Event::Text(text) if self.in_text => {
                    self.paragraph.text.push_str(&text.xml10_content())
                }
                Event::CData(text) if self.in_text => {
                    self.paragraph.text.push_str(&text.xml10_content())
                }
                Event::GeneralRef(entity) if self.in_text => self.entity(&entity),
                Event::Eof => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn entity(&mut self, entity: &BytesRef<'_>) {
        if let Ok(Some(c)) = entity.resolve_char_ref() {
            self.paragraph.text.push(c);
        } else if let Some(text) = resolve_predefined_entity(entity) {
            self.paragraph.text.push_str(text);
        }
    }

    fn begin(&mut self, element: &BytesStart<'_>) {
        let name = local(element);
        match name.as_str() {
            "r" => self.in_run = true,
            "t" => self.in_text = true,
            // The same element is a stop on the ruler outside of runs.
            "tab" if self.in_run => self.paragraph.text.push('\t'),
            "br" => self.line_break(element),
            "cr" => self.paragraph.text.push('\n'),
            "noBreakHyphen" => self.paragraph.text.push('-'),
            "pStyle" => self.style(element),
            "numPr" => self.paragraph.item = Some(0),
            "ilvl" => self.paragraph.item = number(element),
            "lastRenderedPageBreak" if self.printed => self.turn(),
            "pageBreakBefore" if !self.printed => self.turn(),
            "numId" if number(element) == Some(0) => self.paragraph.item = None,
            "footnoteReference" | "endnoteReference" => self.note(element, &name, ""),
            "footnote" | "endnote" => self.note(element, &name, ": "),
            "tbl" => self.begin_table(),
            "tc" if self.table.depth == 1 => self.table.row.push(String::new()),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "r" => self.in_run = false,
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tr" if self.table.depth == 1 => self.end_row(),
            "tbl" => self.end_table(),
            _ => {}
        }
    }

    fn note(&mut self, element: &BytesStart<'_>, name: &str, behind: &str) {
        let id = attribute(element, "id").unwrap_or_default();
        let at_end = if name.starts_with("end") { "end" } else { "" };
        let mark = format!("[^{at_end}{id}]{behind}");
        self.paragraph.text.push_str(&mark);
    }

    fn line_break(&mut self, element: &BytesStart<'_>) {
        match attribute(element, "type").as_deref() {
            Some("page") if self.printed => {}
            Some("page") => self.turn(),
            _ => self.paragraph.text.push('\n'),
        }
    }

    fn style(&mut self, element: &BytesStart<'_>) {
        let id = attribute(element, "val").unwrap_or_default();
        self.paragraph.style = self.styles.get(&id).copied().unwrap_or_default();
    }

    fn end_paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        let text = paragraph.text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(cell) = self.table.row.last_mut() {
            if !cell.is_empty() {
                cell.push(' ');
            }
            cell.push_str(&text.replace('|', "\\|").replace(['\n', '\t'], " "));
            return;
        }
        let depth = paragraph.item.unwrap_or(0).min(MAX_DEPTH);
        match (paragraph.style, paragraph.item) {
            (
                Style {
                    level: Some(level), ..
                },
                _,
            ) => self.block(&format!("{} {text}", "#".repeat(level))),
            (Style { is_list: true, .. }, _) | (_, Some(_)) => {
                self.line(&format!("{}- {text}", "  ".repeat(depth)));
            }
            _ => self.block(text),
        }
    }

    fn end_row(&mut self) {
        let row = std::mem::take(&mut self.table.row);
        self.line(&format!("| {} |", row.join(" | ")));
        if !std::mem::replace(&mut self.table.has_head, true) {
            self.line(&format!("|{}", " --- |".repeat(row.len())));
        }
        for _ in 0..std::mem::take(&mut self.waiting) {
            self.end_page();
        }
    }

    fn end_table(&mut self) {
        self.table.depth = self.table.depth.saturating_sub(1);
        if self.table.depth == 0 {
            self.table = Table::default();
            self.page.push('\n');
        }
    }

    fn begin_table(&mut self) {
        self.table.depth += 1;
        if self.table.depth == 1 {
            self.gap();
        }
    }

    fn gap(&mut self) {
        if !(self.page.is_empty() || self.page.ends_with("\n\n")) {
            self.page.push('\n');
        }
    }

    /// A paragraph, with an empty line before and behind it.
    fn block(&mut self, text: &str) {
        self.gap();
        self.line(text);
        self.page.push('\n');
    }

    /// A line that belongs to the one before it. What is cut away in the end is not even kept.
    fn line(&mut self, text: &str) {
        if self.length / BYTES_PER_CHARACTER <= self.limits.characters {
            self.length += text.len() + 1;
            self.page.push_str(text);
            self.page.push('\n');
        }
    }

    /// Ends the page here; inside a table, behind the row.
    fn turn(&mut self) {
        if self.table.depth > 0 {
            self.waiting = self.waiting.saturating_add(1);
            return;
        }
        let (style, item) = (self.paragraph.style, self.paragraph.item);
        self.end_paragraph();
        self.paragraph = Paragraph {
            text: String::new(),
            style,
            item,
        };
        self.end_page();
    }

    fn end_page(&mut self) {
        let page = std::mem::take(&mut self.page);
        if self.turned < self.limits.pages {
            self.pages.push(page);
        }
        self.turned = self.turned.saturating_add(1);
    }

    fn finish(mut self) -> Result<Text, Refused> {
        if self.length == 0 {
            return Err(Refused::NoText);
        }
        let characters = self.limits.characters;
        if self.turned == 0 {
            return Ok(pages::parsed(Kind::Docx, &self.page, characters));
        }
        self.end_page();
        let mut pages = Pages::new(characters);
        self.pages.iter().for_each(|page| pages.push(page));
        Ok(pages.finish(Kind::Docx, self.turned))
    }
}

fn is_skipped(element: &BytesStart<'_>) -> bool {
    match local(element).as_str() {
        "moveFrom" | "Fallback" | "del" => true,
        // Those with a type are the lines between text and notes.
        "footnote" | "endnote" => attribute(element, "type").is_some(),
        _ => false,
    }
}

fn number(element: &BytesStart<'_>) -> Option<usize> {
    attribute(element, "val")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(body: &str) -> Walk {
        let mut walk = Walk::new(
            HashMap::new(),
            body.contains("lastRendered"),
            Limits::default(),
        );
        let xml = format!("<w:document xmlns:w='w'><w:body>{body}</w:body></w:document>");
        walk.stream(xml.as_bytes()).unwrap();
        walk
    }

    fn text(body: &str) -> String {
        walk(body).finish().unwrap().text
    }

    fn p(text: &str) -> String {
        format!("<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")
    }

    #[test]
    fn runs_are_put_together_and_what_nobody_sees_is_left_out() {
        let cases = [
            (
                "<w:p><w:r><w:t>a </w:t></w:r><w:r><w:t>&amp;&#x42;<![CDATA[<c>]]></w:t></w:r></w:p>",
                "a &B<c>\n",
            ),
            (
                "<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>",
                "a\tb\nc\n",
            ),
            (
                "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>there</w:t></w:r></w:moveFrom><w:r><w:t>here</w:t></w:r></w:p>",
                "here\n",
            ),
            (
                "<w:p><w:r><w:instrText>PAGE</w:instrText><w:t>1</w:t></w:r></w:p>",
                "1\n",
            ),
            (
                "<w:p><w:pPr><w:numPr><w:ilvl w:val='1'/><w:numId w:val='3'/></w:numPr></w:pPr><w:r><w:t>x</w:t></w:r></w:p>",
                "  - x\n",
            ),
            (
                "<w:p><w:r><w:t>x</w:t><w:footnoteReference w:id='2'/></w:r></w:p><w:footnote w:id='2'><w:p><w:r><w:t>why</w:t></w:r></w:p></w:footnote>",
                "x[^2]\n\n[^2]: why\n",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(text(body), expected, "{body}");
        }
    }

    #[test]
    fn pages_end_where_word_printed_or_else_where_the_author_broke_them() {
        let asked = "<w:p><w:r><w:br w:type='page'/></w:r></w:p>";
        let printed = "<w:p><w:r><w:t>b</w:t><w:lastRenderedPageBreak/><w:t>c</w:t></w:r></w:p>";
        assert_eq!(
            text(&format!("{}{asked}{}", p("a"), p("b"))),
            "[page 1]\na\n\n[page 2]\nb\n"
        );
        assert_eq!(
            text(&format!("{}{asked}{printed}", p("a"))),
            "[page 1]\na\n\nb\n\n[page 2]\nc\n"
        );
        assert_eq!(walk(&p("a")).finish().unwrap().pages, None);
    }

    #[test]
    fn a_table_becomes_rows_and_one_inside_another_text() {
        let row = |cells: &[&str]| {
            let cells: String = cells
                .iter()
                .map(|cell| format!("<w:tc>{cell}</w:tc>"))
                .collect();
            format!("<w:tr>{cells}</w:tr>")
        };
        let inner = format!("<w:tbl>{}</w:tbl>", row(&[&p("x"), &p("y")]));
        let body = format!(
            "{}<w:tbl>{}{}</w:tbl>{}",
            p("before"),
            row(&[&p("a"), &p("b|c")]),
            row(&[&inner, ""]),
            p("behind")
        );
        assert_eq!(
            text(&body),
            "before\n\n| a | b\\|c |\n| --- | --- |\n| x y |  |\n\nbehind\n"
        );
    }

    #[test]
    fn nesting_has_an_end() {
        let mut walk = Walk::new(HashMap::new(), false, Limits::default());
        let deep = walk.stream("<w:p>".repeat(10_000).as_bytes());
        assert!(matches!(deep, Err(Refused::Damaged(why)) if why.contains("deep")));
    }
}
