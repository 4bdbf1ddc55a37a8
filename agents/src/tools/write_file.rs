//! `write_file`: one whole file below the output folder, atomically: after a crash there is the old
//! file or the new one, never a part. It can be asked afterwards whether it happened, because the
//! bytes on disk either are the ones that the call writes or are not.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cap_std::fs::{Dir, OpenOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use shared::blob::{Blob, mime_of_text};
use shared::disguise;
use shared::hash::Hash;
use shared::label::Taint;
use shared::money::{Usage, Usd};
use shared::run::{Effect, EffectKey, Evidence, Failure, FailureKind, Probe, Report};

use super::folder::{Folder, Kind, or_dot};
use super::{Outbound, Tool, ToolCall, ToolInfo, arguments, blocking};

/// Bytes of one file: what a model can write in one reply is far less.
const MAX_TEXT: usize = 4 << 20;

/// The tool.
pub struct WriteFile {
    info: ToolInfo,
}

#[derive(Clone, Deserialize)]
struct Args {
    path: String,
    text: String,
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Create,
    Replace,
}

impl Default for WriteFile {
    fn default() -> Self {
        Self::new()
    }
}

impl WriteFile {
    /// The tool.
    pub fn new() -> Self {
        let parameters = json!({
            "type": "object",
            "properties": {
                "path": {
                    "type": "string", "minLength": 1,
                    "description": "Where to write, relative to the output folder, such as \"report.md\". Missing folders are made."
                },
                "text": {
                    "type": "string",
                    "description": "The whole content of the file."
                },
                "mode": {
                    "type": "string", "enum": ["create", "replace"],
                    "description": "create (if left out): refuse when another file stands there. replace: put this in its place."
                }
            },
            "required": ["path", "text"],
            "additionalProperties": false
        });
        Self {
            info: ToolInfo {
                name: "write_file".into(),
                version: 1,
                description: "Use this when the user asks for a file, or for a result too long for an answer. Writes one text \
                    file below the output folder. Returns its path, its size in bytes and its SHA-256."
                    .into(),
                parameters: Arc::new(parameters),
                effect: Effect::Verifiable,
                outbound: Outbound::default(),
                timeout_s: 30,
                price: Usd::ZERO,
            },
        }
    }
}

#[async_trait]
impl Tool for WriteFile {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        let prepared = arguments::<Args>(call.args).and_then(|args| Ok((args, output(&call)?)));
        let (args, root) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return Report::failed(failure),
        };
        let key = call.effect_key;
        // A write that was begun is brought to its end: it is short, and half-done is the worst.
        let uncancelled = tokio_util::sync::CancellationToken::new();
        let written = blocking::run(&uncancelled, move |_| write(&root, &args, key)).await;
        written.unwrap_or_else(Report::failed)
    }

    async fn probe(&self, call: ToolCall<'_>) -> Probe {
        let prepared = arguments::<Args>(call.args).and_then(|args| Ok((args, output(&call)?)));
        let (args, root) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return Probe::Unknown(failure.message),
        };
        let key = call.effect_key;
        let looked = blocking::run(call.cancel, move |_| look(&root, &args, key)).await;
        match looked {
            Ok(Some(report)) => Probe::Happened(report),
            Ok(None) => Probe::DidNot,
            Err(failure) => Probe::Unknown(failure.message),
        }
    }
}

fn output(call: &ToolCall<'_>) -> Result<PathBuf, Failure> {
    call.authority.output.clone().ok_or_else(|| {
        let message = "this task has no folder to write to (files.write in the configuration); put the result into the answer";
        Failure::new(FailureKind::Permanent, message)
    })
}

