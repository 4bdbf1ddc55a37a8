//! `read_file`: a part of one text file by its lines, or a folder's contents. Opening is `folder`'s
//! matter, turning bytes into text `text`'s.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use shared::label::Taint;
use shared::money::Usd;
use shared::run::{Effect, Failure, FailureKind, Report};

use super::folder::{Entry, Folder, Kind};
use super::{Outbound, Tool, ToolCall, ToolInfo, arguments, blocking, material, report, text};

/// Bytes of text in one answer: about 6,000 tokens.
const MAX_ANSWER: usize = 24 << 10;
/// Lines where the call does not say how many.
const DEFAULT_LINES: usize = 400;
/// Longer files are read up to here.
const MAX_FILE: usize = 16 << 20;
/// Entries of a folder in one answer.
const MAX_ENTRIES: usize = 400;

/// The tool.
pub struct ReadFile {
    info: ToolInfo,
}

#[derive(Deserialize)]
struct Args {
    path: String,
    from_line: Option<usize>,
    max_lines: Option<usize>,
}

impl Default for ReadFile {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadFile {
    /// The tool.
    pub fn new() -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "description": "The file or folder, relative to the allowed folder; \".\" is the folder itself."
                },
                "from_line": {
                    "type": "integer", "minimum": 1,
                    "description": "The first line to return, counted from 1; 1 if left out."
                },
                "max_lines": {
                    "type": "integer", "minimum": 1, "maximum": 5000,
                    "description": "How many lines to return at most; 400 if left out."
                }
            },
            "required": ["path"],
            "additionalProperties": false
        });
        Self {
            info: ToolInfo {
                name: "read_file".into(),
                version: 1,
                description: "Use this to read a file whose path you know, for instance around the lines that search_files \
                    found, or to list a folder. Returns the text of the lines asked for with their numbers and the file's \
                    total (HTML as Markdown), at most 24 KiB at once; for a folder, the names and sizes in it."
                    .into(),
                parameters: Arc::new(parameters),
                effect: Effect::Pure,
                outbound: Outbound::default(),
                timeout_s: 15,
                price: Usd::ZERO,
            },
        }
    }
}

#[async_trait]
impl Tool for ReadFile {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        let read = async {
            let args: Args = arguments(call.args)?;
            let root = material(call.authority)?;
            blocking::run(call.cancel, move |_| read(&root, &args)).await
        };
        report(read.await, Taint::FILE)
    }
}

fn read(root: &Path, args: &Args) -> Result<Value, Failure> {
    let folder = Folder::open(root)?;
    let path = folder.relative(&args.path)?;
    match folder.kind(&path)? {
        Kind::Folder => Ok(listing(&path, &folder.list(&path)?)),
        Kind::File(_) => lines(&folder, path, args),
    }
}

fn lines(folder: &Folder, path: PathBuf, args: &Args) -> Result<Value, Failure> {
    let content = folder.read(&path, MAX_FILE)?;
    let cut = content.size > MAX_FILE as u64;
    let raw = text::decode(content.bytes).ok_or_else(|| {
        Failure::new(
            FailureKind::Refused,
            format!(
                "{path:?} holds no text ({} bytes); read another file",
                content.size
            ),
        )
    })?;
    let whole = text::readable(&path, raw);
    let total = whole.lines().count();
    let from = args.from_line.unwrap_or(1).max(1);
    if from > total.max(1) {
        let message = format!("{path:?} has {total} lines; from_line {from} is beyond its end");
        return Err(Failure::new(FailureKind::Refused, message));
    }
    let part = part_of(&whole, from, args.max_lines.unwrap_or(DEFAULT_LINES));
    let mut notes = Vec::new();
    if part.to < total {
        notes.push(format!(
            "more follows: read on with from_line {}",
            part.to + 1
        ));
    }
    if part.cut_line {
        notes.push(format!(
            "line {} is longer than {MAX_ANSWER} bytes and is cut",
            part.to
        ));
    }
    if cut {
        notes.push(format!(
            "the file has {} bytes; only the first {} MiB were read",
            content.size,
            MAX_FILE >> 20
        ));
    }
    Ok(json!({
        "path": path.to_string_lossy(),
        "from_line": from,
        "to_line": part.to,
        "total_lines": total,
        "text": part.text,
        "notes": notes,
    }))
}

struct Part {
    text: String,
    to: usize,
    cut_line: bool,
}

/// Lines from `from` on, as many as fit; of a single line that does not fit, its beginning.
fn part_of(whole: &str, from: usize, most: usize) -> Part {
    let mut part = Part {
        text: String::new(),
        to: from - 1,
        cut_line: false,
    };
    for line in whole.lines().skip(from - 1).take(most.max(1)) {
        if part.text.len() + line.len() + 1 > MAX_ANSWER {
            if part.text.is_empty() {
                part.text.push_str(text::head(line, MAX_ANSWER));
                part.to += 1;
                part.cut_line = true;
            }
            break;
        }
        part.text.push_str(line);
        part.text.push('\n');
        part.to += 1;
    }
    part
}

