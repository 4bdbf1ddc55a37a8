//! `search_files`: the passages of the allowed folder's text files that answer a question best.
//! Walking is `walk`'s, ranking `passages`', opening `folder`'s; this puts them together, within
//! caps, and says when it stopped early.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use shared::label::Taint;
use shared::money::Usd;
use shared::run::{Effect, Failure, FailureKind, Report};

use super::folder::{Folder, Kind};
use super::passages::{Corpus, Query, Ranked};
use super::walk::Walk;
use super::{Outbound, Tool, ToolCall, ToolInfo, arguments, blocking, material, report, text};

/// Results where the call does not say how many.
const DEFAULT_RESULTS: usize = 8;
/// The most results of one search.
const MAX_RESULTS: usize = 20;
/// Passages of one file in one answer, so that one long file does not fill it.
const PER_FILE: usize = 3;
/// Bytes of one passage that are shown.
const SNIPPET: usize = 900;
/// Longer files are searched up to here: what people write is shorter.
const MAX_FILE: usize = 2 << 20;
/// HTML up to this size is parsed; longer pages are searched as they are.
const MAX_HTML: usize = 512 << 10;
/// Files of one search.
const MAX_FILES: usize = 20_000;
/// Bytes of one search, about a second's reading.
const MAX_BYTES: usize = 256 << 20;

/// The tool.
pub struct SearchFiles {
    info: ToolInfo,
}

#[derive(Deserialize)]
struct Args {
    query: String,
    #[serde(default)]
    path: String,
    max_results: Option<usize>,
}

impl Default for SearchFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl SearchFiles {
    /// The tool.
    pub fn new() -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {
                "query": {
                    "type": "string", "minLength": 1, "maxLength": 1000,
                    "description": "Words to look for; the more telling words, the better. Forms of a word are found too. No operators, no regular expressions."
                },
                "path": {
                    "type": "string",
                    "description": "A folder or file to search in, relative to the allowed folder. Leave it out to search everything."
                },
                "max_results": {
                    "type": "integer", "minimum": 1, "maximum": MAX_RESULTS,
                    "description": "How many passages to return; 8 if left out."
                }
            },
            "required": ["query"],
            "additionalProperties": false
        });
        Self {
            info: ToolInfo {
                name: "search_files".into(),
                version: 1,
                description: "Use this first when the answer may stand in the user's own files and you do not know where. \
                    Returns the best passages of text files (Markdown, HTML, CSV, JSON, source code): path, line numbers, \
                    the passage's text and a score. Read more of a file with read_file."
                    .into(),
                parameters: Arc::new(parameters),
                effect: Effect::Pure,
                outbound: Outbound::default(),
                timeout_s: 30,
                price: Usd::ZERO,
            },
        }
    }
}

#[async_trait]
impl Tool for SearchFiles {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        let searched = async {
            let args: Args = arguments(call.args)?;
            let root = material(call.authority)?;
            blocking::run(call.cancel, move |cancel| search(&root, &args, cancel)).await
        };
        report(searched.await, Taint::FILE)
    }
}

/// What was read of the files, and what was not.
#[derive(Default)]
struct Tally {
    searched: usize,
    found: usize,
    not_text: usize,
    cut: usize,
    bytes: usize,
    stopped: bool,
}

fn search(root: &Path, args: &Args, cancel: &CancellationToken) -> Result<Value, Failure> {
    let query = Query::new(&args.query).ok_or_else(|| {
        Failure::new(
            FailureKind::Refused,
            format!("query {:?} holds no word to look for", args.query),
        )
    })?;
    let folder = Folder::open(root)?;
    let (files, mut tally) = files_below(&folder, &args.path, cancel)?;
    let corpus = read_all(&folder, &files, &query, &mut tally, cancel)?;
    let most = args
        .max_results
        .unwrap_or(DEFAULT_RESULTS)
        .clamp(1, MAX_RESULTS);
    let per_file = if files.len() == 1 { most } else { PER_FILE };
    let results: Vec<_> = corpus
        .rank(&query, most, per_file)
        .iter()
        .filter_map(|ranked| shown(&folder, &files, &query, ranked))
        .collect();
    Ok(answer(&results, &query, &tally))
}

