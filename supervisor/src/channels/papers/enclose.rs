//! What comes with a task becomes part of it, by whatever door: documents as text below its words,
//! pictures as they are, under their hash. Between a door and intake; fetches nothing.

use shared::blob::Blob;
use shared::disguise;
use shared::task::ImageRef;

use super::child::Readers;
use super::turns::Owner;
use super::{Paper, Refused, Text};
use crate::intake::MAX_TEXT;

/// Characters of a file's name that are kept.
const NAME: usize = 120;

/// A file that came with a task.
#[derive(Clone, Debug)]
pub struct Enclosure {
    /// Its name, as its sender gave it.
    pub name: String,
    /// Its type, as its sender said.
    pub mime: Option<String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a task says, with what came with it.
#[derive(Clone, Debug, Default)]
pub struct Enclosed {
    /// The words, and the text of documents.
    pub text: String,
    /// The pictures.
    pub images: Vec<ImageRef>,
    /// Their bytes.
    pub blobs: Vec<Blob>,
}

/// A file that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be read: {why}")]
pub struct Unread {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Refused,
}

impl Enclosed {
    /// These words, with nothing yet.
    pub fn new(text: String) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }

    /// Adds a file that is somebody's.
    pub async fn add(
        &mut self,
        (readers, owner): (&Readers, &Owner),
        file: Enclosure,
    ) -> Result<(), Unread> {
        let name = plain_name(&file.name);
        let (mime, bytes) = (file.mime.as_deref(), &file.bytes);
        let read = readers.read(owner, &name, mime, bytes).await;
        let unread = |why| Unread {
            name: name.clone(),
            why,
        };
        match read.map_err(unread)? {
            Paper::Text(read) => append(&mut self.text, &name, &read),
            Paper::Image { mime } => {
                // The readers take no larger ones.
                let damaged = || unread(Refused::Unavailable);
                let blob = Blob::new(mime, &file.bytes).ok_or_else(damaged)?;
                self.images.push(ImageRef {
                    hash: blob.hash,
                    mime: mime.into(),
                    bytes: file.bytes.len() as u64,
                    name,
                });
                self.blobs.push(blob);
            }
        }
        Ok(())
    }
}

/// A name that is a name and nothing else: no path, nothing that a reader takes for a line of its own,
/// and nothing that makes it look like another one. For names that come in, and for those that go out.
pub fn plain_name(given: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let sound = last.chars().filter(|c| !disguise::in_name(*c) && *c != '`');
    let name: String = sound.take(NAME).collect();
    match name.trim().trim_matches('.') {
        "" => "file".into(),
        _ => name.trim().to_owned(),
    }
}

/// Adds a file's text to what a task says, as much of it as a task may hold.
fn append(text: &mut String, name: &str, read: &Text) {
    const LEFT_OUT: &str = "\n[the rest of the file is left out]";
    text.push_str(&format!("\n\n## File {name}\n\n"));
    let room = MAX_TEXT.saturating_sub(text.len() + LEFT_OUT.len());
    let fits = read.text.floor_char_boundary(room);
    text.push_str(&read.text[..fits]);
    if read.cut || fits < read.text.len() {
        text.push_str(LEFT_OUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths_and_no_lines() {
        for (given, name) in [
            ("notes.md", "notes.md"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\ada\\plan.png", "plan.png"),
            ("a\n## File b", "a## File b"),
            ("..", "file"),
            ("a/", "file"),
            ("", "file"),
            ("`x`.txt", "x.txt"),
            ("bill\u{202e}fdp.exe", "billfdp.exe"),
            ("no\u{200b}tes\u{200d}.md\u{feff}", "notes.md"),
            ("\u{1b}[31mred.md", "[31mred.md"),
            ("\u{2066}\u{200f}", "file"),
        ] {
            assert_eq!(plain_name(given), name);
        }
        assert_eq!(plain_name(&"ü".repeat(500)).chars().count(), NAME);
    }
}