fn write(root: &Path, args: &Args, key: EffectKey) -> Result<Report, Failure> {
    if args.text.len() > MAX_TEXT {
        let message = format!(
            "text has {} bytes; the most is {MAX_TEXT}; write several files",
            args.text.len()
        );
        return Err(Failure::new(FailureKind::Refused, message));
    }
    let folder = Folder::create(root)?;
    let path = file_path(&folder, &args.path)?;
    if holds(&folder, &path, &args.text)? {
        return Ok(done_before(&folder, &path, &args.text, key));
    }
    let target = Target::at(&folder, &path, key)?;
    target
        .put(args)
        .inspect_err(|_| target.clear())
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(&path),
            _ => folder.explain(&path, &error),
        })?;
    target
        .settle()
        .map_err(|error| folder.explain(&path, &error).may_have_happened())?;
    Ok(done(&folder, &path, &args.text))
}

fn look(root: &Path, args: &Args, key: EffectKey) -> Result<Option<Report>, Failure> {
    if !root.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    let folder = Folder::open(root)?;
    let path = file_path(&folder, &args.path)?;
    Ok(holds(&folder, &path, &args.text)?.then(|| done_before(&folder, &path, &args.text, key)))
}

/// The report of a write that an earlier attempt made, whose last two deeds are made up for: that
/// attempt may have ended before its unfinished file was gone and its name durable.
fn done_before(folder: &Folder, path: &Path, text: &str, key: EffectKey) -> Report {
    // The bytes are there, which is what was asked; a folder that cannot be synced is no reason to
    // say otherwise.
    let _settled = Target::at(folder, path, key).map(|target| target.settle());
    done(folder, path, text)
}

fn file_path(folder: &Folder, given: &str) -> Result<PathBuf, Failure> {
    let path = folder.relative(given)?;
    if path.as_os_str().is_empty() || given.trim_end().ends_with('/') {
        let message = format!("path {given:?} is a folder; name a file, such as \"report.md\"");
        return Err(Failure::new(FailureKind::Refused, message));
    }
    if given.trim().chars().any(disguise::in_name) {
        let message = format!(
            "path {given:?} holds characters that nobody sees, or that change how the others are read; \
             write the name without them"
        );
        return Err(Failure::new(FailureKind::Refused, message));
    }
    Ok(path)
}

/// Whether the file at `path` holds exactly this text. A folder in its place is refused.
fn holds(folder: &Folder, path: &Path, text: &str) -> Result<bool, Failure> {
    match folder.dir().metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(folder.explain(path, &error)),
        Ok(_) => {}
    }
    match folder.kind(path)? {
        Kind::File(size) if size == text.len() as u64 => {
            let found = folder.read(path, text.len() + 1)?.bytes;
            Ok(Hash::of_bytes(&found) == Hash::of_bytes(text.as_bytes()))
        }
        Kind::File(_) => Ok(false),
        Kind::Folder => {
            let message = format!("{path:?} is a folder; choose another name");
            Err(Failure::new(FailureKind::Refused, message))
        }
    }
}

/// A file's place: its folder, its name, and the name that the bytes have until they are complete.
struct Target {
    parent: Dir,
    name: PathBuf,
    unfinished: PathBuf,
}

impl Target {
    fn at(folder: &Folder, path: &Path, key: EffectKey) -> Result<Self, Failure> {
        let above = path.parent().unwrap_or(Path::new(""));
        let open = || {
            folder.dir().create_dir_all(or_dot(above))?;
            folder.dir().open_dir(or_dot(above))
        };
        Ok(Self {
            parent: open().map_err(|error| folder.explain(above, &error))?,
            name: path.file_name().map(PathBuf::from).unwrap_or_default(),
            // The same for every attempt at one effect, so that no attempt leaves litter behind.
            unfinished: format!(".majordomo-{}.tmp", key.0.short()).into(),
        })
    }

    /// Writes the bytes beside the place, makes them durable and moves them there. `create` takes
    /// the name only while nobody else has it.
    fn put(&self, args: &Args) -> io::Result<()> {
        self.clear();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let mut file = self.parent.open_with(&self.unfinished, &options)?;
        file.write_all(args.text.as_bytes())?;
        file.sync_all()?;
        if args.mode == Mode::Create {
            return self.link();
        }
        self.parent
            .rename(&self.unfinished, &self.parent, &self.name)
    }