fn files_below(
    folder: &Folder,
    path: &str,
    cancel: &CancellationToken,
) -> Result<(Vec<PathBuf>, Tally), Failure> {
    let path = folder.relative(path)?;
    if let Kind::File(_) = folder.kind(&path)? {
        let tally = Tally {
            found: 1,
            ..Tally::default()
        };
        return Ok((vec![path], tally));
    }
    let walk = Walk::below(folder, &path, cancel)?;
    let tally = Tally {
        found: walk.files.len(),
        not_text: walk.binary,
        stopped: walk.cut,
        ..Tally::default()
    };
    Ok((
        walk.files.into_iter().map(|found| found.path).collect(),
        tally,
    ))
}

fn read_all(
    folder: &Folder,
    files: &[PathBuf],
    query: &Query,
    tally: &mut Tally,
    cancel: &CancellationToken,
) -> Result<Corpus, Failure> {
    let mut corpus = Corpus::default();
    for (path, number) in files.iter().zip(0u32..) {
        if cancel.is_cancelled() {
            return Err(blocking::cancelled());
        }
        if tally.searched >= MAX_FILES || tally.bytes >= MAX_BYTES {
            tally.stopped = true;
            break;
        }
        // A file that vanished or cannot be read is no reason to give up the search.
        let Ok(content) = folder.read(path, MAX_FILE) else {
            tally.not_text += 1;
            continue;
        };
        tally.bytes += content.bytes.len();
        tally.cut += usize::from(content.size > MAX_FILE as u64);
        let Some(raw) = text::decode(content.bytes) else {
            tally.not_text += 1;
            continue;
        };
        tally.searched += 1;
        let lines = searched_text(path, raw, query);
        let name = path.to_string_lossy();
        corpus.add(query, number, &name, &lines, text::named_markdown(path));
    }
    Ok(corpus)
}

/// The text whose lines are counted: as `read_file` shows it, but pages that hold none of the words
/// are not worth parsing.
fn searched_text(path: &Path, raw: String, query: &Query) -> String {
    if text::named_html(path) && raw.len() <= MAX_HTML && query.first_in(&raw).is_some() {
        text::readable(path, raw)
    } else {
        raw
    }
}

fn shown(folder: &Folder, files: &[PathBuf], query: &Query, ranked: &Ranked) -> Option<Value> {
    let path = files.get(ranked.file as usize)?;
    let raw = text::decode(folder.read(path, MAX_FILE).ok()?.bytes)?;
    let lines = searched_text(path, raw, query);
    let (from, to) = (ranked.from as usize, ranked.to as usize);
    let passage: Vec<_> = lines.lines().skip(from - 1).take(to + 1 - from).collect();
    let passage = passage.join("\n");
    let at = query.first_in(&passage).unwrap_or(0);
    Some(json!({
        "path": path.to_string_lossy(),
        "from_line": from,
        "to_line": to,
        "score": (ranked.score * 1000.0).round() / 1000.0,
        "snippet": text::window(passage.trim_end(), at, SNIPPET),
    }))
}

