//! A mail server that this project did not write: `scripts/mail_server.py` over the Python package
//! `aiosmtpd`, as a process of its own. It breaks off, hangs or refuses where a test says, and keeps what
//! it took as Python's mail package reads it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Names the Python that has the server's packages.
pub const VARIABLE: &str = "MAJORDOMO_TEST_MAIL_PYTHON";

/// What a server is started with: `--tls`, `--login`, `--name`, `--fault` and their values.
pub type Manner<'a> = &'a [&'a str];

/// A running server. It ends with this.
pub struct MailServer {
    process: Child,
    folder: tempfile::TempDir,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// The authority that signed its certificate.
    pub ca: PathBuf,
}

impl MailServer {
    /// A server of this manner.
    pub fn start(manner: Manner<'_>) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = Command::new(python(&root))
            .arg(root.join("scripts/mail_server.py"))
            .arg(folder.path())
            .args(manner)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests' mail server starts");
        let stdout = process.stdout.take().expect("its output is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("the mail server says where it listens");
        let told: Value = serde_json::from_str(&line).expect("the mail server starts");
        Self {
            process,
            port: told["port"].as_u64().expect("a port") as u16,
            ca: told["ca"].as_str().expect("a path").into(),
            folder,
        }
    }

    /// `[email]` for this server, with nothing but its place, the sender and whom it may write to.
    pub fn settings(&self, tls: &str) -> String {
        format!(
            "[email]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"{tls}\"\nfrom = \"Major Domo <majordomo@house.example>\"\n\
             allow = [\"@example.org\"]\nca_file = \"{}\"\n",
            self.port,
            self.ca.display()
        )
    }

    /// The letters that it took, oldest first.
    pub fn letters(&self) -> Vec<Value> {
        let read = |number: usize| {
            let path = self.folder.path().join(format!("{number}.json"));
            let text = std::fs::read_to_string(path).ok()?;
            Some(serde_json::from_str(&text).expect("a letter"))
        };
        (1..).map_while(read).collect()
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        let ledger = std::fs::read_to_string(self.folder.path().join("ledger"));
        let ledger = ledger.unwrap_or_default();
        ledger.lines().filter(|line| *line == "connect").count()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn python(root: &Path) -> PathBuf {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let python = named.unwrap_or_else(|| root.join("target/test-mail/venv/bin/python"));
    assert!(
        python.exists(),
        "this test needs a mail server: run it by `scripts/test NAME`, which installs one, or set {VARIABLE} to \
         a Python that has the packages aiosmtpd and trustme"
    );
    python
}

/// The values of a letter's header.
pub fn header<'a>(letter: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = letter["headers"].as_array().expect("headers");
    let of_name = headers.iter().filter(|header| header[0] == name);
    of_name.filter_map(|header| header[1].as_str()).collect()
}