    fn link(&self) -> io::Result<()> {
        match self
            .parent
            .hard_link(&self.unfinished, &self.parent, &self.name)
        {
            // File systems without links: looked at first, which is all that can be done there.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) =>
            {
                if self.parent.symlink_metadata(&self.name).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                self.parent
                    .rename(&self.unfinished, &self.parent, &self.name)
            }
            linked => linked,
        }
    }

    /// Makes the name durable.
    fn settle(&self) -> io::Result<()> {
        self.clear();
        self.parent.open(".")?.sync_all()
    }

    fn clear(&self) {
        // Usually there is none; one that cannot be removed shows itself when it is made anew.
        let _there_was_none = self.parent.remove_file(&self.unfinished);
    }
}

fn taken(path: &Path) -> Failure {
    let message = format!(
        "another file stands at {path:?}; choose another name, or set mode to \"replace\" to put this in its place"
    );
    Failure::new(FailureKind::Refused, message)
}

/// The report of a file that stands there. Its bytes go into the journal's keeping with it: what
/// becomes of the folder later changes nothing about what the task made.
fn done(folder: &Folder, path: &Path, text: &str) -> Report {
    let name = path.to_string_lossy();
    let sha256 = Hash::of_bytes(text.as_bytes()).to_string();
    let absolute = folder.root().join(path);
    let evidence = |kind: &str, value: String| Evidence {
        kind: kind.into(),
        value,
    };
    Report {
        result: Ok(value(path, &absolute, text.len(), &sha256)),
        usage: Some(Usage::default()),
        taint: Taint::NONE,
        evidence: vec![
            evidence("sha256", sha256),
            evidence("path", absolute.to_string_lossy().into_owned()),
            evidence("file", name.to_string()),
            evidence("bytes", text.len().to_string()),
        ],
        blobs: Blob::new(mime_of_text(&name), text.as_bytes())
            .into_iter()
            .collect(),
    }
}