fn answer(results: &[Value], query: &Query, tally: &Tally) -> Value {
    let mut notes = Vec::new();
    if results.is_empty() {
        notes.push(format!(
            "nothing holds any of: {}; try other words, or list the folder with read_file",
            query.stems().join(", ")
        ));
    }
    if tally.stopped {
        notes.push(format!(
            "stopped early: searched {} of {} files; give a path to search in a part of the folder",
            tally.searched, tally.found
        ));
    }
    if tally.not_text > 0 {
        notes.push(format!(
            "{} files that hold no text were left out",
            tally.not_text
        ));
    }
    if tally.cut > 0 {
        notes.push(format!(
            "{} long files were searched in their first {} MiB only",
            tally.cut,
            MAX_FILE >> 20
        ));
    }
    json!({
        "results": results,
        "files_searched": tally.searched,
        "files_found": tally.found,
        "notes": notes,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tools::testing::{authority, call, refused};

    fn material() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "docs/retry.md",
            b"# Retry\nA failed call is tried again after a pause.\n\n# Other\nNothing.\n",
        );
        write("docs/page.html", b"<html><body><script>scripted()</script><h1>Pauses</h1><p>The pause doubles.</p></body></html>");
        write("data/table.csv", b"name,pause\nfirst,1\nsecond,2\n");
        write("data/conf.json", b"{\"pause_s\": 7}");
        write("src/main.rs", b"fn pause_before_retry() {}\n");
        write("target/built.md", b"pause");
        write("node_modules/x/readme.md", b"pause");
        write(".hidden/pause.md", b"pause");
        write("image.png", b"pause");
        write("blob.dat", b"pause\0pause");
        folder
    }

    #[tokio::test]
    async fn passages_of_every_format_are_found_with_their_lines() {
        let folder = material();
        let authority = authority(Some(folder.path()), None);
        let report = call(
            &SearchFiles::new(),
            &authority,
            json!({"query": "How long is the pause before a retry?"}),
        )
        .await;
        let value = report.result.unwrap();
        assert_eq!(report.taint, Taint::FILE);
        let paths: Vec<_> = value["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths.len(), 5, "{value}");
        assert!(
            ["src/main.rs", "docs/retry.md"].contains(&paths[0]),
            "{value}"
        );
        assert_eq!(
            (&value["files_searched"], &value["files_found"]),
            (&json!(5), &json!(6))
        );
        let first = value["results"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["path"] == "docs/retry.md")
            .unwrap();
        assert_eq!(
            (&first["from_line"], &first["to_line"]),
            (&json!(1), &json!(3))
        );
        assert!(first["snippet"].as_str().unwrap().starts_with("# Retry"));
        assert!(!value.to_string().contains("scripted()"));
        assert!(value["notes"].to_string().contains("2 files"), "{value}");
    }

    #[tokio::test]
    async fn a_search_can_be_narrowed_to_a_folder_or_a_file() {
        let folder = material();
        let authority = authority(Some(folder.path()), None);
        for (path, found) in [("data", 2), ("data/conf.json", 1), (".", 6)] {
            let args = json!({"query": "pause", "path": path});
            let value = call(&SearchFiles::new(), &authority, args)
                .await
                .result
                .unwrap();
            assert_eq!(value["files_found"], json!(found), "{path}");
        }
    }

    #[tokio::test]
    async fn nothing_found_says_what_was_looked_for() {
        let folder = material();
        let authority = authority(Some(folder.path()), None);
        let value = call(&SearchFiles::new(), &authority, json!({"query": "zebras"}))
            .await
            .result
            .unwrap();
        assert!(value["notes"].to_string().contains("zebra"), "{value}");
    }

    #[tokio::test]
    async fn what_cannot_be_searched_is_refused() {
        let folder = material();
        let with = authority(Some(folder.path()), None);
        let tool = SearchFiles::new();
        assert!(
            refused(&tool, &with, json!({"query": "?!"}))
                .await
                .contains("no word")
        );
        assert!(
            refused(&tool, &with, json!({"query": "a", "path": "../x"}))
                .await
                .contains("leaves the folder")
        );
        let none = authority(None, None);
        let failure = call(&tool, &none, json!({"query": "a"}))
            .await
            .result
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Permanent);
    }

    #[test]
    fn a_cancelled_search_stops() {
        let folder = material();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let args = Args {
            query: "pause".into(),
            path: String::new(),
            max_results: None,
        };
        let failure = search(folder.path(), &args, &cancel).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled);
    }
}