fn listing(path: &Path, entries: &[Entry]) -> Value {
    let shown: Vec<_> = entries.iter().take(MAX_ENTRIES).map(entry).collect();
    let mut notes = Vec::new();
    if entries.len() > MAX_ENTRIES {
        notes.push(format!(
            "{} of {} entries are shown; find the others with search_files",
            MAX_ENTRIES,
            entries.len()
        ));
    }
    json!({
        "path": super::folder::or_dot(path).to_string_lossy(),
        "entries": shown,
        "notes": notes,
    })
}

fn entry(entry: &Entry) -> Value {
    match entry.kind {
        Some(Kind::File(bytes)) => json!({"name": entry.name, "bytes": bytes}),
        Some(Kind::Folder) => json!({"name": format!("{}/", entry.name)}),
        None => json!({"name": entry.name, "note": "a link or something else that is not listed"}),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tools::testing::{authority, call, refused};

    #[tokio::test]
    async fn a_file_is_read_by_lines_and_says_how_to_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (1..=1000).map(|n| format!("line {n}\n")).collect();
        fs::write(folder.path().join("a.txt"), text).unwrap();
        let authority = authority(Some(folder.path()), None);
        let args = json!({"path": "a.txt", "from_line": 10, "max_lines": 2});
        let report = call(&ReadFile::new(), &authority, args).await;
        assert_eq!(report.taint, Taint::FILE);
        let expected = json!({
            "path": "a.txt", "from_line": 10, "to_line": 11, "total_lines": 1000,
            "text": "line 10\nline 11\n", "notes": ["more follows: read on with from_line 12"],
        });
        assert_eq!(report.result.unwrap(), expected);
        let value = call(&ReadFile::new(), &authority, json!({"path": "a.txt"}))
            .await
            .result
            .unwrap();
        assert_eq!(value["to_line"], 400);
        let beyond = refused(
            &ReadFile::new(),
            &authority,
            json!({"path": "a.txt", "from_line": 1001}),
        )
        .await;
        assert!(beyond.contains("1000 lines"), "{beyond}");
    }

    #[tokio::test]
    async fn every_page_of_a_long_file_adds_up_to_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (1..=3000)
            .map(|n| format!("{n} {}\n", "é".repeat(n % 90)))
            .collect();
        fs::write(folder.path().join("a.txt"), &text).unwrap();
        let authority = authority(Some(folder.path()), None);
        let (mut from, mut read) = (1, String::new());
        while from <= 3000 {
            let args = json!({"path": "a.txt", "from_line": from, "max_lines": 5000});
            let value = call(&ReadFile::new(), &authority, args)
                .await
                .result
                .unwrap();
            assert!(value["text"].as_str().unwrap().len() <= MAX_ANSWER);
            read.push_str(value["text"].as_str().unwrap());
            from = value["to_line"].as_u64().unwrap() + 1;
        }
        assert_eq!(read, text);
    }

    #[tokio::test]
    async fn one_endless_line_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.json"), "é".repeat(40_000)).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        let authority = authority(Some(folder.path()), None);
        let value = call(&ReadFile::new(), &authority, json!({"path": "a.json"}))
            .await
            .result
            .unwrap();
        assert_eq!(
            (&value["to_line"], value["text"].as_str().unwrap().len()),
            (&json!(1), MAX_ANSWER)
        );
        let value = call(&ReadFile::new(), &authority, json!({"path": "empty"}))
            .await
            .result
            .unwrap();
        assert_eq!(
            (&value["total_lines"], &value["text"]),
            (&json!(0), &json!(""))
        );
    }

    #[tokio::test]
    async fn html_is_read_as_markdown_and_a_folder_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("p.html"),
            "<h1>Title</h1><script>x()</script><p>Text</p>",
        )
        .unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let authority = authority(Some(folder.path()), None);
        let value = call(&ReadFile::new(), &authority, json!({"path": "p.html"}))
            .await
            .result
            .unwrap();
        assert_eq!(value["text"], "# Title\n\nText\n");
        let value = call(&ReadFile::new(), &authority, json!({"path": "."}))
            .await
            .result
            .unwrap();
        assert_eq!(
            value["entries"],
            json!([{"name": "p.html", "bytes": 45}, {"name": "sub/"}])
        );
    }

    #[tokio::test]
    async fn what_is_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.bin"), b"\0\x01").unwrap();
        let authority = authority(Some(folder.path()), None);
        let message = refused(&ReadFile::new(), &authority, json!({"path": "b.bin"})).await;
        assert!(message.contains("no text"), "{message}");
    }
}