fn value(path: &Path, absolute: &Path, bytes: usize, sha256: &str) -> Value {
    json!({
        "path": path.to_string_lossy(),
        "absolute_path": absolute.to_string_lossy(),
        "bytes": bytes,
        "sha256": sha256,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tools::testing::{authority, call, probe, refused};

    fn setup() -> (tempfile::TempDir, PathBuf, shared::label::Authority) {
        let outer = tempfile::tempdir().unwrap();
        let output = outer.path().join("out/task");
        let authority = authority(None, Some(&output));
        (outer, output, authority)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_file_is_written_whole_with_its_evidence_and_leaves_no_litter() {
        let (_outer, output, authority) = setup();
        let report = call(
            &WriteFile::new(),
            &authority,
            json!({"path": "a/b.md", "text": "héllo"}),
        )
        .await;
        let value = report.result.unwrap();
        assert_eq!(
            (&value["path"], &value["bytes"]),
            (&json!("a/b.md"), &json!(6))
        );
        assert_eq!(
            value["sha256"],
            Hash::of_bytes("héllo".as_bytes()).to_string()
        );
        assert_eq!(
            report
                .evidence
                .iter()
                .map(|e| e.kind.as_str())
                .collect::<Vec<_>>(),
            ["sha256", "path", "file", "bytes"]
        );
        let [blob] = report.blobs.as_slice() else {
            panic!("{:?}", report.blobs);
        };
        assert_eq!(
            (&blob.bytes[..], &*blob.mime),
            ("héllo".as_bytes(), "text/markdown")
        );
        assert_eq!(fs::read_to_string(output.join("a/b.md")).unwrap(), "héllo");
        assert_eq!(names(&output.join("a")), ["b.md"]);
    }

    #[tokio::test]
    async fn create_keeps_another_file_and_repeats_harmlessly_and_replace_replaces() {
        let (_outer, output, authority) = setup();
        let tool = WriteFile::new();
        for _ in 0..2 {
            assert!(
                call(&tool, &authority, json!({"path": "a", "text": "1"}))
                    .await
                    .result
                    .is_ok()
            );
        }
        let message = refused(&tool, &authority, json!({"path": "a", "text": "2"})).await;
        assert!(message.contains("replace"), "{message}");
        assert_eq!(fs::read_to_string(output.join("a")).unwrap(), "1");
        assert!(
            call(
                &tool,
                &authority,
                json!({"path": "a", "text": "2", "mode": "replace"})
            )
            .await
            .result
            .is_ok()
        );
        assert_eq!(fs::read_to_string(output.join("a")).unwrap(), "2");
        assert_eq!(names(&output), ["a"]);
    }

    #[tokio::test]
    async fn a_probe_tells_whether_it_happened() {
        let (_outer, output, authority) = setup();
        let tool = WriteFile::new();
        let args = json!({"path": "a", "text": "1"});
        assert!(matches!(
            probe(&tool, &authority, args.clone()).await,
            Probe::DidNot
        ));
        assert!(!output.exists(), "a probe makes nothing");
        let first = call(&tool, &authority, args.clone()).await.result.unwrap();
        let Probe::Happened(report) = probe(&tool, &authority, args.clone()).await else {
            panic!("it happened");
        };
        assert_eq!(report.result.unwrap(), first);
        fs::write(output.join("a"), "other").unwrap();
        assert!(matches!(
            probe(&tool, &authority, args).await,
            Probe::DidNot
        ));
    }

    #[tokio::test]
    async fn an_unfinished_attempt_is_swept_away_by_the_next() {
        let (_outer, output, authority) = setup();
        fs::create_dir_all(&output).unwrap();
        let litter = format!(".majordomo-{}.tmp", crate::tools::testing::key().0.short());
        fs::write(output.join(&litter), "half").unwrap();
        let args = json!({"path": "a", "text": "1"});
        assert!(
            call(&WriteFile::new(), &authority, args.clone())
                .await
                .result
                .is_ok()
        );
        assert_eq!(names(&output), ["a"]);
        fs::write(output.join(&litter), "1").unwrap();
        assert!(matches!(
            probe(&WriteFile::new(), &authority, args).await,
            Probe::Happened(_)
        ));
        assert_eq!(names(&output), ["a"]);
    }

    #[tokio::test]
    async fn nothing_is_written_outside() {
        let (outer, output, authority) = setup();
        fs::create_dir_all(output.join("folder")).unwrap();
        symlink(outer.path(), output.join("up")).unwrap();
        symlink("../../escaped", output.join("link")).unwrap();
        let absolute = outer.path().join("escaped");
        for path in [
            "../escaped",
            "up/escaped",
            absolute.to_str().unwrap(),
            "folder",
            "folder/",
            ".",
            "",
            "a\0",
            "bill\u{202e}fdp.exe",
            "re\u{200b}port.md",
            "\u{1b}[31mred.md",
            "folder/../../../escaped",
        ] {
            for mode in ["create", "replace"] {
                refused(
                    &WriteFile::new(),
                    &authority,
                    json!({"path": path, "text": "x", "mode": mode}),
                )
                .await;
            }
        }
        // A link out in the file's own place: left alone by `create`, replaced itself by `replace`.
        let _refused_or_replaced = call(
            &WriteFile::new(),
            &authority,
            json!({"path": "link", "text": "x", "mode": "replace"}),
        )
        .await;
        assert_eq!(names(outer.path()), ["out"]);
    }

    #[tokio::test]
    async fn failures_say_what_to_do() {
        let none = authority(None, None);
        let failure = call(&WriteFile::new(), &none, json!({"path": "a", "text": ""}))
            .await
            .result
            .unwrap_err();
        assert!(failure.message.contains("files.write"), "{failure}");
        let nowhere = authority(None, Some(Path::new("/proc/nowhere")));
        let failure = call(
            &WriteFile::new(),
            &nowhere,
            json!({"path": "a", "text": ""}),
        )
        .await
        .result
        .unwrap_err();
        assert_eq!(
            (failure.kind, failure.may_have_happened),
            (FailureKind::Permanent, false)
        );
    }
}
